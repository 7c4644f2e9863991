"""All telemetry partitions that one coordinator partition watches: what is due, what is recorded, what is sent.

As in ``partition``: decisions are recorded before they are published, in one state record per telemetry partition.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from emergency_stop.coordinate.blindness import BlindEffect, PartitionSight, Sight, Watchers, step
from emergency_stop.coordinate.snapshot import SnapshotError
from emergency_stop.domain.messages import AuditRecord, Hit
from emergency_stop.wire.codec import from_plain, to_plain

VERSION: Final = 1
KEY_PREFIX: Final = b"blind:"
#: How soon it is noticed that a blind partition sees again, or that another trigger is to hold.
RECHECK_MS: Final = 1_000
_KINDS: Final[Mapping[str, type[BlindEffect]]] = {kind.__name__: kind for kind in (Hit, AuditRecord)}


@dataclass(frozen=True, slots=True)
class View:
    """What is known at one moment, by telemetry partition."""

    sights: Mapping[int, Sight]
    watchers: Watchers


@dataclass(slots=True)
class _Watched:
    state: PartitionSight
    #: Recorded decisions that may not have been published yet.
    outbox: list[BlindEffect] = field(default_factory=list)


class BlindWatch:
    """Not thread-safe. The cycle is ``tick``, then ``take_dirty``, and once that is durable ``take_effects``."""

    def __init__(self, partitions: Iterable[int], after_ms: int) -> None:
        self._after_ms = after_ms
        self._watched = {partition: _Watched(PartitionSight(partition)) for partition in partitions}
        self._dirty: set[int] = set()
        self._ticked_at = 0

    def blind(self) -> dict[int, bool]:
        """Whether each partition is blind."""
        return {partition: one.state.episode is not None for partition, one in self._watched.items()}

    def tick(self, now_ms: int, view: View) -> None:
        """Decide from what is known now."""
        self._ticked_at = now_ms
        for partition, one in self._watched.items():
            sight = view.sights.get(partition, Sight())
            after, effects = step(one.state, sight, view.watchers, now_ms=now_ms, after_ms=self._after_ms)
            if after is not one.state:
                one.state = after
                one.outbox += effects
                self._dirty.add(partition)

    def next_deadline(self, view: View) -> int | None:
        """When ``tick`` is next due; ``None`` while there is nothing to see."""
        if self._dirty or any(one.outbox for one in self._watched.values()):
            return 0
        due = [self._due(one.state, view.sights.get(partition)) for partition, one in self._watched.items()]
        return min((at for at in due if at is not None), default=None)

    def _due(self, state: PartitionSight, sight: Sight | None) -> int | None:
        if state.episode is not None:
            return self._ticked_at + RECHECK_MS
        return None if sight is None or not sight.is_watched else sight.seen_at + self._after_ms + 1

    def take_dirty(self) -> Sequence[tuple[bytes, bytes | None]]:
        """State records changed since the last call."""
        dirty, self._dirty = self._dirty, set()
        return [(_key(partition), self._record(self._watched[partition])) for partition in sorted(dirty)]

    def take_effects(self) -> list[BlindEffect]:
        """What may be published now: all that was decided before the last ``take_dirty``."""
        taken: list[BlindEffect] = []
        for partition, one in self._watched.items():
            if one.outbox and partition not in self._dirty:
                taken += one.outbox
                one.outbox = []
                self._dirty.add(partition)
        return taken

    def restore(self, key: bytes, value: bytes) -> None:
        """Load a record that ``take_dirty`` gave. Raises ``SnapshotError``. One of another watch is left out."""
        try:
            content = json.loads(value)
            partition = int(key.removeprefix(KEY_PREFIX))
            if content["version"] != VERSION:
                raise SnapshotError(f"state record {key!r} has version {content['version']!r}; known is {VERSION}")
            state = PartitionSight(partition, content["episode"], content["raised"])
            outbox = [_read_effect(effect) for effect in content["outbox"]]
        except (KeyError, TypeError, ValueError) as error:
            raise SnapshotError(f"state record {key!r} does not hold a partition's sight: {error}") from error
        if partition in self._watched:
            self._watched[partition] = _Watched(state, outbox)

    def _record(self, one: _Watched) -> bytes | None:
        if one.state.episode is None and not one.outbox:
            return None
        outbox = [{"kind": type(effect).__name__, **to_plain(effect)} for effect in one.outbox]
        content = {"episode": one.state.episode, "raised": dict(one.state.raised), "outbox": outbox}
        return json.dumps({"version": VERSION, **content}, separators=(",", ":"), ensure_ascii=False).encode()


def _key(partition: int) -> bytes:
    return KEY_PREFIX + str(partition).encode()


def _read_effect(plain: Mapping[str, Any]) -> BlindEffect:
    return from_plain(_KINDS[plain["kind"]], plain)
