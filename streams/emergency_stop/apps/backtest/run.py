"""A backtest from beginning to end: slices in, hits out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from emergency_stop.apps.backtest.loops import made_ticks, published_series, read_parts, read_ticks
from emergency_stop.apps.backtest.plans import PlanFrom
from emergency_stop.apps.backtest.reading import Reader
from emergency_stop.apps.backtest.replay import PartAt, PartitionReplay, TickAt
from emergency_stop.apps.backtest.seen import put_in_order, told_order
from emergency_stop.apps.backtest.span import SLICE_ROWS, Map, Slice
from emergency_stop.apps.backtest.telemetry import Arrived, read_topic
from emergency_stop.columnar.decoder import key_hash
from emergency_stop.detect.across import NoPartError
from emergency_stop.detect.detector import PartitionDetector
from emergency_stop.detect.suppressed import suppressed_since
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.topics import PARTIALS, TICKS


@dataclass(frozen=True, slots=True)
class Manner:
    """How detectors were set: whether hits were enforced, and how far apart ticks are.

    ``as_recorded``: ticks and parts on record are what detectors read, in the order that hits tell; else they are made.
    """

    enforcing: bool
    interval_ms: int
    as_recorded: bool
    slice_rows: int = SLICE_ROWS


@dataclass(slots=True)
class Outcome:
    """``hits`` are those that count, in the order of their sources' partitions and slices.

    ``suppressed`` is per (trigger, scope): hits that a cooldown held back after the last hit; what it held back before
    one, the hit tells. ``events`` are all rows that were applied; of these ``warm_up_events`` only filled windows.
    """

    hits: list[Hit] = field(default_factory=list)
    suppressed: dict[tuple[str, str], int] = field(default_factory=dict)
    events: int = 0
    warm_up_events: int = 0
    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    made_ticks: bool = False
    made_parts: bool = False


@dataclass(frozen=True, slots=True)
class _Read:
    """What a slice holds: rows by topic and partition, ticks by partition, parts."""

    part: Slice
    rows: Mapping[str, Mapping[int, Arrived]]
    ticks: Mapping[int, Sequence[TickAt]]
    parts: Sequence[PartAt]


class Backtest:
    """One run. ``plans`` are in order; the first is in force from the start of the span's warm-up."""

    def __init__(self, reader: Reader, where: Map, plans: Sequence[PlanFrom], manner: Manner) -> None:
        self._reader = reader
        self._map = where
        self._plans = plans
        self._manner = manner
        watched = frozenset(
            (topic, series.name) for one in plans for topic, found in one.plan.topics.items() for series in found.across
        )
        self._published = watched & published_series(reader) if manner.as_recorded and watched else frozenset()
        self._makes_ticks = self._needs_made_ticks()
        self._told = told_order(reader) if manner.as_recorded else {}
        self._outcome = Outcome(made_ticks=self._makes_ticks, made_parts=bool(watched - self._published))
        self._overall = PartitionDetector(
            plans[0].plan, hash_key=key_hash, enforcing=manner.enforcing, interval_ms=manner.interval_ms
        )

    def run(self) -> Outcome:
        """Blocking. Raises what the reader raises."""
        started, cpu = time.perf_counter(), time.process_time()
        first, rest = self._plans[0], list(self._plans[1:])
        replays = [
            PartitionReplay(
                first, number, self._published, enforcing=self._manner.enforcing, interval_ms=self._manner.interval_ms
            )
            for number in range(self._map.partitions)
        ]
        since_ms = int(self._map.edges_ms[self._map.since_edge])
        for read in self._slices():
            changes = [one for one in rest if one.from_ms < read.part.until_ms]
            rest = rest[len(changes) :]
            hits = self._play(replays, read, changes)
            if read.part.from_ms >= since_ms:
                self._outcome.hits += hits
            else:
                self._outcome.warm_up_events = sum(one.events for one in replays)
        found = self._outcome
        found.events = sum(one.events for one in replays)
        for one in replays:
            for trigger_id, scope, count in suppressed_since(one.detector):
                found.suppressed[trigger_id, scope] = found.suppressed.get((trigger_id, scope), 0) + count
        found.elapsed_s, found.cpu_s = time.perf_counter() - started, time.process_time() - cpu
        return found

    def _play(self, replays: Sequence[PartitionReplay], read: _Read, changes: Sequence[PlanFrom]) -> list[Hit]:
        hits: list[Hit] = []
        made: list[PartAt] = []
        for number, replay in enumerate(replays):
            here = {topic: found[number] for topic, found in read.rows.items() if number in found}
            rows, ticks = put_in_order(here, read.ticks.get(number, ()), self._told.get(number, ()))
            replay.play(rows, ticks, changes, read.part.until_ms)
            hits += replay.hits
            made += replay.parts
            replay.hits, replay.parts = [], []
        made.sort(key=lambda one: one.at_ms)
        return hits + self._put_together(sorted([*read.parts, *made], key=lambda one: one.at_ms), changes)

    def _put_together(self, parts: Sequence[PartAt], changes: Sequence[PlanFrom]) -> list[Hit]:
        """Values over all accounts, as the partition has them where all parts meet."""
        hits: list[Hit] = []
        left = list(changes)
        for number, one in enumerate(parts):
            while left and left[0].from_ms < one.at_ms:
                self._overall.replan(left.pop(0).plan)
            offset = one.offset if one.offset >= 0 else one.at_ms * 1_000 + number % 1_000
            try:
                hits += self._overall.on_part(one.part, (PARTIALS, offset), one.at_ms)
            except NoPartError:  # a detector skips it too
                continue
        for change in left:
            self._overall.replan(change.plan)
        return hits

    # -- reading ----------------------------------------------------------------------------------

    def _slices(self) -> Iterator[_Read]:
        """Slice by slice; the next one is read while one is played."""
        parts = self._map.slices(self._manner.slice_rows)
        with ThreadPoolExecutor(1, thread_name_prefix="backtest") as thread:
            ahead = thread.submit(self._read, parts[0])
            for following in [*parts[1:], None]:
                read = ahead.result()
                if following is not None:
                    ahead = thread.submit(self._read, following)
                yield read

    def _read(self, part: Slice) -> _Read:
        plans = self._in_force(part)
        fields: dict[str, dict[str, None]] = {}
        for one in plans:
            for topic, found in one.plan.topics.items():
                fields.setdefault(topic, {}).update(dict.fromkeys(found.columns))
        rows = {topic: read_topic(self._reader, part, topic, tuple(names)) for topic, names in fields.items()}
        return _Read(part, rows, self._ticks(part, plans), read_parts(self._reader, part, self._published))

    def _in_force(self, part: Slice) -> list[PlanFrom]:
        """Plans that are in force at some time of a slice."""
        before = [one for one in self._plans if one.from_ms <= part.from_ms]
        return [*before[-1:], *(one for one in self._plans if part.from_ms < one.from_ms < part.until_ms)]

    def _ticks(self, part: Slice, plans: Sequence[PlanFrom]) -> dict[int, list[TickAt]]:
        if not any(one.plan.needs_clock for one in plans):
            return {}
        numbers = range(self._map.partitions)
        if self._makes_ticks:
            return dict.fromkeys(numbers, made_ticks(part, self._manner.interval_ms))
        return {number: read_ticks(self._reader, part, number) for number in numbers}

    def _needs_made_ticks(self) -> bool:
        """Whether somebody waits for the clock, and no tick is to be had from the record."""
        if not any(one.plan.needs_clock for one in self._plans):
            return False
        offsets = self._map.offsets[TICKS]
        return not (self._manner.as_recorded and bool((offsets[0] < offsets[-1]).any()))
