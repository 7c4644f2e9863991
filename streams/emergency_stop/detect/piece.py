"""Rows of a batch that follow one another, with what their series saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emergency_stop.columnar.columns import I32, I64, Columns
from emergency_stop.detect.hits import Source
from emergency_stop.detect.series import Series
from emergency_stop.detect.windows import Folded


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows from ``first`` up to ``last`` of ``columns``; ``all_slots`` and ``folded`` are of all its rows. Nothing is
    copied.
    """

    columns: Columns
    all_slots: I32
    folded: Mapping[Series, Folded]
    first: int
    last: int

    @property
    def slots(self) -> I32:
        return self.all_slots[self.first : self.last]

    @property
    def moments(self) -> I64:
        return self.columns.occurred_at[self.first : self.last]

    @property
    def offsets(self) -> I64:
        return self.columns.offset[self.first : self.last]

    def seen(self, series: Series) -> Folded:
        """The series as the rows saw it."""
        whole = self.folded[series]
        if self.last - self.first == len(whole.value):
            return whole
        at = slice(self.first, self.last)
        return Folded(whole.value[at], whole.samples[at], whole.order[at])

    def source(self, row: int) -> Source:
        """The record of a row of the piece."""
        at, columns = self.first + row, self.columns
        return Source(columns.topic, columns.partition, int(columns.offset[at]), int(columns.occurred_at[at]))
