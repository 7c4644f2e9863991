"""What is told, where and when: a pure core; deliveries are its effects.

Theory of operation. A notice is taken once; a repeated one is recognised by its id. It waits in a queue of every
channel that is to carry it. A channel carries one message at a time, pages before all else, and a message takes all
that waits of its kind: a page goes at once, others wait ``group_ms`` for company, and beyond ``per_minute_max``
messages everything waits and is told together. Whether a notice is hidden is decided when its message is made. What a
channel did not take stays in its queue and is tried again, later each time; other channels do not wait for it.

Every notice is one state record, kept until it was told everywhere and for some time after, to recognise it again.
After a crash what was not known to be told is told (again).
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from emergency_stop.apps.notifier.hiding import (
    Hidden,
    Inhibitor,
    Reason,
    inhibits,
    scopes_that_inhibit,
    silence_of,
)
from emergency_stop.domain.ids import derived_id
from emergency_stop.domain.messages import Notice, Silence
from emergency_stop.domain.values import NoticeKind
from emergency_stop.wire.codec import from_plain, to_plain

VERSION: Final = 1
KEY_PREFIX: Final = b"notice:"
SYSTEM: Final = "system"
MINUTE_MS: Final = 60_000
#: How long a notice is recognised after it was told, at least: as long as coordinators remember what they decided.
REMEMBERED_MS: Final = 3_600_000
#: Of those at most; the oldest is forgotten first, and would at worst be told again.
REMEMBERED_MAX: Final = 100_000
#: Notices that may wait in one channel; beyond it the oldest that is no page is dropped, and that is counted.
WAITING_MAX: Final = 10_000
RETRY_MS: Final = (1_000, 2_000, 5_000, 10_000, 30_000)
#: From the most urgent.
KINDS: Final = (NoticeKind.PAGE, NoticeKind.WARNING, NoticeKind.INFO)


@dataclass(frozen=True, slots=True)
class TellingPolicy:
    """The settings that decide; ``channels`` are those that can deliver, ``system`` among them."""

    channels: tuple[str, ...] = (SYSTEM,)
    enabled: bool = True
    group_ms: int = 5_000
    inhibit_ms: int = 300_000
    per_minute_max: int = 10


@dataclass(frozen=True, slots=True)
class Message:
    """What one channel is to carry at once: notices of one kind, from the oldest."""

    message_id: str
    channel: str
    kind: NoticeKind
    notices: tuple[Notice, ...]


@dataclass(slots=True)
class _Entry:
    notice: Notice
    #: Counts what was taken, so that a successor keeps the order.
    number: int
    taken_at: int
    waiting: tuple[str, ...]
    told: tuple[str, ...] = ()
    settled_at: int | None = None


class StateError(ValueError):
    """A state record cannot be read; the text says which and why."""


def channels_of(notice: Notice, named: Sequence[str], configured: Sequence[str]) -> tuple[str, ...]:
    """Which of ``configured`` carry ``notice``: those that it or its trigger names, and ``system`` always.

    A page goes to all of them: that a trigger names few must not keep it from waking somebody.
    """
    wanted = notice.channels or tuple(named)
    if notice.kind is NoticeKind.PAGE or not wanted:
        return tuple(configured)
    return tuple(channel for channel in configured if channel == SYSTEM or channel in wanted)


class Telling:
    """Not thread-safe. ``due`` hands out messages; each is answered by ``sent`` or ``failed``."""

    def __init__(self, policy: TellingPolicy) -> None:
        self._policy = policy
        self._entries: dict[str, _Entry] = {}
        self._taken = 0
        #: By channel and kind: id → when it was taken, from the oldest.
        self._queues: dict[tuple[str, NoticeKind], dict[str, int]] = {
            (channel, kind): {} for channel in policy.channels for kind in KINDS
        }
        self._settled: dict[str, int] = {}
        self._dirty: dict[str, None] = {}
        self._inhibitors: dict[str, dict[str, list[Inhibitor]]] = {channel: {} for channel in policy.channels}
        self._sent_at: dict[tuple[str, bool], deque[int]] = defaultdict(deque)
        self._busy: dict[str, Message] = {}
        self._failures: dict[str, int] = {}
        self._retry_at: dict[str, int] = {}

    def take(self, notice: Notice, named: Sequence[str], now_ms: int) -> list[Hidden]:
        """Let ``notice`` wait in its channels; ``named``: those of its trigger. A repeated one changes nothing.

        Returns what is hidden at once: of all that waits, and of this notice where nobody is told of anything.
        """
        if notice.notice_id in self._entries:
            return []
        channels = channels_of(notice, named, self._policy.channels)
        self._taken += 1
        if not self._policy.enabled:
            self._adopt(_Entry(notice, self._taken, now_ms, ()), now_ms)
            return [Hidden(notice, channel, Reason.DISABLED, "ENABLE_NOTIFICATIONS") for channel in channels]
        self._adopt(_Entry(notice, self._taken, now_ms, channels), now_ms)
        return [one for channel in channels for one in self._shed(channel, now_ms)]

    def due(
        self, silences: Collection[Silence], under_way: Collection[str], now_ms: int
    ) -> tuple[list[Message], list[Hidden]]:
        """The messages to deliver now, and what was hidden instead.

        ``under_way``: ids of emergencies that have not ended; a drill is none.
        """
        messages: list[Message] = []
        hidden: list[Hidden] = []
        for channel in self._policy.channels:
            for kind in KINDS:
                if channel in self._busy or not self._is_due(channel, kind, now_ms):
                    continue
                told = self._sift(channel, kind, silences, under_way, now_ms, hidden)
                if told:
                    message = Message(_message_id(channel, told), channel, kind, told)
                    self._busy[channel] = message
                    messages.append(message)
        self._forget(now_ms)
        return messages, hidden

    def sent(self, message: Message, now_ms: int) -> None:
        """The channel has taken it."""
        self._busy.pop(message.channel, None)
        self._failures.pop(message.channel, None)
        self._retry_at.pop(message.channel, None)
        self._sent_at[message.channel, message.kind is NoticeKind.PAGE].append(now_ms)
        for notice in message.notices:
            entry = self._entries.get(notice.notice_id)
            if entry is None:  # dropped, and forgotten since
                continue
            entry.told = (*entry.told, message.channel)
            self._note_inhibitor(message.channel, notice)
            self._settle(entry, message.channel, now_ms)

    def failed(self, message: Message, now_ms: int) -> int:
        """The channel did not take it. Returns in how many milliseconds it is tried again."""
        self._busy.pop(message.channel, None)
        times = self._failures.get(message.channel, 0)
        self._failures[message.channel] = times + 1
        pause_ms = RETRY_MS[min(times, len(RETRY_MS) - 1)]
        self._retry_at[message.channel] = now_ms + pause_ms
        return pause_ms

    def waiting(self) -> dict[tuple[str, NoticeKind], tuple[int, int]]:
        """By channel and kind: how many wait, and when the oldest was taken (0: none)."""
        return {where: (len(queue), next(iter(queue.values()), 0)) for where, queue in self._queues.items()}

    def take_dirty(self) -> list[tuple[bytes, bytes | None]]:
        """State records changed since the last call; ``None`` for a notice that was forgotten."""
        dirty, self._dirty = self._dirty, {}
        return [(KEY_PREFIX + one.encode(), self._record(self._entries.get(one))) for one in dirty]

    def restore(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Load what ``take_dirty`` gave, in any order. Raises ``StateError``."""
        entries = [_read(key, value) for key, value in records]
        for entry in sorted(entries, key=lambda one: one.number):
            self._taken = entry.number
            waiting = tuple(channel for channel in entry.waiting if channel in self._policy.channels)
            if entry.waiting and not waiting:
                waiting = (SYSTEM,)  # its channel is gone from the settings: it is told where something still can
            entry.waiting = waiting if self._policy.enabled else ()
            for channel in entry.told:
                if channel in self._inhibitors:
                    self._note_inhibitor(channel, entry.notice)
            self._adopt(entry, entry.settled_at or entry.taken_at)
        self._settled = dict(sorted(self._settled.items(), key=lambda item: item[1]))
        self._dirty.clear()

    def _adopt(self, entry: _Entry, now_ms: int) -> None:
        notice = entry.notice
        self._entries[notice.notice_id] = entry
        for channel in entry.waiting:
            self._queues[channel, notice.kind][notice.notice_id] = entry.taken_at
        if not entry.waiting:
            self._end(entry, now_ms)
        self._dirty[notice.notice_id] = None

    def _is_due(self, channel: str, kind: NoticeKind, now_ms: int) -> bool:
        oldest = next(iter(self._queues[channel, kind].values()), None)
        if oldest is None or now_ms < self._retry_at.get(channel, 0):
            return False
        if kind is not NoticeKind.PAGE and now_ms < oldest + self._policy.group_ms:
            return False
        sent_at = self._sent_at[channel, kind is NoticeKind.PAGE]
        while sent_at and sent_at[0] <= now_ms - MINUTE_MS:
            sent_at.popleft()
        return len(sent_at) < self._policy.per_minute_max

    def _sift(
        self,
        channel: str,
        kind: NoticeKind,
        silences: Collection[Silence],
        under_way: Collection[str],
        now_ms: int,
        hidden: list[Hidden],
    ) -> tuple[Notice, ...]:
        """What of a queue is to be told now; the rest leaves it for ``hidden``."""
        told: list[Notice] = []
        for notice_id in list(self._queues[channel, kind]):
            entry = self._entries[notice_id]
            silence = silence_of(silences, entry.notice, now_ms)
            inhibitor = None if silence else self._inhibitor(channel, entry.notice, under_way)
            if silence:
                by = f"{silence.silence_id} of {silence.author}: {silence.reason}"
                hidden.append(Hidden(entry.notice, channel, Reason.SILENCED, by))
            elif inhibitor:
                hidden.append(Hidden(entry.notice, channel, Reason.INHIBITED, inhibitor.notice_id))
            else:
                told.append(entry.notice)
                continue
            self._settle(entry, channel, now_ms)
        return tuple(told)

    def _inhibitor(self, channel: str, notice: Notice, under_way: Collection[str]) -> Inhibitor | None:
        known = self._inhibitors[channel]
        found = (one for scope in scopes_that_inhibit(notice) for one in known.get(scope, ()))
        window_ms, lead_ms = self._policy.inhibit_ms, self._policy.group_ms
        return next(
            (one for one in found if inhibits(one, notice, under_way, window_ms=window_ms, lead_ms=lead_ms)), None
        )

    def _note_inhibitor(self, channel: str, notice: Notice) -> None:
        if notice.emergency_id is None or notice.kind is NoticeKind.INFO:
            return
        one = Inhibitor(notice.notice_id, notice.emergency_id, notice.kind, notice.scope, notice.at)
        self._inhibitors[channel].setdefault(notice.scope, []).append(one)

    def _shed(self, channel: str, now_ms: int) -> list[Hidden]:
        """Keep a channel that takes nothing from filling the memory; pages are never dropped."""
        others = [self._queues[channel, kind] for kind in (NoticeKind.INFO, NoticeKind.WARNING)]
        if sum(map(len, others)) <= WAITING_MAX:
            return []
        entry = self._entries[next(iter(others[0] or others[1]))]
        self._settle(entry, channel, now_ms)
        by = f"more than {WAITING_MAX} wait for {channel}"
        return [Hidden(entry.notice, channel, Reason.OVERFLOWED, by)]

    def _settle(self, entry: _Entry, channel: str, now_ms: int) -> None:
        """Nothing of this notice waits for ``channel`` any more."""
        self._queues[channel, entry.notice.kind].pop(entry.notice.notice_id, None)
        entry.waiting = tuple(one for one in entry.waiting if one != channel)
        if not entry.waiting:
            self._end(entry, now_ms)
        self._dirty[entry.notice.notice_id] = None

    def _end(self, entry: _Entry, now_ms: int) -> None:
        entry.settled_at = now_ms
        entry.notice = replace(entry.notice, text="")  # what is kept is for recognising it
        self._settled[entry.notice.notice_id] = now_ms

    def _forget(self, now_ms: int) -> None:
        before_ms = now_ms - max(REMEMBERED_MS, self._policy.inhibit_ms)
        while self._settled:
            notice_id, settled_at = next(iter(self._settled.items()))
            if settled_at > before_ms and len(self._settled) <= REMEMBERED_MAX:
                return
            del self._settled[notice_id]
            self._forget_inhibitor(self._entries.pop(notice_id).notice)
            self._dirty[notice_id] = None

    def _forget_inhibitor(self, notice: Notice) -> None:
        for known in self._inhibitors.values():
            kept = [one for one in known.get(notice.scope, ()) if one.notice_id != notice.notice_id]
            if kept:
                known[notice.scope] = kept
            else:
                known.pop(notice.scope, None)

    def _record(self, entry: _Entry | None) -> bytes | None:
        if entry is None:
            return None
        content: dict[str, Any] = {
            "version": VERSION, "notice": to_plain(entry.notice), "number": entry.number,
            "taken_at": entry.taken_at, "waiting": entry.waiting, "told": entry.told, "settled_at": entry.settled_at,
        }  # fmt: skip
        return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


def _message_id(channel: str, notices: Sequence[Notice]) -> str:
    return derived_id("message", channel, *(notice.notice_id for notice in notices))


def _read(key: bytes, value: bytes) -> _Entry:
    try:
        content = json.loads(value)
        if content["version"] != VERSION:
            raise StateError(f"state record {key!r} has version {content['version']!r}; known is {VERSION}")
        notice = from_plain(Notice, content["notice"])
        waiting, told = tuple(content["waiting"]), tuple(content["told"])
        number, taken_at = int(content["number"]), int(content["taken_at"])
        return _Entry(notice, number, taken_at, waiting, told, content["settled_at"])
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"state record {key!r} does not hold a notice: {error}") from error
