"""One partition number's detector, and what it is given in which order. Pure, but for its detector's state.

Order matters where a condition reads several topics, where the clock asks for silence, where a part of a value over all
accounts is taken, and where triggers change. Topics that share nothing are independent of each other: all that lies
between two such moments is one batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from itertools import pairwise
from typing import Final

import numpy as np

from emergency_stop.apps.backtest.plans import PlanFrom
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
        reading = _Reading(rows)
        left = list(ticks)
        for change in changes:
            place = last_place_of(change.from_ms)
            due = [one for one in left if one.place <= place]
            self._until(reading, due, place)
            left = left[len(due) :]
            self._order = order_of(change.plan, self._published)
            self.detector.replan(change.plan)
        self._until(reading, left, _ALL, parts_until=until_ms * PLACES_PER_MS)

    def _until(self, reading: _Reading, ticks: Sequence[TickAt], limit: int, parts_until: int | None = None) -> None:
        """Everything up to the place ``limit``, while no trigger changes."""
        asked = [one for one in self._order if one.by_clock]
        parted = [one for one in self._order if one.in_parts]
        steps = reading.steps(parted, limit if parts_until is None else parts_until) if parted else ()
        for place, tick in merge(((one.place, one) for one in ticks), ((at, None) for at in steps), key=_place):
            for ordered in asked if tick is not None else parted:
                self._feed(reading, ordered, place)
            if tick is None:
                self._take_parts(place // PLACES_PER_MS)
            else:
                self._tick(tick)
        for ordered in self._order:
            self._feed(reading, ordered, limit)
        if parted and reading.newest_ms:
            self._take_parts(reading.newest_ms)

    def _tick(self, tick: TickAt) -> None:
        if 0 <= tick.moment_ms <= tick.at_ms + FUTURE_MS_MAX:  # as a detector takes it
            self.hits += self.detector.on_tick(tick.moment_ms, (TICKS, tick.offset), tick.at_ms)

    def _feed(self, reading: _Reading, ordered: Ordered, limit: int) -> None:
        for topic, first, last in reading.runs(ordered.topics, limit):
            arrived = reading.rows[topic]
            self.events += last - first
            found = self.detector.on_batch(arrived.part(first, last), int(arrived.at_ms[last - 1]))
            self.hits += [_detected(hit, arrived) for hit in found]

    def _take_parts(self, at_ms: int) -> None:
        found = [part for part in self.detector.take_parts() if (part.source_topic, part.series) not in self._published]
        self.parts += [PartAt(at_ms, -1, part) for part in found]


class _Reading:
    """How far the topics of a slice are applied."""

    def __init__(self, rows: Mapping[str, Arrived]) -> None:
        self.rows = rows
        self.newest_ms = 0
        self._next = dict.fromkeys(rows, 0)

    def steps(self, ordered: Iterable[Ordered], limit: int) -> Sequence[int]:
        """Places at which a part is due: the ends of the steps in which something is there."""
        moments = [
            one.place[self._next[topic] : np.searchsorted(one.place, limit, "right")] // PLACES_PER_MS
            for group in ordered
            for topic in group.topics
            if (one := self.rows.get(topic)) is not None
        ]
        ends = [np.unique(one // PART_STEP_MS) for one in moments]
        steps: list[int] = (np.unique(np.concatenate(ends)) + 1).tolist() if ends else []
        places = [last_place_of(step * PART_STEP_MS - 1) for step in steps]
        return [place for place in places if place < limit]

    def runs(self, topics: Sequence[str], limit: int) -> Iterable[tuple[str, int, int]]:
        """(topic, first row, row after the last) of what stands up to ``limit`` and is not applied, in order."""
        due = []
        for topic in topics:
            arrived = self.rows.get(topic)
            if arrived is None:
                continue
            first, last = self._next[topic], int(np.searchsorted(arrived.place, limit, "right"))
            if last > first:
                due.append((topic, first, last))
                self._next[topic] = last
                self.newest_ms = max(self.newest_ms, int(arrived.at_ms[last - 1]))
        return due if len(due) <= 1 else self._interleaved(due)

    def _interleaved(self, due: Sequence[tuple[str, int, int]]) -> Iterable[tuple[str, int, int]]:
        """By place, then topic, then offset: what comes in a row of one topic is one run."""
        places = np.concatenate([self.rows[topic].place[first:last] for topic, first, last in due])
        which: I64 = np.repeat(np.arange(len(due)), [last - first for _, first, last in due])
        which = which[np.argsort(places, kind="stable")]
        edges = [*np.flatnonzero(np.diff(which, prepend=-1)).tolist(), len(which)]
        at = [first for _, first, _ in due]
        for low, high in pairwise(edges):
            number = int(which[low])
            yield due[number][0], at[number], at[number] + high - low
            at[number] += high - low


def _detected(hit: Hit, arrived: Arrived) -> Hit:
    """Detected when its record was there, however rows are cut into batches."""
    row = int(np.searchsorted(arrived.columns.offset, hit.source_offset))
    return replace(hit, detected_at=int(arrived.at_ms[row]))


def _place(found: tuple[int, TickAt | None]) -> int:
    return found[0]
