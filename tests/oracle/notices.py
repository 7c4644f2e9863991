"""A naive notifier: it keeps the whole history and works everything out of it anew, by docs/notifications.md.

Imports nothing of the notifier.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from emergency_stop.domain.messages import Notice, Silence
from emergency_stop.domain.values import NoticeKind

PAUSES_MS = [1_000, 2_000, 5_000, 10_000, 30_000]
ORDER = ["page", "warning", "info"]
GRAVITY = {"info": 0, "warning": 1, "page": 2}
Told = tuple[str, str, tuple[str, ...]]
HiddenAs = tuple[str, str, str]


@dataclass
class Taken:
    notice: Notice
    at: int
    channels: list[str]


@dataclass
class NaiveNotifier:
    channels: list[str]
    group_ms: int
    inhibit_ms: int
    per_minute: int
    enabled: bool
    waiting_max: int
    taken: list[Taken] = field(default_factory=list)
    #: (channel, notice, how): told, or why it was hidden.
    gone: list[HiddenAs] = field(default_factory=list)
    #: (channel, kind, at, whether it arrived) since the last start.
    tries: list[tuple[str, str, int, bool]] = field(default_factory=list)
    on_the_way: dict[str, Told] = field(default_factory=dict)

    def take(self, notice: Notice, named: list[str], now_ms: int) -> list[HiddenAs]:
        if any(one.notice.notice_id == notice.notice_id for one in self.taken):
            return []
        wanted = list(notice.channels) or named
        everywhere = notice.kind is NoticeKind.PAGE or not wanted
        channels = [c for c in self.channels if everywhere or c == "system" or c in wanted]
        self.taken.append(Taken(notice, now_ms, channels))
        if not self.enabled:
            return self._hide([(c, notice.notice_id, "disabled") for c in channels])
        hidden = []
        for channel in channels:
            minor = self._waiting(channel, "info") + self._waiting(channel, "warning")
            if len(minor) > self.waiting_max:
                hidden += self._hide([(channel, minor[0].notice.notice_id, "overflowed")])
        return hidden

    def due(self, silences: list[Silence], under_way: set[str], now_ms: int) -> tuple[list[Told], list[HiddenAs]]:
        messages: list[Told] = []
        hidden: list[HiddenAs] = []
        for channel in self.channels:
            for kind in ORDER:
                waiting = self._waiting(channel, kind)
                if channel in self.on_the_way or not waiting or not self._may(channel, kind, waiting[0].at, now_ms):
                    continue
                told = []
                for one in waiting:
                    why = self._why_hidden(channel, one.notice, silences, under_way, now_ms)
                    if why:
                        hidden += self._hide([(channel, one.notice.notice_id, why)])
                    else:
                        told.append(one.notice.notice_id)
                if told:
                    self.on_the_way[channel] = (channel, kind, tuple(told))
                    messages.append(self.on_the_way[channel])
        return messages, hidden

    def answered(self, channel: str, arrived: bool, now_ms: int) -> None:
        _, kind, notices = self.on_the_way.pop(channel)
        self.tries.append((channel, kind, now_ms, arrived))
        if arrived:
            self.gone += [(channel, one, "told") for one in notices]

    def restart(self) -> None:
        self.tries, self.on_the_way = [], {}

    def _hide(self, found: list[HiddenAs]) -> list[HiddenAs]:
        self.gone += found
        return found

    def _waiting(self, channel: str, kind: str) -> list[Taken]:
        gone = {(where, notice) for where, notice, _ in self.gone}
        return [
            one
            for one in self.taken
            if one.notice.kind.value == kind and channel in one.channels and (channel, one.notice.notice_id) not in gone
        ]

    def _may(self, channel: str, kind: str, oldest_at: int, now_ms: int) -> bool:
        if kind != "page" and now_ms < oldest_at + self.group_ms:
            return False
        own = [one for one in self.tries if one[0] == channel]
        failed_in_a_row = 0
        while failed_in_a_row < len(own) and not own[-1 - failed_in_a_row][3]:
            failed_in_a_row += 1
        if failed_in_a_row and now_ms < own[-1][2] + PAUSES_MS[min(failed_in_a_row, len(PAUSES_MS)) - 1]:
            return False
        lately = [1 for _, k, at, ok in own if ok and (k == "page") == (kind == "page") and at > now_ms - 60_000]
        return len(lately) < self.per_minute

    def _why_hidden(
        self, channel: str, notice: Notice, silences: list[Silence], under_way: set[str], now_ms: int
    ) -> str:
        for one in silences:
            fits = all((
                one.scope in ("", notice.scope), one.trigger_id in ("", notice.trigger_id),
                one.service in ("", notice.service) or notice.scope == f"service:{one.service}",
            ))  # fmt: skip
            if fits and one.author and one.reason and one.starts_at <= now_ms < one.expires_at:
                return "silenced"
        told = {
            where_notice[1] for where_notice in self.gone if where_notice[0] == channel and where_notice[2] == "told"
        }
        others = [one.notice for one in self.taken if one.notice.notice_id in told]
        return "inhibited" if any(self._inhibits(one, notice, under_way) for one in others) else ""

    def _inhibits(self, one: Notice, notice: Notice, under_way: set[str]) -> bool:
        grave, needed = GRAVITY[one.kind.value], GRAVITY[notice.kind.value]
        if notice.kind is NoticeKind.PAGE or one.kind is NoticeKind.INFO or one.emergency_id not in under_way:
            return False
        if notice.at < one.at - self.group_ms or notice.at >= one.at + self.inhibit_ms:
            return False
        if one.scope == notice.scope:
            return notice.emergency_id not in (None, one.emergency_id) and grave > needed
        is_wider = one.scope == "global" or (
            notice.service is not None
            and one.scope == f"service:{notice.service}"
            and notice.scope.startswith("account:")
        )
        return is_wider and grave >= needed
