"""One partition number's detector, and what it is given in which order. Pure, but for its detector's state.

Order matters where a condition reads several topics, where the clock asks for silence, where a part of a value over all
accounts is taken, and where triggers change. Topics that share nothing are independent of each other: all that lies
between two such moments is one batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import pairwise
from typing import Final

import numpy as np

from emergency_stop.apps.backtest.plans import PlanFrom
from emergency_stop.apps.backtest.rounds import Due, Reading, moment_of
from emergency_stop.apps.backtest.telemetry import PLACES_PER_MS, Arrived, correlation_of, last_place_of
from emergency_stop.columnar.columns import I64
from emergency_stop.columnar.decoder import key_hash
from emergency_stop.detect.detector import PartitionDetector
from emergency_stop.detect.plan import Plan
from emergency_stop.domain.messages import Hit, Partial
from emergency_stop.domain.reasons import FUTURE_MS_MAX
from emergency_stop.domain.topics import TICKS

_ALL: Final = np.iinfo(np.int64).max
#: How far apart parts of values over all accounts are that were never published.
PART_STEP_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class TickAt:
    """A tick for ``moment_ms`` that was read back at ``at_ms``; ``place`` is where it stands among rows."""

    at_ms: int
    offset: int
    moment_ms: int
    place: int

    @classmethod
    def behind(cls, at_ms: int, offset: int, moment_ms: int) -> TickAt:
        """A tick behind all rows of its millisecond."""
        return cls(at_ms, offset, moment_ms, last_place_of(at_ms))


@dataclass(frozen=True, slots=True)
class PartAt:
    """A part as it was published, or would have been; ``offset`` is that of its record."""

    at_ms: int
    offset: int
    part: Partial


@dataclass(frozen=True, slots=True)
class Ordered:
    """Topics whose order to each other matters, in the order in which records of one moment are applied.

    ``by_clock``: the clock asks them for silence. ``in_parts``: parts must be taken of them.
    """

    topics: tuple[str, ...]
    by_clock: bool
    in_parts: bool


def order_of(plan: Plan, published: frozenset[tuple[str, str]]) -> list[Ordered]:
    """The plan's topics, those together that share a condition. ``published`` are series whose parts are on record."""
    together: list[set[str]] = [{name} for name in plan.topics]
    for group in plan.groups:
        touched = [one for one in together if one & set(group.shape.topics)]
        together = [one for one in together if one not in touched] + [set().union(*touched)]
    silent = {topic for group in plan.groups if group.is_silence for topic in group.shape.topics}
    parted = {
        name for name, one in plan.topics.items() if any((name, series.name) not in published for series in one.across)
    }
    found = [Ordered(tuple(sorted(one)), bool(one & silent), bool(one & parted)) for one in together]
    return sorted(found, key=lambda one: one.topics)


