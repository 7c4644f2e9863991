"""Compiled loop that keeps, per account, how near evaluations came to firing. Needed for the record only: nothing that
stops waits for it.

Arrays and scalars in, arrays out; callers validate and allocate. It releases the GIL and keeps no reference.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, types

from emergency_stop.detect.account_kernels import BLOCK
from emergency_stop.detect.plan import Comparison
from emergency_stop.detect.window_kernels import TOO_LATE

_TOO_LATE: Final = TOO_LATE
_BLOCK: Final = BLOCK
_BELOW: Final = int(Comparison.BELOW)
_ABOVE: Final = int(Comparison.ABOVE)
#: Whole numbers of an account that is kept: slot, offset, moment, samples, member.
SLOT, OFFSET, MOMENT, SAMPLES, MEMBER = range(5)
WHOLE_CELLS: Final = 5
#: Its other numbers: approach, observed, threshold.
APPROACH, OBSERVED, THRESHOLD = range(3)
OTHER_CELLS: Final = 3
#: Approaches are told in so many parts of the way: two bytes per account, because most accesses miss the cache.
PARTS: Final = 2**15
#: What is less than half of the way is not near.
NEAR_MIN: Final = PARTS // 2
_PARTS: Final = float(PARTS)
_NEAR_MIN: Final = NEAR_MIN
_FIRES: Final = 2 * PARTS
_COUNT_MAX: Final = 2**16 - 1

_I64S, _I64S2 = types.int64[::1], types.int64[:, ::1]
_F64S, _F64S2, _I32S, _U8S = types.float64[::1], types.float64[:, ::1], types.int32[::1], types.uint8[::1]
_U16S2 = types.uint16[:, ::1]


@njit(inline="always", error_model="numpy")
def _approach(comparison, value, threshold):  # type: ignore[no-untyped-def]
    """How much of the way to its threshold a value is: from 0 to ``PARTS``; ``_FIRES`` where it holds."""
    share = threshold / value if comparison == _BELOW else value / threshold
    share = share if (value > 0.0) & (threshold > 0.0) else np.float64(value == threshold)
    if comparison == _BELOW:
        holds = value < threshold
    else:
        holds = value > threshold if comparison == _ABOVE else value >= threshold
    return _FIRES if holds else np.int64(share * _PARTS)


@njit(inline="always")
def _touch(slots, near, first, last):  # type: ignore[no-untyped-def]
    """As ``account_kernels._touch_table``: load what the rows of a block need, so that the misses overlap."""
    touched = np.int64(0)
    for row in range(first, last):
        if slots[row] >= 0:
            touched += near[slots[row], 1]
    return touched


@njit(inline="always")
def _place_of(slot, whole, n):  # type: ignore[no-untyped-def]
    """Where an account is kept, of ``n``; ``n`` where it is not."""
    place = 0
    while place < n and whole[place, 0] != slot:
        place += 1
    return place


@njit(inline="always")
def _farthest(whole, other):  # type: ignore[no-untyped-def]
    """The one that is given up for a nearer one: of equally far ones the last in the log."""
    found = 0
    for place in range(1, whole.shape[0]):
        farther, as_far = other[place, 0] < other[found, 0], other[place, 0] == other[found, 0]
        if farther or (as_far and whole[place, 1] > whole[found, 1]):
            found = place
    return found


@njit(
    types.void(
        types.Tuple((_I32S, _I64S, _I64S)),
        types.Tuple((_F64S, _I32S, _U8S)),
        _F64S,
        _I64S,
        types.Tuple((_F64S2, _I64S2, _I32S)),
        _U16S2,
        types.Tuple((_I64S2, _F64S2, _I64S)),
    ),
    nogil=True,
    cache=True,
    error_model="numpy",  # a division that may raise is a branch
)
def keep_nearest(rows, first, second, shape, members, near, kept):  # type: ignore[no-untyped-def]
    """Note how near each row came, and keep the nearest accounts.

    ``rows`` = (slot or less than 0, occurred_at, offset); ``first`` = (value, samples, order) of the first term;
    ``second`` is the value of the second term, or empty. ``shape`` = comparison, second comparison, and whether one of
    two terms is enough. ``members`` = ``thresholds``, ``limits`` and ``member_of`` as in ``judge``. ``near`` per slot =
    approach, evaluations (no more than two bytes count). ``kept`` = (whole numbers, other numbers, and four cells:
    accounts that are kept, accounts that came near, the place of the farthest one that is kept once all places are
    taken, and one that means nothing, but without which nothing would be loaded ahead).
    """
    slots, moments, offsets = rows
    value, samples, order = first
    comparison, comparison2, any_of = shape[0], shape[1], shape[2] != 0
    thresholds, limits, member_of = members
    whole, other, counts = kept
    everyone, two = member_of.shape[0] == 0, second.shape[0] > 0
    n, came_near, farthest = counts[0], counts[1], counts[2]
    wanted = np.int64(other[farthest, 0]) if n == whole.shape[0] else np.int64(0)
    touched = np.int64(0)
    for row in range(slots.shape[0]):
        if row % _BLOCK == 0:
            touched += _touch(slots, near, row, min(row + _BLOCK, slots.shape[0]))
        slot = slots[row]
        if slot < 0 or order[row] >= _TOO_LATE:
            continue
        member = 0 if everyone else member_of[slot]
        if member < 0:
            continue
        seen, limit = value[row], thresholds[member, 0]
        approach = _approach(comparison, seen, limit)
        if two:
            seen2, limit2 = second[row], thresholds[member, 1]
            approach2 = _approach(comparison2, seen2, limit2)
            if approach2 > approach if any_of else approach2 < approach:
                seen, limit, approach = seen2, limit2, approach2
        if samples[row] < limits[member, 0]:
            approach = min(approach, samples[row] * PARTS // limits[member, 0])
        # Half of all rows are near, and half of those nearer than before: neither alone must be a branch.
        approach = 0 if (approach == _FIRES) | (approach < _NEAR_MIN) else approach
        before = np.int64(near[slot, 0])
        if approach > wanted and approach > before:
            place = _place_of(slot, whole, n)
            if place == whole.shape[0]:
                place = farthest
            elif place == n:
                n += 1
            whole[place, 0], whole[place, 1], whole[place, 2] = slot, offsets[row], moments[row]
            whole[place, 3], whole[place, 4] = samples[row], member
            other[place, 0], other[place, 1], other[place, 2] = approach, seen, limit
            if n == whole.shape[0]:
                farthest = _farthest(whole, other)
                wanted = np.int64(other[farthest, 0])
        near[slot, 0], near[slot, 1] = max(approach, before), min(near[slot, 1] + 1, _COUNT_MAX)
        came_near += (before == 0) & (approach > 0)
    counts[0], counts[1], counts[2], counts[3] = n, came_near, farthest, touched
