"""Rows of 8-byte cells, one per slot, that take memory only where something was written."""

from __future__ import annotations

from typing import Final

import numpy as np

from emergency_stop.columnar.columns import I64

#: How much more address space than asked for rows that grow are given.
_RESERVED_TIMES: Final = 4
_CACHE_LINE_BYTES: Final = 64


class LazyRows:
    """``rows[slot]`` are ``cells`` int64 cells; a row that nobody wrote is all zeros, and costs no memory.

    Rows start at cache lines. Growing neither copies nor holds two copies, but for one time in many: there is
    address space for ``_RESERVED_TIMES`` as many rows, which the system backs with memory once they are written.
    """

    def __init__(self, cells: int) -> None:
        self.cells = cells
        self._reserve: I64 = np.zeros((0, cells), np.int64)
        self.rows: I64 = self._reserve

    def ensure(self, count: int) -> None:
        """Have at least ``count`` rows. Views of the rows before must not be kept."""
        if count <= len(self.rows):
            return
        if count > len(self._reserve):
            reserve = _aligned_zeros(count * _RESERVED_TIMES, self.cells)
            reserve[: len(self.rows)] = self.rows
            self._reserve = reserve
        self.rows = self._reserve[:count]

    def widened(self, cells: int) -> LazyRows:
        """As many rows of more cells, all zeros."""
        wider = LazyRows(cells)
        wider.ensure(len(self.rows))
        return wider


def _aligned_zeros(count: int, cells: int) -> I64:
    size = count * cells * 8
    raw = np.zeros(size + _CACHE_LINE_BYTES, np.uint8)
    start = -raw.ctypes.data % _CACHE_LINE_BYTES
    return raw[start : start + size].view(np.int64).reshape(count, cells)
