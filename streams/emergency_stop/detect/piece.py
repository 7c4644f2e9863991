"""Rows of a batch that follow one another, with what their series saw."""

from __future__ import annotations

from collections.abc import Mapping

from emergency_stop.columnar.columns import I32, Columns
from emergency_stop.detect.hits import Source
from emergency_stop.detect.series import Series
from emergency_stop.detect.windows import Folded


class Piece:
    """Rows from ``first`` up to ``last`` of ``columns``; ``slots`` and ``folded`` are of all its rows. Nothing is
    copied.

    ``slots``, ``moments`` and ``offsets`` are those of the piece.
    """

    def __init__(self, columns: Columns, slots: I32, folded: Mapping[Series, Folded], first: int, last: int) -> None:
        self.columns = columns
        self.first, self.last = first, last
        self._folded = folded
        self._is_whole = last - first == columns.n
        at = slice(first, last)
        self.slots, self.moments, self.offsets = slots[at], columns.occurred_at[at], columns.offset[at]

    def seen(self, series: Series) -> Folded:
        """The series as the rows saw it."""
        whole = self._folded[series]
        if self._is_whole:
            return whole
        at = slice(self.first, self.last)
        return Folded(whole.value[at], whole.samples[at], whole.order[at])

    def source(self, row: int) -> Source:
        """The record of a row of the piece."""
        at, columns = self.first + row, self.columns
        return Source(columns.topic, columns.partition, int(columns.offset[at]), int(columns.occurred_at[at]))
