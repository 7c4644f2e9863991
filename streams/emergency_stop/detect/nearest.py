"""What came nearest to firing in a period, per account: the rows of a bounded record, nearest first.

How near an evaluation came is how much of the way to firing its value is: ``threshold / value`` where a trigger fires
below, ``value / threshold`` where it fires above; of two terms that must both hold the lesser, of two of which one is
enough the greater; and no more than ``samples / min_samples``. An evaluation of which the condition holds is no miss,
and comes near to nothing. Ways are compared in parts of ``PARTS``, and the first of equally near ones counts. Less than
half of the way is not near.

Memory: four bytes per account, and the nearest ``rows_max`` accounts so far.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emergency_stop.columnar.columns import F64, I32, I64, U8
from emergency_stop.detect.nearest_kernels import (
    APPROACH,
    OFFSET,
    OTHER_CELLS,
    SLOT,
    WHOLE_CELLS,
    keep_nearest,
)


@dataclass(frozen=True, slots=True)
class Nearest:
    """The nearest accounts of one group in a period, nearest first; see ``nearest_kernels`` for the columns.
    ``evaluations`` is how many each had, ``near`` how many accounts came near in all.
    """

    whole: I64
    other: F64
    evaluations: list[int]
    near: int


class NearTrack:
    """One group's accounts in the period that is under way."""

    def __init__(self, rows_max: int) -> None:
        self._table = np.zeros((0, 2), np.uint16)
        self._whole: I64 = np.zeros((rows_max, WHOLE_CELLS), np.int64)
        self._other: F64 = np.zeros((rows_max, OTHER_CELLS), np.float64)
        self._counts: I64 = np.zeros(4, np.int64)

    def ensure(self, count: int) -> None:
        """Have rows for ``count`` accounts."""
        if count > len(self._table):
            more = np.zeros((count, 2), np.uint16)
            more[: len(self._table)] = self._table
            self._table = more

    def keep(
        self,
        rows: tuple[I32, I64, I64],
        first: tuple[F64, I32, U8],
        second: F64,
        shape: I64,
        members: tuple[F64, I64, I32],
    ) -> None:
        """Look at rows; arguments as those of ``keep_nearest``."""
        keep_nearest(rows, first, second, shape, members, self._table, (self._whole, self._other, self._counts))

    def take(self) -> Nearest:
        """End the period: what came nearest; the next one begins with nothing."""
        n = int(self._counts[0])
        order = np.lexsort((self._whole[:n, OFFSET], -self._other[:n, APPROACH]))
        whole, other = self._whole[order], self._other[order]
        evaluations = self._table[whole[:, SLOT], 1].tolist()
        found = Nearest(whole, other, evaluations, int(self._counts[1]))
        self._table[:] = 0
        self._counts[:] = 0
        return found
