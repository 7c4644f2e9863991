"""Compiled loop over conditions: from the values that rows saw to the rows that hit, through cooldowns, and to those on
which a condition became true or cleared (see ``truth``).

Arrays and scalars in, arrays out; callers validate and allocate. It releases the GIL and keeps no reference.
"""

from __future__ import annotations

from typing import Final

import numpy as np
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
#: A row of what is known to be true: the moment that last found it so, as distance from ``EMPTY``, and the version.
HELD, VERSION = range(2)
_HELD, _VERSION = HELD, VERSION
TRUTH_CELLS: Final = 2
#: Columns of ``limits``.
(_MIN_SAMPLES, _FOR_MS, _COOLDOWN_MS, _MARK, _MARK_OF_VERSION, _CLEAR_SAMPLES, _LAPSE_MS) = range(7)
LIMIT_CELLS: Final = 7
#: What changed on a row. ``LAPSED``: time cleared it before the row came.
WAITS, SUPPRESSED_AT_FIRST, CLEARED, LAPSED = range(4)
_WAITS, _SUPPRESSED_AT_FIRST, _CLEARED, _LAPSED = WAITS, SUPPRESSED_AT_FIRST, CLEARED, LAPSED
#: A change: row, what, member, moment.
CHANGE_CELLS: Final = 4
#: Cells of ``shape``, in and out.
SHAPE_SUPPRESSED, SHAPE_CHANGES, SHAPE_EVALUATED, SHAPE_KNOWN = 3, 4, 5, 6

_I64, _I64S, _I64S2 = types.int64, types.int64[::1], types.int64[:, ::1]
_F64S, _F64S2, _I32S, _U8S = types.float64[::1], types.float64[:, ::1], types.int32[::1], types.uint8[::1]


@njit(inline="always")
def _compare(comparison, value, threshold):  # type: ignore[no-untyped-def]
    if comparison == _BELOW:
        return value < threshold
    return value > threshold if comparison == _ABOVE else value >= threshold


@njit(inline="always")
def _is_clear(comparison, value, threshold, level):  # type: ignore[no-untyped-def]
    if _compare(comparison, value, threshold):
        return False
    return value >= level if comparison == _BELOW else value <= level


@njit(inline="always")
def _is_known(known, slot):  # type: ignore[no-untyped-def]
    return (known[slot >> 3] >> (slot & 7)) & 1 != 0


@njit(inline="always")
def _forget(known, truth, slot):  # type: ignore[no-untyped-def]
    known[slot >> 3] &= np.uint8(255 ^ (1 << (slot & 7)))
    truth[slot, _HELD], truth[slot, _VERSION] = 0, 0


@njit(inline="always")
def _note(changes, shape, row, kind, member, moment):  # type: ignore[no-untyped-def]
    """Of more changes than there is room for only the number is kept."""
    n = shape[SHAPE_CHANGES]
    if n < changes.shape[0]:
        changes[n, 0], changes[n, 1], changes[n, 2], changes[n, 3] = row, kind, member, moment
    shape[SHAPE_CHANGES] = n + 1


