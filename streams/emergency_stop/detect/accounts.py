"""The accounts of one topic-partition: key → slot, in pages that are written out as a whole."""

from __future__ import annotations

from typing import Final

import numpy as np

from emergency_stop.columnar.columns import I32, I64, U8, U64, Columns
from emergency_stop.detect.account_kernels import find_slots, look_up_slots, mark_pages, rebuild_table

PAGE_SHIFT: Final = 8
PAGE_SLOTS: Final = 1 << PAGE_SHIFT
_TABLE_MIN: Final = 1_024
_CAPACITY_STEP: Final = 16 * PAGE_SLOTS
_ARENA_STEP: Final = 1 << 16
#: How much more address space than asked for an array that grows is given.
_RESERVED_TIMES: Final = 4
_FREE: Final = -1
_HASH, _START, _LENGTH = range(3)
#: Half a cache line per slot, so that a look-up misses once.
KNOWN_CELLS: Final = 4


#: Keys of rows: buffer, and per row the hash, and start and length in the buffer.
Keys = tuple[U8, U64, I64, I32]


def keys_of(columns: Columns, rows: I64 | None = None) -> Keys:
    """The keys of ``rows``, or of all."""
    if rows is None:
        return columns.buffer, columns.key_hash, columns.key_start, columns.key_len
    return columns.buffer, columns.key_hash[rows], columns.key_start[rows], columns.key_len[rows]


