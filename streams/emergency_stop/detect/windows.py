"""Windows of one series for all accounts of a topic-partition."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emergency_stop.columnar.columns import F64, I32, I64, U8, U64, Columns
from emergency_stop.detect.lazy_rows import LazyRows
from emergency_stop.detect.series import PANED, PANES, Aggregate, Filter, Series
from emergency_stop.detect.standing import SeriesStanding
from emergency_stop.detect.window_kernels import (
    EMPTY,
    LAST_CELLS,
    NARROW_CELLS,
    RUN_CELLS,
    TOO_LATE,
    WIDE_CELLS,
    count_distinct,
    count_latest,
    extend_runs,
    fold_panes,
    keep_last,
)
from emergency_stop.rules.calendar import parse_quiet_hours
from emergency_stop.rules.zones import DAY_MS

Mask = npt.NDArray[np.bool_]
_LEFT_OUT: Final = np.int32(-1)
#: Days of some calendar that are remembered; a stream is seldom in more than two at a time.
_DAYS_KEPT: Final = 1_024
_COMPARE: Final[dict[str, Callable[[Any, float], Mask]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


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


@dataclass(slots=True)
class Rows:
    """A batch's rows with their accounts' slots (-1: left out), and which rows pass which filters, computed once."""

    columns: Columns
    slots: I32
    _masks: dict[Any, Mask] = field(default_factory=dict)

    def passing(self, filters: tuple[Filter, ...]) -> Mask:
        """Rows that pass all of ``filters``."""
        mask = self._masks.get(filters)
        if mask is None:
            mask = np.ones(self.columns.n, np.bool_)
            for one in filters:
                mask &= self._passing_one(one)
            self._masks[filters] = mask
        return mask

    def _passing_one(self, one: Filter) -> Mask:
        mask = self._masks.get(one)
        if mask is None:
            values = self.columns.fields[one.field]
            mask = _COMPARE[one.op](values, one.value)
            if one.op == "!=" and values.dtype == np.float64:
                mask &= values == values  # noqa: PLR0124  # a null is not unlike a value, it is none
            self._masks[one] = mask
        return mask

    def quiet(self, hours: tuple[str, str]) -> Mask:
        """Rows that occurred in quiet hours."""
        mask = self._masks.get(hours)
        if mask is None:
            mask = self._masks[hours] = _in_quiet_hours(self.columns.occurred_at, hours)
        return mask


def _in_quiet_hours(moments: I64, hours: tuple[str, str]) -> Mask:
    """Day by day, of those that occur: between one wrong clock and the others there may be thousands of years."""
    found: Mask = np.zeros(len(moments), np.bool_)
    days = moments // DAY_MS
    for day in np.unique(days).tolist():
        rows = np.flatnonzero(days == day)
        starts, ends = _quiet_intervals(hours, day)
        place = np.searchsorted(starts, moments[rows], side="right") - 1
        found[rows] = (place >= 0) & (moments[rows] < np.append(ends, 0)[place])
    return found


@lru_cache(maxsize=_DAYS_KEPT)
def _quiet_intervals(hours: tuple[str, str], day: int) -> tuple[I64, I64]:
    """(starts, ends) of the quiet hours that have part in a day of UTC."""
    return parse_quiet_hours(*hours).intervals(day * DAY_MS, (day + 1) * DAY_MS - 1)


class SeriesState:
    """A series' rows, one per slot."""

    def __init__(self, series: Series) -> None:
        self.series = series
        self.table = LazyRows(cells_of(series))

    def fold(self, rows: Rows, *, read_all: bool) -> Folded:
        """Apply the rows. With ``read_all`` rows that are no samples tell what the window holds at their moment."""
        codes = self._codes(rows, read_all=read_all)
        return self._run(codes, rows.columns.occurred_at, self._values(rows))

    def read(self, slots: I32, moments: I64) -> Folded:
        """What the windows of ``slots`` (-1: none) hold at ``moments``; changes nothing."""
        return self._run(-2 - slots, moments, None)

    def _codes(self, rows: Rows, *, read_all: bool) -> I32:
        passes = rows.passing(self.series.filters) if self.series.filters else None
        if self.series.quiet is not None:
            quiet = rows.quiet(self.series.quiet)
            passes = quiet if passes is None else passes & quiet
        if passes is None:
            return rows.slots
        return np.where(passes, rows.slots, -2 - rows.slots if read_all else _LEFT_OUT).astype(np.int32, copy=False)

    def _values(self, rows: Rows) -> F64 | U64 | None:
        series = self.series
        if series.shares:
            return rows.passing(series.shares).astype(np.float64)
        if series.aggregate in (Aggregate.TALLY, Aggregate.COUNT, Aggregate.ACTIVE):
            return None
        values = rows.columns.fields[series.field]
        if series.aggregate is Aggregate.DISTINCT and values.dtype == np.float64:
            return (values + 0.0).view(np.uint64)  # minus zero is zero
        return values

    def _run(self, codes: I32, moments: I64, values: F64 | U64 | None) -> Folded:
        n, series, table = len(codes), self.series, self.table.rows
        out = (np.empty(n, np.float64), np.empty(n, np.int32), np.empty(n, np.uint8))
        if series.aggregate is Aggregate.COUNT:
            count_latest(series.window_ms, (codes, moments), table, out)
        elif series.aggregate is Aggregate.ACTIVE:
            extend_runs(series.window_ms, (codes, moments), table, out)
        elif series.aggregate is Aggregate.DISTINCT:
            seen = np.zeros(n, np.uint64) if values is None else values
            count_distinct(series.window_ms, (codes, moments, seen), (table, table.view(np.uint64)), out)
        elif series.aggregate is Aggregate.LAST:
            given = np.zeros(n, np.float64) if values is None else values
            keep_last((codes, moments, given), (table, table.view(np.float64)), out)
        else:
            self._fold_panes((codes, moments, np.zeros(n, np.float64) if values is None else values), out)
        return Folded(*out)

    def _fold_panes(self, rows: Any, out: Any) -> None:
        start, n = 0, len(rows[0])
        while True:
            table = self.table.rows
            counts = table.view(np.uint16 if self.table.cells == NARROW_CELLS else np.uint32)
            state = (table, table.view(np.float64))
            start = fold_panes(int(self.series.aggregate), self.series.pane_ms, start, rows, state, counts, out)
            if start == n:
                return
            self._widen()

    def _widen(self) -> None:
        """Some account has more samples in a pane than two bytes count: give all accounts' counts four."""
        narrow, self.table = self.table, self.table.widened(WIDE_CELLS)
        self._take_narrow(0, narrow.rows)

    def _take_narrow(self, first: int, narrow: I64) -> None:
        last = first + len(narrow)
        self.table.rows[first:last, : 1 + PANES] = narrow[:, : 1 + PANES]
        counts = np.ascontiguousarray(narrow).view(np.uint16)[:, 4 * (1 + PANES) :]
        self.table.rows.view(np.uint32)[first:last, 2 * (1 + PANES) : 2 * (1 + PANES) + PANES] = counts

    def load(self, first: int, stored: I64) -> None:
        """Put a page's rows back, from slot ``first`` on."""
        if stored.shape[1] == self.table.cells:
            self.table.rows[first : first + len(stored)] = stored
        elif stored.shape[1] == WIDE_CELLS and self.table.cells == NARROW_CELLS:
            self._widen()
            self.table.rows[first : first + len(stored)] = stored
        elif stored.shape[1] == NARROW_CELLS and self.table.cells == WIDE_CELLS:
            self._take_narrow(first, stored)

    def standing(self, slot: int, at_ms: int | None = None) -> SeriesStanding:
        """What one account's window holds at ``at_ms``; by default, and at the earliest, as of its newest sample."""
        newest = int(self.table.rows[slot, 0]) + EMPTY if slot >= 0 else EMPTY
        if newest == EMPTY:
            return SeriesStanding(None, 0, None)
        moment = newest if at_ms is None else max(newest, at_ms)
        return standing_in(self.series, self.read(np.array((slot,), np.int32), np.array((moment,), np.int64)), newest)


def standing_in(series: Series, found: Folded, newest: int) -> SeriesStanding:
    """One row's window. What folds into panes has no value where they are empty; a count is 0 then."""
    samples = int(found.samples[0])
    is_empty = newest == EMPTY or (
        samples == 0 and series.aggregate in PANED and series.aggregate is not Aggregate.TALLY
    )
    return SeriesStanding(None if is_empty else float(found.value[0]), samples, None if newest == EMPTY else newest)


def cells_of(series: Series) -> int:
    """How many cells a row has; of panes, while their counts are narrow."""
    if series.aggregate in PANED:
        return NARROW_CELLS
    fixed = {Aggregate.ACTIVE: RUN_CELLS, Aggregate.LAST: LAST_CELLS, Aggregate.DISTINCT: 2 * series.depth}
    return fixed.get(series.aggregate, series.depth)
