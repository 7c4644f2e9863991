"""Windows of one series, and cooldowns of one trigger, for all accounts of a topic-partition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from emergency_stop.columnar.columns import F64, I32, U8, Columns
from emergency_stop.detect.accounts import grown
from emergency_stop.detect.kernels import (
    EMPTY,
    NOT_A_SAMPLE,
    OUT_OF_ORDER,
    PANE_CELLS,
    RUN_CELLS,
    TOO_LATE,
    count_distinct,
    count_latest,
    evaluate,
    extend_runs,
    fold_panes,
)
from emergency_stop.detect.plan import PANES, Aggregate, Condition, Filter, Series, Term
from emergency_stop.detect.standing import SeriesStanding, Standing, TermStanding

Arrays = tuple[np.ndarray[Any, Any], ...]


@dataclass(frozen=True, slots=True)
class Folded:
    """A series' value on every row as the row itself saw it: aggregate, samples in the window, order."""

    value: F64
    samples: I32
    order: U8

    @property
    def late(self) -> int:
        """Rows older than their account's window: counted, not applied."""
        return int(np.count_nonzero(self.order == TOO_LATE))


class SeriesState:
    """A series' arrays, one row per slot."""

    def __init__(self, series: Series) -> None:
        self.series = series
        self.arrays: Arrays = _empty_arrays(series)

    def ensure(self, capacity: int) -> None:
        if capacity > len(self.arrays[0]):
            self.arrays = tuple(
                grown(array, capacity, fill)
                for array, fill in zip(self.arrays, _FILLS.get(self.series.aggregate, (EMPTY,)), strict=True)
            )

    def fold(self, columns: Columns, slots: I32) -> Folded:
        """Apply the rows; slots of -1 are left out."""
        series = self.series
        chosen = _filtered(columns, slots, series.filters)
        n = columns.n
        out = (np.zeros(n, np.float64), np.zeros(n, np.int32), np.full(n, NOT_A_SAMPLE, np.uint8))
        if series.aggregate is Aggregate.COUNT:
            count_latest(series.window_ms, (chosen, columns.occurred_at), self.arrays[0], out)
        elif series.aggregate is Aggregate.ACTIVE:
            extend_runs(series.window_ms, (chosen, columns.occurred_at), self.arrays[0], out)
        elif series.aggregate is Aggregate.DISTINCT:
            rows = (chosen, columns.occurred_at, columns.fields[series.field])
            count_distinct(series.window_ms, rows, self.arrays, out)
        else:
            rows = (chosen, columns.occurred_at, columns.fields[series.field])
            whole = self.arrays[0]
            views = (whole, whole.view(np.float64), whole.view(np.int32))
            fold_panes(int(series.aggregate), series.pane_ms, rows, views, out)
        return Folded(*out)

    def standing(self, slot: int) -> SeriesStanding:
        """What one account's window holds, as of its newest sample."""
        row = self.arrays[0][slot]
        if row[0] == EMPTY:
            return SeriesStanding(None, 0, None)
        if self.series.aggregate is Aggregate.ACTIVE:
            return SeriesStanding(float(row[0] - row[1]), int(row[2]), int(row[0]))
        if self.series.aggregate in (Aggregate.COUNT, Aggregate.DISTINCT):
            n = int(np.count_nonzero(row > row[0] - self.series.window_ms))
            return SeriesStanding(float(n), n, int(row[0]))
        values, counts = row.view(np.float64)[2 : 2 + PANES], row.view(np.int32)[2 * (2 + PANES) :]
        samples = int(counts.sum())
        oldest = int(row[0] + 1) % PANES
        if self.series.aggregate is Aggregate.AVG:
            value = sum(float(one) for one in np.roll(values, -oldest)) / samples
        else:
            value = float(values.max() if self.series.aggregate is Aggregate.MAX else values.min())
        return SeriesStanding(value, samples, int(row[1]))


def _empty_arrays(series: Series) -> Arrays:
    if series.aggregate is Aggregate.COUNT:
        return (np.zeros((0, series.depth), np.int64),)
    if series.aggregate is Aggregate.DISTINCT:
        return np.zeros((0, series.depth), np.int64), np.zeros((0, series.depth), np.uint64)
    cells = RUN_CELLS if series.aggregate is Aggregate.ACTIVE else PANE_CELLS
    return (np.zeros((0, cells), np.int64),)