class Accounts:
    """Slots are dense and never move; slot // PAGE_SLOTS is the page.

    ``page_next[page]`` is the first offset that the page's state does not contain: after a crash pages can
    be ahead of the position, and what they contain must not be applied again.
    """

    def __init__(self) -> None:
        self.count = 0
        self._known: I64 = np.zeros((0, KNOWN_CELLS), np.int64)  # per slot: see the columns below
        self._arena: U8 = np.zeros(0, np.uint8)
        self._used = 0
        self._places: I32 = np.full(_TABLE_MIN, _FREE, np.int32)
        self.page_next: I64 = np.zeros(0, np.int64)
        self.dirty: U8 = np.zeros(0, np.uint8)

    @property
    def capacity(self) -> int:
        """Slots that arrays indexed by slot must have."""
        return len(self._known)

    def find(self, columns: Columns) -> I32:
        """Slot per row, -1 where the row's page already contains it. Marks pages dirty."""
        slots = self._found(keys_of(columns))
        if columns.n:
            mark_pages(slots, columns.offset, self.page_next, self.dirty, PAGE_SHIFT)
        return slots

    def enter(self, keys: Keys) -> I32:
        """Slot per key, which is about to change for another reason than a row of the topic. Marks pages dirty."""
        slots = self._found(keys)
        self.touch(slots)
        return slots

    def touch(self, slots: I32 | list[int]) -> None:
        """Mark the pages of ``slots`` dirty."""
        self.dirty[np.asarray(slots, np.int32) >> PAGE_SHIFT] = 1

    def look_up(self, keys: Keys) -> I32:
        """Slot per key, -1 where the account is unknown."""
        slots = np.empty(len(keys[1]), np.int32)
        look_up_slots(keys, (self._places, self._known), self._arena, slots)
        return slots

    def keys_of_slots(self, slots: I32) -> Keys:
        known = self._known[slots]
        hashes = np.ascontiguousarray(known[:, _HASH]).view(np.uint64)
        starts, lengths = np.ascontiguousarray(known[:, _START]), known[:, _LENGTH].astype(np.int32)
        return self._arena, hashes, starts, lengths

    def _found(self, keys: Keys) -> I32:
        n = len(keys[1])
        slots = np.empty(n, np.int32)
        progress = np.array((0, self.count, self._used, 0), np.int64)
        while progress[0] < n:
            table = (self._places, self._known)
            find_slots(keys, table, self._arena, progress, slots)
            self.count, self._used = int(progress[1]), int(progress[2])
            if progress[0] < n:
                self._reserve(1, int(keys[3][progress[0]]))
        return slots

    def slot_of(self, key: bytes, key_hash: int) -> int:
        """The slot of one key, -1 if unknown (for account-specific triggers)."""
        mask = len(self._places) - 1
        place = key_hash & mask
        while (slot := int(self._places[place])) >= 0:
            if int(self._known[slot, _HASH]) == np.uint64(key_hash).view(np.int64) and self.key(slot) == key:
                return slot
            place = (place + 1) & mask
        return _FREE

    def key(self, slot: int) -> bytes:
        start, length = int(self._known[slot, _START]), int(self._known[slot, _LENGTH])
        return self._arena[start : start + length].tobytes()

    def _reserve(self, rows: int, key_bytes: int) -> None:
        """Room for so many new accounts; grows in steps, so that it is seldom asked for."""
        needed = self.count + rows
        if needed > self.capacity:
            capacity = -(-needed // _CAPACITY_STEP) * _CAPACITY_STEP
            self._known = grown(self._known, capacity, _FREE)
            self.page_next = grown(self.page_next, capacity // PAGE_SLOTS, 0)
            self.dirty = grown(self.dirty, capacity // PAGE_SLOTS, 0)
        if needed * 2 > len(self._places):
            self._places = np.full(1 << int(self.capacity * 2 - 1).bit_length(), _FREE, np.int32)
            rebuild_table(self._places, self._known, self.count)
        if self._used + key_bytes > len(self._arena):
            self._arena = grown(self._arena, self._used + key_bytes + _ARENA_STEP, 0)

    # -- pages ----------------------------------------------------------------------------------

    def dirty_pages(self) -> list[int]:
        """Pages that changed since they were sealed."""
        return [int(page) for page in np.flatnonzero(self.dirty)]

    def seal(self, page: int, next_offset: int) -> int:
        """The page is written now, and contains everything below ``next_offset``; more, where it was put back ahead of
        the position and what it contains is not read again yet. Returns the first offset that it does not contain.
        """
        self.dirty[page] = 0
        self.page_next[page] = max(next_offset, int(self.page_next[page]))
        return int(self.page_next[page])

    def page_keys(self, page: int) -> tuple[I32, bytes]:
        """(key length per slot of the page, -1 where free; all key bytes in slot order).

        A page's keys lie together in the arena: slots are given out in order, and so are pages put back.
        """
        first, last = page * PAGE_SLOTS, min((page + 1) * PAGE_SLOTS, self.count)
        lengths = self._known[first:last, _LENGTH].astype(np.int32)
        taken = lengths >= 0
        if not taken.any():
            return lengths, b""
        start = int(self._known[first:last, _START][taken][0])
        return lengths, self._arena[start : start + int(lengths[taken].sum())].tobytes()

    def load_page(self, page: int, lengths: I32, keys: bytes, hashes: U64, next_offset: int) -> None:
        """Put a written page back. Call ``finish_loading`` after the last one."""
        first = page * PAGE_SLOTS
        self.count = max(self.count, first + len(lengths))
        self._reserve(PAGE_SLOTS, len(keys))
        self.page_next[page] = next_offset
        at = self._used
        self._arena[at : at + len(keys)] = np.frombuffer(keys, np.uint8)
        last = first + len(lengths)
        self._known[first:last, _LENGTH] = lengths
        self._known[first:last, _HASH] = hashes.view(np.int64)
        sizes = np.maximum(lengths, 0)
        self._known[first:last, _START] = at + np.cumsum(sizes) - sizes
        self._used = at + len(keys)

    def finish_loading(self, position: int) -> None:
        """Rebuild the table. New accounts start on a fresh page if the last one is ahead of ``position``:
        a replayed event of an account new to it would be taken for one that the page contains.
        """
        pages = -(-self.count // PAGE_SLOTS)
        if pages and self.page_next[pages - 1] > position:
            self.count = pages * PAGE_SLOTS
        self._reserve(PAGE_SLOTS, 0)
        self._places[:] = _FREE
        rebuild_table(self._places, self._known, self.count)

    def hashes(self) -> I64:
        """Per slot a row that begins with the hash of the account's key; a view."""
        return self._known[: self.count]

    def page_hashes(self, page: int) -> U64:
        first, last = page * PAGE_SLOTS, min((page + 1) * PAGE_SLOTS, self.count)
        return np.ascontiguousarray(self._known[first:last, _HASH]).view(np.uint64)


def grown(array: np.ndarray, length: int, fill: float) -> np.ndarray:
    """``array`` with more rows, which hold ``fill``; ``array`` itself must not be used, or grown, afterwards.

    Rows are added in place: an array gets address space for ``_RESERVED_TIMES`` as many as it needs, and memory only
    for those that exist. So growing neither copies nor holds two copies, but for one time in many.
    """
    reserve = array.base
    if reserve is None or len(reserve) < length:
        reserve = np.empty((length * _RESERVED_TIMES, *array.shape[1:]), array.dtype)
        reserve[: len(array)] = array
    reserve[len(array) : length] = fill
    return reserve[:length]
