"""Ranges of offsets: frozen before their rows are inserted, so that a repeat has the same bounds and the same token.

Theory of operation. ClickHouse forgets nothing that carries a token it knows, but a token is the bounds of a range.
Whoever goes on after a crash must therefore insert the range that was interrupted, not another one that overlaps it:
its rows may be on their way into the table still. So a sink writes down the ranges of a flush first.

Two sinks may take a partition for theirs at the same time, one of them paused while the group went on. Each claims its
partitions with a number that only grows before it reads what was frozen, and freezes before it reads whose claim is
the latest. So either the newcomer sees the range of the other and repeats it, or the other sees the newcomer's claim
and gives its range up:

``` text
 paused one    freeze [0,100) ──► whose claim is it?
 newcomer                   claim ──► what is frozen?        at least one of the two sees the other's mark
```

A range that was given up overlaps only ranges of later claims, which is how it is told from one that counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from emergency_stop.adapters.sink_ledger import FrozenRange
from emergency_stop.apps.sink.intake import Intake


class Place(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a partition stands when it is taken over: the claim to it, the first offset that is not known to be
    stored, and the ranges from there on that were frozen, in order.
    """

    claim: int
    position: int
    pending: tuple[FrozenRange, ...]


def still_pending(frozen: Iterable[FrozenRange], position: int) -> tuple[FrozenRange, ...]:
    """Ranges that begin at ``position`` or later and count, in order of offsets.

    One that begins before ``position`` is stored: positions are bounds of ranges, and a range is stored whole.
    """
    kept: list[FrozenRange] = []
    for one in sorted(frozen, key=lambda found: (-found.claim, found.first_offset)):
        overlaps = any(one.first_offset < other.next_offset and other.first_offset < one.next_offset for other in kept)
        if one.first_offset >= position and not overlaps:
            kept.append(one)
    return tuple(sorted(kept, key=lambda found: found.first_offset))


class Waiting:
    """What was taken in and is not stored yet. A flush gets one range per partition: a frozen one with its own
    bounds once all of it is here, otherwise everything up to the next frozen one.
    """

    def __init__(self) -> None:
        self.size = 0
        self._intakes: dict[Place, list[Intake]] = {}
        self._frozen: dict[Place, list[FrozenRange]] = {}

    def reset(self, frozen: Iterable[FrozenRange] = ()) -> None:
        """Forget what waited, and expect these ranges to be read again."""
        self.size = 0
        self._intakes.clear()
        self._frozen.clear()
        for one in frozen:
            self._frozen.setdefault(Place(one.topic, one.partition), []).append(one)

    def __bool__(self) -> bool:
        return any(self._intakes.values())

    def cut(self, place: Place, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Offsets ``start`` to ``stop`` (excluded) in pieces of which none crosses a bound of a frozen range."""
        bounds = sorted({at for one in self._frozen.get(place, ()) for at in (one.first_offset, one.next_offset)})
        at = start
        for bound in (*(bound for bound in bounds if start < bound < stop), stop):
            if bound > at:
                yield at, bound
                at = bound

    def add(self, intake: Intake) -> None:
        """Obliges: it is a piece from ``cut``, and continues the partition's last one."""
        self._intakes.setdefault(Place(intake.topic, intake.partition), []).append(intake)
        self.size += intake.size

    def take(self) -> tuple[list[Intake], set[Place]]:
        """What can be stored now, one range per partition, and the partitions whose range was frozen before."""
        taken, repeated = [], set()
        for place, intakes in self._intakes.items():
            count, whole = self._first_range(place, intakes)
            if count == 0:
                continue
            made = _merged(intakes[:count])
            del intakes[:count]
            self.size -= made.size
            if whole is not None:
                self._frozen[place].pop(0)
                made.fetch_offset, made.next_offset = whole.first_offset, whole.next_offset
                repeated.add(place)
            taken.append(made)
        return taken, repeated

    def _first_range(self, place: Place, intakes: list[Intake]) -> tuple[int, FrozenRange | None]:
        """How many of ``intakes`` are the next range, and the frozen one that they are; 0 where it is not whole."""
        frozen = self._frozen.get(place, [])
        while frozen and intakes and frozen[0].next_offset <= intakes[0].fetch_offset:
            frozen.pop(0)  # the broker has deleted all of it meanwhile
        if not frozen:
            return len(intakes), None
        before = sum(one.fetch_offset < frozen[0].first_offset for one in intakes)
        if before:
            return before, None
        inside = sum(one.fetch_offset < frozen[0].next_offset for one in intakes)
        whole = inside > 0 and intakes[inside - 1].next_offset >= frozen[0].next_offset
        return (inside, frozen[0]) if whole else (0, None)


def _merged(intakes: list[Intake]) -> Intake:
    """Contiguous intakes of a partition as one."""
    into = intakes[0]
    for one in intakes[1:]:
        into.next_offset = one.next_offset
        into.dead += one.dead
        into.raw_rows += one.raw_rows
        into.chained += one.chained
        into.size += one.size
        for schema, rows in one.rows.items():
            into.rows.setdefault(schema, []).extend(rows)
            into.counts[schema] = into.counts.get(schema, 0) + one.counts[schema]
    return into
