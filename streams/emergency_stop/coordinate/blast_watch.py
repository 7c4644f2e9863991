"""The blast guard where the scope ``global`` is at home: what is recorded, what is sent, and when it looks again.

As in ``partition``: a decision is recorded before it is published, with what is to be published, so that a restart
repeats it under the same ids and never decides it twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from emergency_stop.coordinate.blast import BlastEffect, BlastLimits, BlastState, RecentStops, step
from emergency_stop.coordinate.snapshot import SnapshotError
from emergency_stop.coordinate.state import ScopeState
from emergency_stop.domain.messages import AuditRecord, Hit, Notice
from emergency_stop.wire.codec import from_plain, to_plain

VERSION: Final = 1
KEY: Final = b"blast:global"
#: How soon a stop is counted after its hold was read: a burst is looked at a few times, not once per account.
LOOK_MS: Final = 200
#: How soon it is noticed that what was raised is not in force any more.
RECHECK_MS: Final = 1_000
_KINDS: Final[Mapping[str, type[BlastEffect]]] = {kind.__name__: kind for kind in (Hit, Notice, AuditRecord)}


class BlastWatch:
    """Not thread-safe. The cycle is ``tick``, then ``take_dirty``, and once that is durable ``take_effects``."""

    def __init__(self, limits: BlastLimits, stops: RecentStops) -> None:
        self._limits = limits
        self._stops = stops
        self._state = BlastState()
        #: Recorded decisions that may not have been published yet.
        self._outbox: list[BlastEffect] = []
        self._is_dirty = False
        self._ticked_at = 0
        self._looked_at = 0

    @property
    def is_on(self) -> bool:
        """Whether it would ever raise anything: a share is set, and this is the home of scope ``global``."""
        return self._limits.percent > 0

    @property
    def is_raised(self) -> bool:
        """Whether a common cause was raised and is not known to be lifted."""
        return self._state.hit_id is not None

    def tick(self, now_ms: int, live_accounts: int, everything: ScopeState) -> None:
        """Decide from what is known now; ``everything`` is the scope ``global``, 0 live accounts: nobody knows."""
        self._ticked_at, self._looked_at = now_ms, self._stops.seen
        before = self._state
        self._state, effects = step(before, self._stops, live_accounts, everything, now_ms=now_ms, limits=self._limits)
        if self._state is not before:
            self._outbox += effects
            self._is_dirty = True

    def next_deadline(self) -> int | None:
        """When ``tick`` is next due; ``None`` while nothing is to be decided."""
        if self._is_dirty or self._outbox:
            return 0
        if self._state.hit_id is not None:
            return self._ticked_at + RECHECK_MS
        if self._stops.seen != self._looked_at and len(self._stops) >= self._limits.accounts_min:
            return self._ticked_at + LOOK_MS
        return None

    def take_dirty(self) -> Sequence[tuple[bytes, bytes | None]]:
        """The state record, where it changed since the last call."""
        if not self._is_dirty:
            return ()
        self._is_dirty = False
        return [(KEY, self._record())]

    def take_effects(self) -> list[BlastEffect]:
        """What may be published now: all that was decided before the last ``take_dirty``."""
        if self._is_dirty or not self._outbox:
            return []
        taken, self._outbox, self._is_dirty = self._outbox, [], True
        return taken

    def restore(self, key: bytes, value: bytes) -> None:
        """Load what ``take_dirty`` gave. Raises ``SnapshotError``."""
        try:
            content = json.loads(value)
            if content["version"] != VERSION:
                raise SnapshotError(f"state record {key!r} has version {content['version']!r}; known is {VERSION}")
            self._state = from_plain(BlastState, content["state"])
            self._outbox = [_read_effect(effect) for effect in content["outbox"]]
        except (KeyError, TypeError, ValueError) as error:
            raise SnapshotError(f"state record {key!r} does not hold the blast guard's state: {error}") from error

    def _record(self) -> bytes | None:
        if self._state == BlastState() and not self._outbox:
            return None
        # a notice has a field "kind"
        outbox = [{"message": type(effect).__name__, "fields": to_plain(effect)} for effect in self._outbox]
        content = {"version": VERSION, "state": to_plain(self._state), "outbox": outbox}
        return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


def _read_effect(plain: Mapping[str, Any]) -> BlastEffect:
    return from_plain(_KINDS[plain["message"]], plain["fields"])
