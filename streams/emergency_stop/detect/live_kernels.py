"""Compiled loops that count live accounts beside the work: they release the GIL, so that no hit waits for them.

Arrays and scalars in, arrays out; callers validate and allocate.
"""

from __future__ import annotations

from numba import njit, types

_I64, _I64S2, _U64S, _U8S = types.int64, types.int64[:, ::1], types.uint64[::1], types.uint8[::1]


@njit(types.void(_I64S2, _I64, _U8S), nogil=True, cache=True)
def mark_live(rows, bound, live):  # type: ignore[no-untyped-def]
    """Set ``live[slot]`` where a series' row has its newest moment at ``bound`` or later."""
    for slot in range(live.shape[0]):
        if rows[slot, 0] >= bound:
            live[slot] = 1


@njit(_I64(_I64S2, _U8S, _U64S), nogil=True, cache=True)
def count_new(known, live, places):  # type: ignore[no-untyped-def]
    """Enter the live slots' key hashes (the first cell of ``known``) into a set; returns how many were not in it.

    ``places`` is the set: open addressing, a power of two and at least twice as many as will be entered, 0 where free.
    Two accounts of one hash count as one.
    """
    mask = types.uint64(places.shape[0] - 1)
    found = 0
    for slot in range(live.shape[0]):
        if live[slot] == 0:
            continue
        wanted = types.uint64(known[slot, 0])
        if wanted == 0:
            wanted = types.uint64(1)
        place = wanted & mask
        while places[place] != 0 and places[place] != wanted:
            place = (place + types.uint64(1)) & mask
        if places[place] == 0:
            places[place] = wanted
            found += 1
    return found
