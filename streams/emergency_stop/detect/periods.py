"""Periods of event time, by which evaluations are summed up: the same ones for whoever reads the same log.

The period that is under way is that of the topic's newest event. It ends with the first event of a later one; a late
event belongs to the period in which it arrives.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from emergency_stop.columnar.columns import I64


class Periods:
    """Of one topic. ``start`` is the beginning of the period that is under way; ``None``: no event yet."""

    def __init__(self, period_ms: int) -> None:
        self.period_ms = period_ms
        self.start: int | None = None

    def pieces(self, moments: I64) -> Iterator[tuple[int, int, int]]:
        """(first row, row after the last, start of their period) of rows in log order. Changes nothing."""
        if not len(moments):
            return
        before, n = self.start, len(moments)
        if before is not None and int(moments.max()) < before + self.period_ms:
            yield 0, n, before
            return
        numbers = np.maximum.accumulate(moments) // self.period_ms
        if before is not None:
            numbers = np.maximum(numbers, before // self.period_ms)
        bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), n]
        for first, last in pairwise(bounds):
            yield first, last, int(numbers[first]) * self.period_ms