@njit(
    _I64(
        types.Tuple((_I32S, _I64S)),
        types.Tuple((_F64S, _I32S, _U8S)),
        _F64S,
        _I64S,
        types.Tuple((_F64S2, _I64S2)),
        _I32S,
        types.Tuple((_I64S2, _U8S, _I64S2)),
        types.Tuple((_I64S, _I64S, _I32S, _I64S2)),
    ),
    nogil=True,
    cache=True,
)
def judge(rows, first, second, shape, members, member_of, states, found):  # type: ignore[no-untyped-def]
    """One condition on every row; returns the number of hits.

    ``rows`` = (slot or less than 0, occurred_at); ``first`` = (value, samples, order) of the first term; ``second`` is
    the value of the second term, or empty. ``shape`` = comparison, second comparison, whether one of two terms is
    enough, and cells that get the number of suppressed hits, of changes, of rows that member 0 was asked on, and how
    many accounts are known, which is given too. ``members`` = (two thresholds and two clear levels each; the columns of
    ``limits`` above each); ``member_of`` per slot is which of them watches it, -1 for none, and empty where the first
    watches all. ``states`` = a row of cooldowns per slot, a bit of whether it is known to be true, and a row of that.
    ``found`` = of hits (row, suppressed before it, member), and changes.
    """
    slots, moments = rows
    value, samples, order = first
    thresholds, limits = members
    state, known, truth = states
    hit_rows, hit_suppressed, hit_members, changes = found
    comparison, comparison2, any_of = shape[0], shape[1], shape[2] != 0
    everyone, two = member_of.shape[0] == 0, second.shape[0] > 0
    n, asked, of_known = 0, 0, shape[SHAPE_KNOWN]
    for row in range(slots.shape[0]):
        slot = slots[row]
        if slot < 0 or order[row] >= _TOO_LATE:
            continue
        member = 0 if everyone else member_of[slot]
        if member < 0:
            continue
        asked += member == 0
        holds = _compare(comparison, value[row], thresholds[member, 0])
        if two and holds != any_of:
            holds = _compare(comparison2, second[row], thresholds[member, 1])
        holds = holds and samples[row] >= limits[member, _MIN_SAMPLES]
        for_ms = limits[member, _FOR_MS]
        is_known = of_known != 0 and _is_known(known, slot)
        if not holds and not is_known:
            if for_ms > 0 and state[slot, _SINCE] != 0:
                state[slot, _SINCE] = 0
            continue
        moment = moments[row]
        if is_known and truth[slot, _VERSION] != limits[member, _MARK_OF_VERSION]:
            is_known = False
        elif is_known and moment - (truth[slot, _HELD] + _EMPTY) >= limits[member, _LAPSE_MS]:
            _note(changes, shape, row, _LAPSED, member, truth[slot, _HELD] + _EMPTY + limits[member, _LAPSE_MS])
            is_known = False
        if not holds:
            if for_ms > 0 and state[slot, _SINCE] != 0:
                state[slot, _SINCE] = 0
            if is_known and samples[row] >= limits[member, _CLEAR_SAMPLES]:
                clear = _is_clear(comparison, value[row], thresholds[member, 0], thresholds[member, 2])
                if two and clear == any_of:
                    clear = _is_clear(comparison2, second[row], thresholds[member, 1], thresholds[member, 3])
                if clear:
                    _note(changes, shape, row, _CLEARED, member, moment)
                    is_known = False
            if not is_known:
                of_known -= 1
                _forget(known, truth, slot)
            continue
        if not is_known:
            of_known += not _is_known(known, slot)
            known[slot >> 3] |= np.uint8(1 << (slot & 7))
            truth[slot, _HELD], truth[slot, _VERSION] = 0, limits[member, _MARK_OF_VERSION]
        truth[slot, _HELD] = max(truth[slot, _HELD], moment - _EMPTY)
        if state[slot, _WHO] != limits[member, _MARK]:  # another trigger's row says nothing about this one
            state[slot, _UNTIL], state[slot, _SINCE], state[slot, _SUPPRESSED] = 0, 0, 0
            state[slot, _WHO] = limits[member, _MARK]
        if for_ms > 0:
            if state[slot, _SINCE] == 0:
                state[slot, _SINCE] = moment - _EMPTY
            if moment - (state[slot, _SINCE] + _EMPTY) < for_ms:
                if not is_known:
                    _note(changes, shape, row, _WAITS, member, moment)
                continue
        if moment - _EMPTY < state[slot, _UNTIL]:
            state[slot, _SUPPRESSED] += 1
            shape[SHAPE_SUPPRESSED] += 1
            if not is_known:
                _note(changes, shape, row, _SUPPRESSED_AT_FIRST, member, moment)
            continue
        state[slot, _UNTIL] = moment + limits[member, _COOLDOWN_MS] - _EMPTY
        hit_rows[n] = row
        hit_suppressed[n] = state[slot, _SUPPRESSED]
        hit_members[n] = member
        state[slot, _SUPPRESSED] = 0
        n += 1
    shape[SHAPE_EVALUATED], shape[SHAPE_KNOWN] = asked, of_known
    return n


@njit(
    _I64(_I64, _I32S, _I64S2, types.Tuple((_U8S, _I64S2)), types.Tuple((_I32S, _I32S, _I64S))),
    nogil=True,
    cache=True,
)
def forget_lapsed(edge, member_of, limits, states, found):  # type: ignore[no-untyped-def]
    """Of whom the condition was last true a whole window before ``edge``; they are not known any more. Returns how
    many.

    ``found`` = (slot, member, when its window was over), with room for all that are known.
    """
    known, truth = states
    slots, members, moments = found
    everyone = member_of.shape[0] == 0
    n = 0
    for slot in range(truth.shape[0]):
        if not _is_known(known, slot):
            continue
        member = 0 if everyone else member_of[slot] if slot < member_of.shape[0] else -1
        is_mine = member >= 0 and truth[slot, _VERSION] == limits[member, _MARK_OF_VERSION]
        over = truth[slot, _HELD] + _EMPTY + limits[member, _LAPSE_MS] if is_mine else edge
        if over > edge:
            continue
        _forget(known, truth, slot)
        if is_mine:
            slots[n], members[n], moments[n] = slot, member, over
            n += 1
    return n
