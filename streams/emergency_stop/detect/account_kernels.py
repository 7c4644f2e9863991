"""Compiled loops over accounts: from a row's key to its slot, and which pages the rows touch.

Arrays and scalars in, arrays out; callers validate and allocate. They release the GIL and keep no reference.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, types

from emergency_stop.columnar.memory import address_of, byte_at

#: Rows whose memory is asked for at once.
BLOCK: Final = 64
_BLOCK: Final = BLOCK

_BYTES = types.Array(types.uint8, 1, "C", readonly=True)
_I64 = types.int64
_I64S, _I64S2, _I32S, _U64S, _U8S = (
    types.int64[::1],
    types.int64[:, ::1],
    types.int32[::1],
    types.uint64[::1],
    types.uint8[::1],
)


@njit(inline="always")
def _touch_table(hashes, places, known, arena, first, last, slots):  # type: ignore[no-untyped-def]
    """Load what the rows of a block will most likely need, all rows of one kind after the other.

    Accounts come in no order, so nearly every access misses the cache; independent loads miss together, where
    the search would wait for one after the other. The sum is only there so that the loads happen.
    """
    mask = np.uint64(places.shape[0] - 1)
    touched = np.int64(0)
    for row in range(first, last):
        slots[row] = places[hashes[row] & mask]
    for row in range(first, last):
        if slots[row] >= 0:
            touched += known[slots[row], 1]
    for row in range(first, last):
        if slots[row] >= 0:
            touched += arena[known[slots[row], 1]]
    return touched


@njit(inline="always")
def _same_bytes(kept_at, kept, given_at, given, length):  # type: ignore[no-untyped-def]
    """Whether ``length`` bytes at two places, each an address and an offset, are the same."""
    index = 0
    while index < length and byte_at(kept_at, kept + index) == byte_at(given_at, given + index):
        index += 1
    return index == length


@njit(
    types.void(
        types.Tuple((_BYTES, _U64S, _I64S, _I32S)),
        types.Tuple((_I32S, _I64S2)),
        _U8S,
        _I64S,
        _I32S,
    ),
    nogil=True,
    cache=True,
)
def find_slots(keys, table, arena, progress, slots):  # type: ignore[no-untyped-def]
    """Account slot of every row; unknown keys get the next free slot.

    ``keys`` = (buffer, hash, start, length) of the rows. ``table`` = (open addressing table of slots or -1,
    and a row per slot: hash, key start in ``arena``, key length or -1 where the slot is free). A hash is not
    an identity: key bytes are compared. ``progress`` = [row, first free slot, arena bytes in use, unused] goes
    in and out: where a new account finds no room (slots, bytes, or the table half full), its row is where to go on.
    """
    buffer, hashes, starts, lengths = keys
    places, known = table
    mask = np.uint64(places.shape[0] - 1)
    free = progress[1]
    used = progress[2]
    slots_max = min(known.shape[0], places.shape[0] // 2)
    rows = hashes.shape[0]
    kept_at, given_at = address_of(arena), address_of(buffer)
    for first in range(progress[0], rows, _BLOCK):
        last = min(first + _BLOCK, rows)
        progress[3] += _touch_table(hashes, places, known, arena, first, last, slots)
        for row in range(first, last):
            wanted = hashes[row]
            start = starts[row]
            length = lengths[row]
            place = wanted & mask
            while True:
                slot = places[place]
                if slot < 0:
                    if free >= slots_max or used + length > arena.shape[0]:
                        progress[0], progress[1], progress[2] = row, free, used
                        return
                    slot = np.int32(free)
                    free += 1
                    places[place] = slot
                    known[slot, 0], known[slot, 1], known[slot, 2] = np.int64(wanted), used, length
                    for index in range(length):
                        arena[used + index] = buffer[start + index]
                    used += length
                    break
                is_known = known[slot, 0] == np.int64(wanted) and known[slot, 2] == length
                if is_known and _same_bytes(kept_at, known[slot, 1], given_at, start, length):
                    break
                place = (place + np.uint64(1)) & mask
            slots[row] = slot
    progress[0], progress[1], progress[2] = rows, free, used


@njit(
    types.void(types.Tuple((_BYTES, _U64S, _I64S, _I32S)), types.Tuple((_I32S, _I64S2)), _U8S, _I32S),
    nogil=True,
    cache=True,
)
def look_up_slots(keys, table, arena, slots):  # type: ignore[no-untyped-def]
    """As ``find_slots``, but unknown keys get -1."""
    buffer, hashes, starts, lengths = keys
    places, known = table
    mask = np.uint64(places.shape[0] - 1)
    kept_at, given_at = address_of(arena), address_of(buffer)
    for row in range(hashes.shape[0]):
        place = hashes[row] & mask
        while True:
            slot = places[place]
            if slot < 0:
                break
            is_known = known[slot, 0] == np.int64(hashes[row]) and known[slot, 2] == lengths[row]
            if is_known and _same_bytes(kept_at, known[slot, 1], given_at, starts[row], lengths[row]):
                break
            place = (place + np.uint64(1)) & mask
        slots[row] = slot


@njit(types.void(_I32S, _I64S2, _I64), nogil=True, cache=True)
def rebuild_table(places, known, count):  # type: ignore[no-untyped-def]
    """Enter the first ``count`` slots into an empty table (all -1)."""
    mask = np.uint64(places.shape[0] - 1)
    for slot in range(count):
        if known[slot, 2] < 0:
            continue
        place = np.uint64(known[slot, 0]) & mask
        while places[place] >= 0:
            place = (place + np.uint64(1)) & mask
        places[place] = slot


@njit(_I64(_I32S, _I64S, _I64S, _U8S, _I64), nogil=True, cache=True)
def mark_pages(slots, offsets, page_next, dirty, page_shift):  # type: ignore[no-untyped-def]
    """Mark the rows' pages dirty; rows that a page already contains get slot -1. Returns their number.

    ``page_next[page]`` is the first offset that the page does not contain yet.
    """
    skipped = 0
    for row in range(slots.shape[0]):
        page = slots[row] >> page_shift
        if offsets[row] < page_next[page]:
            slots[row] = -1
            skipped += 1
        else:
            dirty[page] = 1
    return skipped
