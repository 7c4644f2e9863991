"""Compiled loops over windows and conditions. Arrays and scalars in, arrays out; callers validate and allocate.

Every kernel has a naive twin in ``tests/oracle``. They release the GIL and keep no reference.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, types

from emergency_stop.detect.account_kernels import BLOCK
from emergency_stop.detect.plan import PANES, Aggregate, Comparison

_PANES: Final = PANES
#: A pane series' row, in 8-byte cells: newest pane, newest moment, the panes' values, and their counts in halves.
PANE_CELLS: Final = 2 + PANES + PANES // 2
_VALUES: Final = 2
_COUNTS: Final = 2 * (2 + PANES)  # in 4-byte cells
_AVG: Final = int(Aggregate.AVG)
_MAX: Final = int(Aggregate.MAX)
_BELOW: Final = int(Comparison.BELOW)
_ABOVE: Final = int(Comparison.ABOVE)
_BLOCK: Final = BLOCK
#: No sample yet: earlier than any pane or moment.
EMPTY: Final = -(2**62)
_EMPTY: Final = EMPTY
IN_ORDER, OUT_OF_ORDER, TOO_LATE, NOT_A_SAMPLE = 0, 1, 2, 3
_IN_ORDER, _OUT_OF_ORDER, _TOO_LATE, _NOT_A_SAMPLE = IN_ORDER, OUT_OF_ORDER, TOO_LATE, NOT_A_SAMPLE

_I64, _F64 = types.int64, types.float64
_I64S, _I64S2, _F64S, _F64S2 = types.int64[::1], types.int64[:, ::1], types.float64[::1], types.float64[:, ::1]
#: What a row of ``extend_runs`` holds.
RUN_CELLS: Final = 3
_I32S, _I32S2, _U64S, _U64S2, _U8S = (
    types.int32[::1],
    types.int32[:, ::1],
    types.uint64[::1],
    types.uint64[:, ::1],
    types.uint8[::1],
)


@njit(inline="always")
def _touch_panes(slots, whole, first, last):  # type: ignore[no-untyped-def]
    """As ``account_kernels._touch_table``, for the cache lines of a block's rows."""
    touched = np.int64(0)
    for row in range(first, last):
        if slots[row] >= 0:
            touched += whole[slots[row], 0] + whole[slots[row], 8] + whole[slots[row], PANE_CELLS - 1]
    return touched


@njit(inline="always")
def _open_pane(row_values, row_counts, pane, gap, empty):  # type: ignore[no-untyped-def]
    """Clear what lies in the ring's places of the ``gap`` newest panes. Without a branch per place: it vectorises."""
    newest = pane % _PANES
    for index in range(_PANES):
        age = newest - index if index <= newest else newest - index + _PANES
        stale = age < gap
        row_values[_VALUES + index] = empty if stale else row_values[_VALUES + index]
        row_counts[_COUNTS + index] = 0 if stale else row_counts[_COUNTS + index]


@njit(inline="always")
def _total(aggregate, row_values, oldest):  # type: ignore[no-untyped-def]
    """The panes' values folded from the oldest pane to the newest; an empty pane changes nothing."""
    if aggregate == _AVG:
        total = 0.0
        for index in range(oldest, _PANES):
            total += row_values[_VALUES + index]
        for index in range(oldest):
            total += row_values[_VALUES + index]
        return total
    total = row_values[_VALUES]
    for index in range(1, _PANES):
        value = row_values[_VALUES + index]
        total = max(total, value) if aggregate == _MAX else min(total, value)
    return total


