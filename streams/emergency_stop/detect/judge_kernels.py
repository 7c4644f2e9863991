"""Compiled loop over conditions: from the values that rows saw to the rows that hit, through cooldowns.

Arrays and scalars in, arrays out; callers validate and allocate. It releases the GIL and keeps no reference.
"""

from __future__ import annotations

from typing import Final

from numba import njit, types

from emergency_stop.detect.plan import Comparison
from emergency_stop.detect.window_kernels import EMPTY, TOO_LATE

_EMPTY: Final = EMPTY
_TOO_LATE: Final = TOO_LATE
_BELOW: Final = int(Comparison.BELOW)
_ABOVE: Final = int(Comparison.ABOVE)
#: A row of state: cooldown until, condition true since (moments as distance from ``EMPTY``), hits suppressed since
#: the last one, and which trigger wrote the row.
UNTIL, SINCE, SUPPRESSED, WHO = range(4)
_UNTIL, _SINCE, _SUPPRESSED, _WHO = UNTIL, SINCE, SUPPRESSED, WHO
STATE_CELLS: Final = 4

_I64, _I64S, _I64S2 = types.int64, types.int64[::1], types.int64[:, ::1]
_F64S, _F64S2, _I32S, _U8S = types.float64[::1], types.float64[:, ::1], types.int32[::1], types.uint8[::1]


@njit(inline="always")
def _compare(comparison, value, threshold):  # type: ignore[no-untyped-def]
    if comparison == _BELOW:
        return value < threshold
    return value > threshold if comparison == _ABOVE else value >= threshold


@njit(
    _I64(
        types.Tuple((_I32S, _I64S)),
        types.Tuple((_F64S, _I32S, _U8S)),
        _F64S,
        _I64S,
        types.Tuple((_F64S2, _I64S2)),
        _I32S,
        _I64S2,
        types.Tuple((_I64S, _I64S, _I32S)),
    ),
    nogil=True,
    cache=True,
)
def judge(rows, first, second, shape, members, member_of, state, hits):  # type: ignore[no-untyped-def]
    """One condition on every row; returns the number of hits.

    ``rows`` = (slot or less than 0, occurred_at); ``first`` = (value, samples, order) of the first term; ``second`` is
    the value of the second term, or empty. ``shape`` = comparison, second comparison, whether one of two terms is
    enough, and a cell that gets the number of suppressed hits. ``members`` = (two thresholds each; min_samples, for_ms,
    cooldown_ms and a mark of the trigger each); ``member_of`` per slot is which of them watches it, -1 for none, and
    empty where the first watches all. ``state`` = a row per slot. ``hits`` = (row, suppressed before it, member).
    """
    slots, moments = rows
    value, samples, order = first
    thresholds, limits = members
    hit_rows, hit_suppressed, hit_members = hits
    comparison, comparison2, any_of = shape[0], shape[1], shape[2] != 0
    everyone, two = member_of.shape[0] == 0, second.shape[0] > 0
    n = 0
    for row in range(slots.shape[0]):
        slot = slots[row]
        if slot < 0 or order[row] >= _TOO_LATE:
            continue
        member = 0 if everyone else member_of[slot]
        if member < 0:
            continue
        holds = _compare(comparison, value[row], thresholds[member, 0])
        if two and holds != any_of:
            holds = _compare(comparison2, second[row], thresholds[member, 1])
        for_ms = limits[member, 1]
        if not holds or samples[row] < limits[member, 0]:
            if for_ms > 0 and state[slot, _SINCE] != 0:
                state[slot, _SINCE] = 0
            continue
        moment = moments[row]
        if state[slot, _WHO] != limits[member, 3]:  # another trigger's row says nothing about this one
            state[slot, _UNTIL], state[slot, _SINCE], state[slot, _SUPPRESSED] = 0, 0, 0
            state[slot, _WHO] = limits[member, 3]
        if for_ms > 0:
            if state[slot, _SINCE] == 0:
                state[slot, _SINCE] = moment - _EMPTY
            if moment - (state[slot, _SINCE] + _EMPTY) < for_ms:
                continue
        if moment - _EMPTY < state[slot, _UNTIL]:
            state[slot, _SUPPRESSED] += 1
            shape[3] += 1
            continue
        state[slot, _UNTIL] = moment + limits[member, 2] - _EMPTY
        hit_rows[n] = row
        hit_suppressed[n] = state[slot, _SUPPRESSED]
        hit_members[n] = member
        state[slot, _SUPPRESSED] = 0
        n += 1
    return n
