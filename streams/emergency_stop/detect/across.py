"""One value over all accounts, in two stages: each partition folds its own rows, then the parts are put together.

A part is the row that the partition's series holds. Put together it is exact: panes are added up pane by pane, and of
moments and distinct values the latest of all are the latest of the parts'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from emergency_stop.columnar.columns import I64
from emergency_stop.detect.series import PANED, PANES, Aggregate, Series
from emergency_stop.detect.window_kernels import EMPTY, NARROW_CELLS, OUT_OF_ORDER, WIDE_CELLS, WIDE_MAX
from emergency_stop.detect.windows import Folded, Rows, SeriesState, cells_of
from emergency_stop.domain.messages import Partial

_SLOT: Final = np.zeros(1, np.int32)
_CELL_BYTES: Final = 8
#: The row of a distinct count of a thousand.
ROW_BYTES_MAX: Final = 2 * 1_024 * _CELL_BYTES
#: As many as telemetry topics may have.
PARTITIONS_MAX: Final = 10_000


class NoPartError(ValueError):
    """Bytes that were read back cannot be a part of their series; the text says why."""


class AcrossSeries:
    """The first stage: a partition's own part. ``changed`` since it was last taken."""

    def __init__(self, series: Series, next_offset: int) -> None:
        self.series = series
        self._state = SeriesState(series)
        self._state.table.ensure(1)
        self.next_offset = next_offset
        self.changed = False
        self.unsaved = False

    def apply(self, rows: Rows, next_offset: int) -> None:
        """Fold the rows whose slot is 0."""
        folded = self._state.fold(rows, read_all=False)
        if bool((folded.order <= OUT_OF_ORDER).any()):
            self.changed = self.unsaved = True
        self.next_offset = max(self.next_offset, next_offset)

    def take(self) -> bytes:
        """The part, for the second stage."""
        self.changed = False
        return self.row()

    def row(self) -> bytes:
        row: I64 = self._state.table.rows[0]
        return bytes(row.tobytes())

    def load(self, row: bytes, next_offset: int) -> None:
        """Put a part back. What was taken of it before may be lost, so it counts as changed."""
        self._state.load(0, np.frombuffer(row, np.int64).reshape(1, -1))
        self.next_offset, self.changed = next_offset, True


def check_origin(part: Partial) -> None:
    """Raise ``NoPartError`` for what no detector writes, whatever the series is."""
    if len(part.row) > ROW_BYTES_MAX:
        raise NoPartError(f"a part of {part.series:.80} has {len(part.row)} bytes; up to {ROW_BYTES_MAX} are allowed")
    if not 0 <= part.source_partition < PARTITIONS_MAX:
        raise NoPartError(
            f"a part of {part.series:.80} is of partition {part.source_partition}; allowed: 0 to {PARTITIONS_MAX - 1}"
        )


def check_part(series: Series, row: bytes) -> None:
    """Raise ``NoPartError`` unless ``row`` has the form of a part of ``series``.

    The topic of parts holds what anybody wrote to it, and what does not fit would fail at every restart anew.
    """
    allowed = (NARROW_CELLS, WIDE_CELLS) if series.aggregate in PANED else (cells_of(series),)
    if len(row) not in [cells * _CELL_BYTES for cells in allowed]:
        sizes = " or ".join(str(cells * _CELL_BYTES) for cells in allowed)
        raise NoPartError(f"a part of {series.name} has {len(row)} bytes; {sizes} are needed")
    newest = int(np.frombuffer(row, np.int64, 1)[0])
    if newest < 0:
        raise NoPartError(f"a part of {series.name} has its newest moment at {newest}, before any; 0 or more is needed")


def put_together(series: Series, parts: Sequence[bytes], at_ms: int = EMPTY) -> tuple[Folded, int]:
    """The value over all parts at ``at_ms``, at the earliest at the newest moment of any; and the latter (``EMPTY``
    where there is none).
    """
    rows = [np.frombuffer(part, np.int64) for part in parts]
    rows = [row for row in rows if row[0] != 0]
    state = SeriesState(series)
    state.table.ensure(1)
    newest = max((int(row[0]) + EMPTY for row in rows), default=EMPTY)
    if rows:
        if series.aggregate in PANED:
            _merge_panes(series, state, rows, newest)
        else:
            _MERGED[series.aggregate](series, state.table.rows[0], rows)
    return state.read(_SLOT, np.array((max(newest, at_ms),), np.int64)), newest


def _merge_panes(series: Series, state: SeriesState, rows: Sequence[I64], newest: int) -> None:
    """By a wide row, since counts add up. Parts whose panes are older than the window's say nothing of it."""
    state._widen()  # noqa: SLF001  # the state is ours, made for this
    target, counts = state.table.rows[0].view(np.float64), state.table.rows[0].view(np.uint32)
    pane_ms, empty = series.pane_ms, {Aggregate.MAX: -np.inf, Aggregate.MIN: np.inf}.get(series.aggregate, 0.0)
    target[1 : 1 + PANES] = empty
    state.table.rows[0, 0] = newest - EMPTY
    last = newest // pane_ms
    for row in rows:
        narrow = len(row) == NARROW_CELLS
        own = row.view(np.uint16)[4 * (1 + PANES) :] if narrow else row.view(np.uint32)[2 * (1 + PANES) :]
        values = row.view(np.float64)[1 : 1 + PANES]
        own_last = (int(row[0]) + EMPTY) // pane_ms
        for pane in range(max(own_last - PANES, last - PANES) + 1, own_last + 1):
            place = pane % PANES
            if own[place]:
                target[1 + place] = _FOLDED[series.aggregate](target[1 + place], values[place])
                at = 2 * (1 + PANES) + place
                counts[at] = min(int(counts[at]) + int(own[place]), WIDE_MAX)


_FOLDED: Final = {
    Aggregate.AVG: np.add,
    Aggregate.SUM: np.add,
    Aggregate.TALLY: np.add,
    Aggregate.MAX: np.maximum,
    Aggregate.MIN: np.minimum,
}


def _merge_moments(series: Series, target: I64, rows: Sequence[I64]) -> None:
    latest = np.sort(np.concatenate(rows))[::-1]
    target[:] = latest[: series.depth]


def _merge_distinct(series: Series, target: I64, rows: Sequence[I64]) -> None:
    seen: dict[int, int] = {}
    for row in rows:
        for moment, value in zip(row[: series.depth].tolist(), row[series.depth :].tolist(), strict=True):
            if moment:
                seen[value] = max(seen.get(value, moment), moment)
    latest = sorted(seen.items(), key=lambda item: (-item[1], item[0]))[: series.depth]
    for index, (value, moment) in enumerate(latest):
        target[index], target[series.depth + index] = moment, value


def _merge_last(_series: Series, target: I64, rows: Sequence[I64]) -> None:
    target[:] = max(rows, key=lambda row: (int(row[0]), int(row[1])))


_MERGED: Final = {
    Aggregate.COUNT: _merge_moments,
    Aggregate.DISTINCT: _merge_distinct,
    Aggregate.LAST: _merge_last,
}