class PartitionReplay:
    """Give ``play`` one slice after the other; ``hits`` and ``parts`` are what came of it since they were taken."""

    def __init__(
        self, first: PlanFrom, partition: int, published: frozenset[tuple[str, str]], *,
        enforcing: bool, interval_ms: int,
    ) -> None:  # fmt: skip
        self.hits: list[Hit] = []
        self.parts: list[PartAt] = []
        self.events = 0
        self._published = published
        self._order = order_of(first.plan, published)
        self.detector = PartitionDetector(
            first.plan, partition=partition, hash_key=key_hash, correlate=correlation_of, enforcing=enforcing,
            interval_ms=interval_ms,
        )  # fmt: skip

    def play(
        self, rows: Mapping[str, Arrived], ticks: Sequence[TickAt], changes: Sequence[PlanFrom], until_ms: int
    ) -> None:
        """Apply a slice: ``rows`` by topic, and what happened meanwhile; all of it was there before ``until_ms``."""
        reading = Reading(rows)
        left = list(ticks)
        for change in changes:
            place = last_place_of(change.from_ms)
            due = [one for one in left if one.place <= place]
            self._until(reading, due, place)
            left = left[len(due) :]
            self._order = order_of(change.plan, self._published)
            self.detector.replan(change.plan)
        self._until(reading, left, _ALL, parts_until=until_ms * PLACES_PER_MS)

    def _until(self, reading: Reading, ticks: Sequence[TickAt], limit: int, parts_until: int | None = None) -> None:
        """Everything up to the place ``limit``, while no trigger changes."""
        asked = [one for one in self._order if one.by_clock]
        parted = [one for one in self._order if one.in_parts]
        topics = [topic for one in parted for topic in one.topics]
        steps = reading.steps(topics, limit if parts_until is None else parts_until, PART_STEP_MS)
        for place, tick in merge(((one.place, one) for one in ticks), ((at, None) for at in steps), key=_place):
            for ordered in asked if tick is not None else parted:
                self._feed(reading, ordered, place)
            if tick is None:
                self._take_parts(moment_of(place))
            else:
                self._tick(tick)
        for ordered in self._order:
            self._feed(reading, ordered, limit)
        if parted and reading.newest_ms:
            self._take_parts(reading.newest_ms)

    def _tick(self, tick: TickAt) -> None:
        if 0 <= tick.moment_ms <= tick.at_ms + FUTURE_MS_MAX:  # as a detector takes it
            self.hits += self.detector.on_tick(tick.moment_ms, (TICKS, tick.offset), tick.at_ms)

    def _feed(self, reading: Reading, ordered: Ordered, limit: int) -> None:
        due = reading.due(ordered.topics, limit)
        self.events += sum(one.last - one.first for one in due)
        if len(due) == 1:
            (one,) = due
            self._apply(reading, one.topic, slice(one.first, one.last))
        elif due and ordered.in_parts:
            for topic, rows in runs_of(reading, due):
                self._apply(reading, topic, rows)
        elif due:
            self._feed_rounds(reading, ordered, due)

    def _feed_rounds(self, reading: Reading, ordered: Ordered, due: Sequence[Due]) -> None:
        first = len(self.hits)
        before = {name: state.next_offset for name, state in self.detector.topics.items()}
        ends = {one.topic: int(reading.rows[one.topic].columns.offset[one.last - 1]) + 1 for one in due}
        for topic, rows in reading.rounds(due):
            self.detector.topics[topic].expect(0)
            self._apply(reading, topic, rows)
        for topic, end in ends.items():
            self.detector.topics[topic].expect(end)
        self.hits[first:] = [reading.as_read(hit, ordered.topics, before) for hit in self.hits[first:]]

    def _apply(self, reading: Reading, topic: str, rows: slice | I64) -> None:
        columns = reading.rows[topic].part(rows)
        found = self.detector.on_batch(columns, 0)
        self.hits += [reading.detected(hit) for hit in found]

    def _take_parts(self, at_ms: int) -> None:
        found = [part for part in self.detector.take_parts() if (part.source_topic, part.series) not in self._published]
        self.parts += [PartAt(at_ms, -1, part) for part in found]


def runs_of(reading: Reading, due: Sequence[Due]) -> Iterable[tuple[str, slice]]:
    """(topic, rows) in the order of places: what stands in a row of one topic is one batch."""
    places = np.concatenate([reading.rows[one.topic].place[one.first : one.last] for one in due])
    which: I64 = np.repeat(np.arange(len(due)), [one.last - one.first for one in due])
    which = which[np.argsort(places, kind="stable")]
    at = [one.first for one in due]
    for low, high in pairwise([*np.flatnonzero(np.diff(which, prepend=-1)).tolist(), len(which)]):
        number = int(which[low])
        yield due[number].topic, slice(at[number], at[number] + high - low)
        at[number] += high - low


def _place(found: tuple[int, TickAt | None]) -> int:
    return found[0]