@njit(
    types.void(
        _I64,
        _I64,
        types.Tuple((_I32S, _I64S, _F64S)),
        types.Tuple((_I64S2, _F64S2, _I32S2)),
        types.Tuple((_F64S, _I32S, _U8S)),
    ),
    nogil=True,
    cache=True,
)
def fold_panes(aggregate, pane_ms, rows, state, out):  # type: ignore[no-untyped-def]
    """Avg, max or min over the newest pane of the account and the eleven before it.

    ``rows`` = (slot or -1, occurred_at, value). ``state`` = the series' rows (see ``PANE_CELLS``), one per slot
    and three cache lines long, as int64, as float64 and as int32. ``out`` per row = (aggregate, samples,
    order). Sums add up in arrival order within a pane, and pane by pane from the oldest to the newest, so
    that replays agree to the last bit. Panes without samples hold what folding leaves alone (0 or an infinity),
    because which panes have samples is random, and a branch on it would mostly be mispredicted.
    """
    slots, moments, values = rows
    whole, pane_value, pane_count = state
    touched = np.zeros(1, np.int64)  # an array, so that the loads are not optimised away
    result, samples, order = out
    empty = 0.0 if aggregate == _AVG else -np.inf if aggregate == _MAX else np.inf
    for row in range(slots.shape[0]):
        if row % _BLOCK == 0:
            touched[0] += _touch_panes(slots, whole, row, min(row + _BLOCK, slots.shape[0]))
        slot = slots[row]
        value = values[row]
        if slot < 0 or value != value:
            order[row] = _NOT_A_SAMPLE
            continue
        moment = moments[row]
        pane = moment // pane_ms
        newest = whole[slot, 0]
        if pane > newest:
            gap = _PANES if newest == _EMPTY else min(pane - newest, _PANES)
            _open_pane(pane_value[slot], pane_count[slot], pane, gap, empty)
            newest = pane
            whole[slot, 0] = pane
        elif pane <= newest - _PANES:
            order[row] = _TOO_LATE
            continue
        order[row] = _IN_ORDER if moment >= whole[slot, 1] else _OUT_OF_ORDER
        whole[slot, 1] = max(moment, whole[slot, 1])
        place = _VALUES + pane % _PANES
        if aggregate == _AVG:
            pane_value[slot, place] += value
        elif (value > pane_value[slot, place]) == (aggregate == _MAX):
            pane_value[slot, place] = value
        pane_count[slot, _COUNTS + pane % _PANES] += 1
        n = np.int32(0)
        for index in range(_PANES):
            n += pane_count[slot, _COUNTS + index]
        total = _total(aggregate, pane_value[slot], (newest + 1) % _PANES)
        result[row] = total / n if aggregate == _AVG else total
        samples[row] = n


@njit(inline="always")
def _arrival(moment, newest, window_ms):  # type: ignore[no-untyped-def]
    """How an event arrives at a window that slides with its newest one."""
    if newest != _EMPTY and moment <= newest - window_ms:
        return _TOO_LATE
    return _IN_ORDER if moment >= newest else _OUT_OF_ORDER


@njit(inline="always")
def _in_window(latest, slot, window_ms):  # type: ignore[no-untyped-def]
    """How many of the slot's moments, newest first, lie in the window that ends at the newest one."""
    n = 0
    while n < latest.shape[1] and latest[slot, n] > latest[slot, 0] - window_ms:
        n += 1
    return n


@njit(
    types.void(_I64, types.Tuple((_I32S, _I64S)), _I64S2, types.Tuple((_F64S, _I32S, _U8S))),
    nogil=True,
    cache=True,
)
def count_latest(window_ms, rows, latest, out):  # type: ignore[no-untyped-def]
    """How many of the ``depth`` latest moments lie in the window that ends at the newest one.

    ``latest`` per slot: moments, newest first. Exact for every limit up to ``depth``: the k-th latest
    moment tells whether there are k.
    """
    slots, moments = rows
    result, samples, order = out
    depth = latest.shape[1]
    for row in range(slots.shape[0]):
        slot = slots[row]
        if slot < 0:
            order[row] = _NOT_A_SAMPLE
            continue
        moment = moments[row]
        newest = latest[slot, 0]
        order[row] = _arrival(moment, newest, window_ms)
        if order[row] == _TOO_LATE:
            continue
        place = depth
        while place > 0 and latest[slot, place - 1] < moment:
            place -= 1
        if place < depth:
            for index in range(depth - 1, place, -1):
                latest[slot, index] = latest[slot, index - 1]
            latest[slot, place] = moment
        result[row] = samples[row] = _in_window(latest, slot, window_ms)