#: What new rows hold: no moment yet; in a row of panes, EMPTY as newest pane makes the rest meaningless.
_FILLS: Final = {Aggregate.DISTINCT: (EMPTY, 0)}


def _filtered(columns: Columns, slots: I32, filters: tuple[Filter, ...]) -> I32:
    if not filters:
        return slots
    passes = np.ones(columns.n, np.bool_)
    for one in filters:
        field = columns.fields[one.field]
        passes &= field >= one.value if one.at_least else field == one.value
    return np.where(passes, slots, np.int32(-1)).astype(np.int32, copy=False)


@dataclass(frozen=True, slots=True)
class Crossing:
    """A condition that came true on a row, outside its cooldown. ``term`` is the one that explains it."""

    row: int
    condition: Condition
    term: Term
    observed: float
    samples: int
    late: bool
    suppressed_before: int


class ConditionState:
    """A trigger's cooldowns, and with ``for_ms`` since when its condition has held, one row per slot."""

    def __init__(self, condition: Condition) -> None:
        self.condition = condition
        self.suppressed = 0
        self.arrays: Arrays = (np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64))

    def take_over(self, former: ConditionState) -> None:
        """Go on with the state of the trigger's version before this one."""
        self.arrays, self.suppressed = former.arrays, former.suppressed
        for_ms = self.condition.trigger.for_ms
        if former.condition.trigger.for_ms != for_ms:
            until, suppressed, _ = self.arrays
            self.arrays = (until, suppressed, np.full(len(until) if for_ms else 0, EMPTY, np.int64))

    def ensure(self, capacity: int) -> None:
        if capacity > len(self.arrays[0]):
            until, suppressed, since = self.arrays
            if self.condition.trigger.for_ms:
                since = grown(since, capacity, EMPTY)
            self.arrays = (grown(until, capacity, EMPTY), grown(suppressed, capacity, 0), since)

    def evaluate(self, columns: Columns, slots: I32, folded: dict[Series, Folded], only_slot: int) -> list[Crossing]:
        """Hits in row order. ``only_slot`` -1: every account; -2: none of the rows."""
        if only_slot < -1:
            return []
        first, *others = self.condition.terms
        second = others[0] if others else None
        series = folded[first.series]
        trigger = self.condition.trigger
        second_comparison = second.comparison if second else 0
        limits = np.array(
            (
                first.comparison,
                second_comparison,
                trigger.min_samples,
                trigger.for_ms,
                trigger.cooldown_period,
                only_slot,
                0,
                self.condition.any_of,
            ),
            np.int64,
        )
        hits = (np.empty(columns.n, np.int64), np.empty(columns.n, np.int32))
        n = evaluate(
            (slots, columns.occurred_at),
            (series.value, series.samples, series.order),
            folded[second.series].value if second else _NONE,
            limits,
            (float(first.threshold), float(second.threshold) if second else 0.0),
            self.arrays,
            hits,
        )
        self.suppressed += int(limits[6])
        found = zip(hits[0][:n], hits[1][:n], strict=True)
        return [self._crossing(folded, int(row), int(before)) for row, before in found]

    def standing(self, slot: int, series: Mapping[Series, SeriesState]) -> Standing:
        """Where one account stands with this trigger."""
        until, suppressed = self.arrays[0][slot], self.arrays[1][slot]
        since = self.arrays[2][slot] if len(self.arrays[2]) else EMPTY
        return Standing(
            trigger=self.condition.trigger,
            terms=tuple(TermStanding(term, series[term.series].standing(slot)) for term in self.condition.terms),
            any_of=self.condition.any_of,
            cooldown_until=None if until == EMPTY else int(until),
            suppressed=int(suppressed),
            holds_since=None if since == EMPTY else int(since),
        )

    def _crossing(self, folded: dict[Series, Folded], row: int, before: int) -> Crossing:
        term = next(one for one in self.condition.terms if one.holds(float(folded[one.series].value[row])))
        series = folded[term.series]
        return Crossing(
            row=row,
            condition=self.condition,
            term=term,
            observed=float(series.value[row]),
            samples=int(series.samples[row]),
            late=bool(series.order[row] == OUT_OF_ORDER),
            suppressed_before=before,
        )


_NONE: F64 = np.zeros(0, np.float64)
