"""The accounts of one topic-partition: key → slot, in pages that are written out as a whole."""

from __future__ import annotations

from typing import Final

import numpy as np

from emergency_stop.columnar.columns import I32, I64, U8, U64, Columns
from emergency_stop.detect.kernels import find_slots, mark_pages, rebuild_table

PAGE_SHIFT: Final = 8
PAGE_SLOTS: Final = 1 << PAGE_SHIFT
_TABLE_MIN: Final = 1_024
_FREE: Final = -1


class Accounts:
    """Slots are dense and never move; slot // PAGE_SLOTS is the page.

    ``page_next[page]`` is the first offset that the page's state does not contain: after a crash pages can
    be ahead of the position, and what they contain must not be applied again.
    """

    def __init__(self) -> None:
        self.count = 0
        self._hash: U64 = np.zeros(0, np.uint64)
        self._start: I64 = np.zeros(0, np.int64)
        self._length: I32 = np.zeros(0, np.int32)
        self._arena: U8 = np.zeros(0, np.uint8)
        self._used = 0
        self._places: I32 = np.full(_TABLE_MIN, _FREE, np.int32)
        self.page_next: I64 = np.zeros(0, np.int64)
        self.dirty: U8 = np.zeros(0, np.uint8)

    @property
    def capacity(self) -> int:
        """Slots that arrays indexed by slot must have."""
        return len(self._hash)

    def find(self, columns: Columns) -> I32:
        """Slot per row, -1 where the row's page already contains it. Marks pages dirty."""
        self._reserve(columns.n, int(columns.key_len.sum()))
        slots = np.empty(columns.n, np.int32)
        keys = (columns.buffer, columns.key_hash, columns.key_start, columns.key_len)
        table = (self._places, self._hash, self._start, self._length)
        first = self.count
        self._used = int(find_slots(keys, table, self._arena, self._used, first, slots))
        if columns.n:
            self.count = max(first, int(slots.max()) + 1)
            mark_pages(slots, columns.offset, self.page_next, self.dirty, PAGE_SHIFT)
        return slots

    def slot_of(self, key: bytes, key_hash: int) -> int:
        """The slot of one key, -1 if unknown (for account-specific triggers)."""
        mask = len(self._places) - 1
        place = key_hash & mask
        while (slot := int(self._places[place])) >= 0:
            if int(self._hash[slot]) == key_hash and self.key(slot) == key:
                return slot
            place = (place + 1) & mask
        return _FREE

    def key(self, slot: int) -> bytes:
        start = int(self._start[slot])
        return self._arena[start : start + int(self._length[slot])].tobytes()

    def _reserve(self, rows: int, key_bytes: int) -> None:
        """Room for a new account per row."""
        needed = self.count + rows
        if needed > self.capacity:
            capacity = max(needed, self.capacity + self.capacity // 2, PAGE_SLOTS)
            capacity = -(-capacity // PAGE_SLOTS) * PAGE_SLOTS
            self._hash = grown(self._hash, capacity, 0)
            self._start = grown(self._start, capacity, 0)
            self._length = grown(self._length, capacity, _FREE)
            self.page_next = grown(self.page_next, capacity // PAGE_SLOTS, 0)
            self.dirty = grown(self.dirty, capacity // PAGE_SLOTS, 0)
        if needed * 2 > len(self._places):
            self._places = np.full(1 << int(needed * 2 - 1).bit_length(), _FREE, np.int32)
            rebuild_table(self._places, self._hash, self._length, self.count)
        if self._used + key_bytes > len(self._arena):
            self._arena = grown(self._arena, max(self._used + key_bytes, len(self._arena) * 2), 0)

    # -- pages ----------------------------------------------------------------------------------

    def take_dirty(self, next_offset: int) -> list[int]:
        """Pages changed since the last call; each now contains everything below ``next_offset``."""
        pages = [int(page) for page in np.flatnonzero(self.dirty)]
        self.dirty[:] = 0
        self.page_next[pages] = next_offset
        return pages

    def page_keys(self, page: int) -> tuple[list[int], bytes]:
        """(key length per slot of the page, -1 where free; all key bytes in slot order)."""
        slots = range(page * PAGE_SLOTS, min((page + 1) * PAGE_SLOTS, self.count))
        lengths = [int(self._length[slot]) for slot in slots]
        return lengths, b"".join(self.key(slot) for slot in slots if self._length[slot] >= 0)

    def load_page(self, page: int, lengths: list[int], keys: bytes, hashes: U64, next_offset: int) -> None:
        """Put a written page back. Call ``finish_loading`` after the last one."""
        first = page * PAGE_SLOTS
        self.count = max(self.count, first + len(lengths))
        self._reserve(PAGE_SLOTS, len(keys))
        self.page_next[page] = next_offset
        at = self._used
        self._arena[at : at + len(keys)] = np.frombuffer(keys, np.uint8)
        for index, length in enumerate(lengths):
            self._length[first + index] = length
            self._hash[first + index] = hashes[index]
            self._start[first + index] = at
            at += max(length, 0)
        self._used = at

    def finish_loading(self, position: int) -> None:
        """Rebuild the table. New accounts start on a fresh page if the last one is ahead of ``position``:
        a replayed event of an account new to it would be taken for one that the page contains.
        """
        pages = -(-self.count // PAGE_SLOTS)
        if pages and self.page_next[pages - 1] > position:
            self.count = pages * PAGE_SLOTS
        self._reserve(PAGE_SLOTS, 0)
        self._places[:] = _FREE
        rebuild_table(self._places, self._hash, self._length, self.count)

    def page_hashes(self, page: int) -> U64:
        return self._hash[page * PAGE_SLOTS : min((page + 1) * PAGE_SLOTS, self.count)]


def grown(array: np.ndarray, length: int, fill: float) -> np.ndarray:
    """A longer copy whose new rows hold ``fill``."""
    longer = np.full((length, *array.shape[1:]), fill, array.dtype)
    longer[: len(array)] = array
    return longer