@njit(
    types.void(
        _I64,
        types.Tuple((_I32S, _I64S, _U64S)),
        types.Tuple((_I64S2, _U64S2)),
        types.Tuple((_F64S, _I32S, _U8S)),
    ),
    nogil=True,
    cache=True,
)
def count_distinct(window_ms, rows, state, out):  # type: ignore[no-untyped-def]
    """How many of the ``depth`` most recently seen distinct values were seen in the window.

    ``state`` per slot = (latest moment, value), latest first. Exact up to ``depth``: a value that falls
    out was seen before ``depth`` others, whose moments only grow.
    """
    slots, moments, values = rows
    latest, seen = state
    result, samples, order = out
    depth = latest.shape[1]
    for row in range(slots.shape[0]):
        slot = slots[row]
        if slot < 0:
            order[row] = _NOT_A_SAMPLE
            continue
        moment = moments[row]
        value = values[row]
        newest = latest[slot, 0]
        order[row] = _arrival(moment, newest, window_ms)
        if order[row] == _TOO_LATE:
            continue
        last = depth - 1  # where the entry that makes room is: the value itself, or the oldest
        for index in range(depth):
            if latest[slot, index] != _EMPTY and seen[slot, index] == value:
                last = index
                break
        known = latest[slot, last] != _EMPTY and seen[slot, last] == value
        if moment > latest[slot, last] or (not known and latest[slot, last] == _EMPTY):
            place = last
            while place > 0 and latest[slot, place - 1] < moment:
                latest[slot, place] = latest[slot, place - 1]
                seen[slot, place] = seen[slot, place - 1]
                place -= 1
            latest[slot, place] = moment
            seen[slot, place] = value
        result[row] = samples[row] = _in_window(latest, slot, window_ms)


@njit(
    types.void(_I64, types.Tuple((_I32S, _I64S)), _I64S2, types.Tuple((_F64S, _I32S, _U8S))),
    nogil=True,
    cache=True,
)
def extend_runs(pause_ms, rows, runs, out):  # type: ignore[no-untyped-def]
    """How long the account has been active, ms: from its run's first event to its newest one.

    ``runs`` per slot = (newest moment, first moment, events). A pause of more than ``pause_ms`` starts a new run.
    """
    slots, moments = rows
    result, samples, order = out
    for row in range(slots.shape[0]):
        slot = slots[row]
        if slot < 0:
            order[row] = _NOT_A_SAMPLE
            continue
        moment = moments[row]
        newest = runs[slot, 0]
        order[row] = _arrival(moment, newest, pause_ms)
        if order[row] == _TOO_LATE:
            continue
        if newest == _EMPTY or moment - newest > pause_ms:
            runs[slot, 0], runs[slot, 1], runs[slot, 2] = moment, moment, 0
        runs[slot, 0] = max(runs[slot, 0], moment)
        runs[slot, 1] = min(runs[slot, 1], moment)
        runs[slot, 2] += 1
        result[row] = runs[slot, 0] - runs[slot, 1]
        samples[row] = runs[slot, 2]


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
        types.Tuple((_F64, _F64)),
        types.Tuple((_I64S, _I32S, _I64S)),
        types.Tuple((_I64S, _I32S)),
    ),
    nogil=True,
    cache=True,
)
def evaluate(rows, first, second, limits, thresholds, state, hits):  # type: ignore[no-untyped-def]
    """One trigger's condition on every row; returns the number of hits.

    ``rows`` = (slot or -1, occurred_at); ``first`` = (aggregate, samples, order) of the first term;
    ``second`` is the aggregate of the second term, or empty. ``limits`` = comparison, second comparison,
    min_samples, for_ms, cooldown_ms, only this slot or -1, a cell that gets the number of suppressed hits, and
    whether one of two terms is enough. ``state`` per slot = (cooldown until, hits suppressed since the last one,
    condition true since; kept only where ``for_ms`` is not 0). ``hits`` = (row, suppressed before it).
    """
    slots, moments = rows
    value, samples, order = first
    until, suppressed, since = state
    hit_rows, hit_suppressed = hits
    comparison, comparison2, samples_min, for_ms, cooldown_ms, only = (
        limits[0], limits[1], limits[2], limits[3], limits[4], limits[5],
    )  # fmt: skip
    any_of = limits[7] != 0
    n = 0
    for row in range(slots.shape[0]):
        slot = slots[row]
        if slot < 0 or order[row] >= _TOO_LATE or (only >= 0 and slot != only):
            continue
        holds = _compare(comparison, value[row], thresholds[0])
        if second.shape[0] > 0 and holds != any_of:
            holds = _compare(comparison2, second[row], thresholds[1])
        if not holds or samples[row] < samples_min:
            if for_ms > 0:  # else nobody asks, and a write per event would fetch a cache line each
                since[slot] = _EMPTY
            continue
        moment = moments[row]
        if for_ms > 0:
            if since[slot] == _EMPTY:
                since[slot] = moment
            if moment - since[slot] < for_ms:
                continue
        if moment < until[slot]:
            suppressed[slot] += 1
            limits[6] += 1
            continue
        until[slot] = moment + cooldown_ms
        hit_rows[n] = row
        hit_suppressed[n] = suppressed[slot]
        suppressed[slot] = 0
        n += 1
    return n
