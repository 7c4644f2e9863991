"""Compiled loops over windows: rows in, every series' value as each row saw it out.

Arrays and scalars in, arrays out; callers validate and allocate. They release the GIL and keep no reference. Every
kernel has a naive twin in ``tests/oracle``. Helpers take a table and a slot, never ``table[slot]``: such a view counts
references, by two locked instructions, which cost a third of all time when they stood in the loop over rows.

Codes of rows: a slot of 0 or more is a sample of that account; -1 is left out; -2 - slot only reads what the account's
window holds at the row's moment. Moments are kept as their distance from ``EMPTY``, so that memory which was never
written means: no sample yet. ``out`` per row = (value, samples in the window, order).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, types

from emergency_stop.detect.account_kernels import BLOCK
from emergency_stop.detect.series import PANES, Aggregate

_PANES: Final = PANES
#: A pane series' row, in 8-byte cells: newest moment, the panes' values, and their counts: 2 bytes each, or 4 once a
#: pane of some account has held more than ``NARROW_MAX`` samples. A narrow row is two cache lines.
NARROW_CELLS: Final = 1 + PANES + PANES // 4
WIDE_CELLS: Final = 1 + PANES + PANES // 2
NARROW_MAX: Final = 2**16 - 1
WIDE_MAX: Final = 2**32 - 1
#: As many samples as are told of a window; more are this many.
SAMPLES_MAX: Final = 2**31 - 1
_SAMPLES_MAX: Final = SAMPLES_MAX
_VALUES: Final = 1
_AVG: Final = int(Aggregate.AVG)
_MAX: Final = int(Aggregate.MAX)
_MIN: Final = int(Aggregate.MIN)
_TALLY: Final = int(Aggregate.TALLY)
_BLOCK: Final = BLOCK
#: Earlier than any moment.
EMPTY: Final = -(2**62)
_EMPTY: Final = EMPTY
#: How a row stands to a window. ``NEVER_SEEN`` is told by ``count_latest`` alone: the account has had no sample yet.
IN_ORDER, OUT_OF_ORDER, TOO_LATE, NOT_A_SAMPLE, NEVER_SEEN = 0, 1, 2, 3, 4
_IN_ORDER, _OUT_OF_ORDER, _TOO_LATE, _NOT_A_SAMPLE, _NEVER_SEEN = 0, 1, 2, 3, 4
#: What rows of ``extend_runs`` and ``keep_last`` hold.
RUN_CELLS: Final = 3
LAST_CELLS: Final = 2
#: Moments beyond this are not exact as floating point.
_EXACT: Final = 2**52

_I64, _F64 = types.int64, types.float64
_I64S, _I64S2, _F64S, _F64S2 = types.int64[::1], types.int64[:, ::1], types.float64[::1], types.float64[:, ::1]
_I32S, _U64S, _U64S2, _U8S = types.int32[::1], types.uint64[::1], types.uint64[:, ::1], types.uint8[::1]
_OUT = types.Tuple((_F64S, _I32S, _U8S))


@njit(inline="always")
def _touch_rows(slots, whole, first, last):  # type: ignore[no-untyped-def]
    """As ``account_kernels._touch_table``, for the cache lines of a block's rows."""
    touched = np.int64(0)
    for row in range(first, last):
        code = slots[row]
        if code != -1:
            slot = code if code >= 0 else -2 - code
            touched += whole[slot, 0] + whole[slot, 8]
    return touched


@njit(inline="always")
def _pane_of(moment, pane_ms, panes_per_ms):  # type: ignore[no-untyped-def]
    """``moment // pane_ms``, by a multiplication that is put right: a division takes several times as long."""
    if moment > _EXACT or moment < -_EXACT:
        return moment // pane_ms
    pane = np.int64(moment * panes_per_ms)
    rest = moment - pane * pane_ms
    if rest < 0:
        return pane - 1
    return pane + 1 if rest >= pane_ms else pane


def _kept_places():  # type: ignore[no-untyped-def]
    """Per place of the newest pane and number of panes that open: all ones for the places that stay, else zero."""
    newest, gap, place = np.ogrid[:PANES, : PANES + 1, :PANES]
    return np.where((newest - place) % PANES < gap, 0, -1)


_KEPT_BITS: Final = _kept_places().astype(np.int64)
_KEPT_COUNTS: Final = _KEPT_BITS.astype(np.uint32)


@njit(inline="always")
def _open_panes(whole, counts, slot, first_count, pane, gap, empty_bits):  # type: ignore[no-untyped-def]
    """Clear what lies in the ring's places of the ``gap`` newest panes. By masks, not by branches: it vectorises."""
    newest = pane % _PANES
    for index in range(_PANES):
        kept = _KEPT_BITS[newest, gap, index]
        whole[slot, _VALUES + index] = (whole[slot, _VALUES + index] & kept) | (empty_bits & ~kept)
    for index in range(_PANES):
        counts[slot, first_count + index] &= counts.dtype.type(_KEPT_COUNTS[newest, gap, index])


@njit(inline="always")
def _folded(aggregate, values, slot):  # type: ignore[no-untyped-def]
    """All panes' values folded; an empty pane changes nothing. Sums in four lanes, in an order of their own."""
    if aggregate == _MAX or aggregate == _MIN:
        total = values[slot, _VALUES]
        for index in range(1, _PANES):
            value = values[slot, _VALUES + index]
            total = max(total, value) if aggregate == _MAX else min(total, value)
        return total
    a, b, c, d = values[slot, _VALUES], values[slot, _VALUES + 1], values[slot, _VALUES + 2], values[slot, _VALUES + 3]
    for index in range(4, _PANES, 4):
        a += values[slot, _VALUES + index]
        b += values[slot, _VALUES + index + 1]
        c += values[slot, _VALUES + index + 2]
        d += values[slot, _VALUES + index + 3]
    return (a + b) + (c + d)


@njit(inline="always")
def _without_old(values, counts, slot, first_count, pane, gap, empty, kept, kept_counts):  # type: ignore[no-untyped-def]
    """The row as it would be once ``gap`` further panes had opened, up to ``pane``; the row itself stays."""
    for index in range(_PANES):
        kept[0, _VALUES + index] = values[slot, _VALUES + index]
        kept_counts[index] = counts[slot, first_count + index]
    newest = pane % _PANES
    for index in range(_PANES):
        age = newest - index if index <= newest else newest - index + _PANES
        if age < gap:
            kept[0, _VALUES + index] = empty
            kept_counts[index] = 0


def _fold_panes(aggregate, pane_ms, start, rows, state, counts, out):  # type: ignore[no-untyped-def]
    """Avg, max, min, sum or number over the newest pane of the account and the eleven before it.

    ``rows`` = (code, occurred_at, value; NaN is no sample). ``state`` = the series' rows (see ``NARROW_CELLS``) as
    int64 and as float64, ``counts`` as what their counts are. Rows from ``start`` on; returns the row at which a
    narrow count would exceed its bound, else the number of rows; a wide count stays at its bound. Sums add up in
    arrival order within a pane, and the panes in an order that only their place decides, so that replays agree to the
    last bit. Panes without samples hold what folding leaves alone (0 or an infinity), because which panes have samples
    is random, and a branch on it would mostly be mispredicted.
    """
    slots, moments, values = rows
    whole, pane_value = state
    result, samples, order = out
    narrow = whole.shape[1] == NARROW_CELLS
    first_count = 4 * (1 + _PANES) if narrow else 2 * (1 + _PANES)
    empty = -np.inf if aggregate == _MAX else np.inf if aggregate == _MIN else 0.0
    empty_bits = np.float64(empty).view(np.int64)
    panes_per_ms = 1.0 / pane_ms
    touched = np.zeros(1, np.int64)  # an array, so that the loads are not optimised away
    kept, kept_counts = np.empty((1, 1 + _PANES), np.float64), np.empty(_PANES, np.int64)
    block_end = start
    for row in range(start, slots.shape[0]):
        if row >= block_end:
            block_end = min(row + _BLOCK, slots.shape[0])
            touched[0] += _touch_rows(slots, whole, row, block_end)
        code = slots[row]
        result[row] = 0.0
        samples[row] = 0
        order[row] = _NOT_A_SAMPLE
        if code == -1:
            continue
        slot = code if code >= 0 else -2 - code
        moment = moments[row]
        pane = _pane_of(moment, pane_ms, panes_per_ms)
        newest_moment = whole[slot, 0] + _EMPTY
        newest = _EMPTY if newest_moment == _EMPTY else _pane_of(newest_moment, pane_ms, panes_per_ms)
        value = values[row]
        if code >= 0 and value == value:
            if pane <= newest - _PANES:
                order[row] = _TOO_LATE
            else:
                place = pane % _PANES
                if pane > newest:
                    gap = _PANES if newest == _EMPTY else min(pane - newest, _PANES)
                    _open_panes(whole, counts, slot, first_count, pane, gap, empty_bits)
                    newest = pane
                elif narrow and counts[slot, first_count + place] == NARROW_MAX:
                    return row
                order[row] = _IN_ORDER if moment >= newest_moment else _OUT_OF_ORDER
                whole[slot, 0] = max(moment, newest_moment) - _EMPTY
                if aggregate == _MAX or aggregate == _MIN:
                    if (value > pane_value[slot, _VALUES + place]) == (aggregate == _MAX):
                        pane_value[slot, _VALUES + place] = value
                else:
                    pane_value[slot, _VALUES + place] += value
                if counts[slot, first_count + place] != WIDE_MAX:
                    counts[slot, first_count + place] += 1
        if newest == _EMPTY or pane >= newest + _PANES:
            continue
        n = np.int64(0)
        if pane > newest:  # read only: what would have left the window by then does not count
            _without_old(pane_value, counts, slot, first_count, pane, pane - newest, empty, kept, kept_counts)
            for index in range(_PANES):
                n += kept_counts[index]
            total = _folded(aggregate, kept, 0)
        else:
            for index in range(_PANES):
                n += counts[slot, first_count + index]
            total = _folded(aggregate, pane_value, slot)
        samples[row] = min(n, _SAMPLES_MAX)
        if n > 0:
            result[row] = total / n if aggregate == _AVG else n if aggregate == _TALLY else total
    return slots.shape[0]


fold_panes = njit(
    [
        _I64(_I64, _I64, _I64, types.Tuple((_I32S, _I64S, _F64S)), types.Tuple((_I64S2, _F64S2)), counts, _OUT)
        for counts in (types.uint16[:, ::1], types.uint32[:, ::1])
    ],
    nogil=True,
    cache=True,
)(_fold_panes)


@njit(inline="always")
def _arrival(moment, newest, window_ms):  # type: ignore[no-untyped-def]
    """How an event arrives at a window that slides with its newest one."""
    if newest != _EMPTY and moment <= newest - window_ms:
        return _TOO_LATE
    return _IN_ORDER if moment >= newest else _OUT_OF_ORDER


@njit(inline="always")
def _in_window(latest, slot, depth, until, window_ms):  # type: ignore[no-untyped-def]
    """How many of the slot's moments, newest first, lie in the window that ends at ``until``."""
    n = 0
    while n < depth and latest[slot, n] + _EMPTY > until - window_ms and latest[slot, n] != 0:
        n += 1
    return n


@njit(types.void(_I64, types.Tuple((_I32S, _I64S)), _I64S2, _OUT), nogil=True, cache=True)
def count_latest(window_ms, rows, latest, out):  # type: ignore[no-untyped-def]
    """How many of the ``depth`` latest moments lie in the window that ends at the newest one.

    ``latest`` per slot: moments, newest first. Exact for every limit up to ``depth``: the k-th latest
    moment tells whether there are k.
    """
    slots, moments = rows
    result, samples, order = out
    depth = latest.shape[1]
    for row in range(slots.shape[0]):
        code = slots[row]
        result[row] = 0.0
        samples[row] = 0
        order[row] = _NEVER_SEEN
        if code == -1:
            continue
        slot = code if code >= 0 else -2 - code
        moment = moments[row]
        if code < 0 and latest[slot, 0] != 0:
            order[row] = _NOT_A_SAMPLE
        if code >= 0:
            order[row] = _arrival(moment, latest[slot, 0] + _EMPTY, window_ms)
            if order[row] != _TOO_LATE:
                kept = moment - _EMPTY
                place = depth
                while place > 0 and latest[slot, place - 1] < kept:
                    place -= 1
                if place < depth:
                    for index in range(depth - 1, place, -1):
                        latest[slot, index] = latest[slot, index - 1]
                    latest[slot, place] = kept
        until = max(moment, latest[slot, 0] + _EMPTY)
        result[row] = samples[row] = _in_window(latest, slot, depth, until, window_ms)


@njit(inline="always")
def _see(latest, seen, slot, depth, kept, value):  # type: ignore[no-untyped-def]
    """Enter ``value``, seen at ``kept``, in its place by moment; the oldest makes room where it is new."""
    last = depth - 1
    for index in range(depth):
        if latest[slot, index] != 0 and seen[slot, depth + index] == value:
            last = index
            break
    if kept > latest[slot, last]:
        place = last
        while place > 0 and latest[slot, place - 1] < kept:
            latest[slot, place] = latest[slot, place - 1]
            seen[slot, depth + place] = seen[slot, depth + place - 1]
            place -= 1
        latest[slot, place] = kept
        seen[slot, depth + place] = value


@njit(
    types.void(_I64, types.Tuple((_I32S, _I64S, _U64S)), types.Tuple((_I64S2, _U64S2)), _OUT),
    nogil=True,
    cache=True,
)
def count_distinct(window_ms, rows, state, out):  # type: ignore[no-untyped-def]
    """How many of the ``depth`` most recently seen distinct values were seen in the window.

    ``state`` = the rows as int64 and as uint64: ``depth`` latest moments, latest first, then their values. Exact up
    to ``depth``: a value that falls out was seen before ``depth`` others, whose moments only grow.
    """
    slots, moments, values = rows
    latest, seen = state
    result, samples, order = out
    depth = latest.shape[1] // 2
    for row in range(slots.shape[0]):
        code = slots[row]
        result[row] = 0.0
        samples[row] = 0
        order[row] = _NOT_A_SAMPLE
        if code == -1:
            continue
        slot = code if code >= 0 else -2 - code
        moment = moments[row]
        if code >= 0:
            order[row] = _arrival(moment, latest[slot, 0] + _EMPTY, window_ms)
            if order[row] != _TOO_LATE:
                _see(latest, seen, slot, depth, moment - _EMPTY, values[row])
        until = max(moment, latest[slot, 0] + _EMPTY)
        result[row] = samples[row] = _in_window(latest, slot, depth, until, window_ms)


@njit(types.void(_I64, types.Tuple((_I32S, _I64S)), _I64S2, _OUT), nogil=True, cache=True)
def extend_runs(pause_ms, rows, runs, out):  # type: ignore[no-untyped-def]
    """How long the account has been active, ms: from its run's first event to its newest one.

    ``runs`` per slot = (newest moment, first moment, events). A pause of more than ``pause_ms`` starts a new run.
    """
    slots, moments = rows
    result, samples, order = out
    for row in range(slots.shape[0]):
        code = slots[row]
        result[row] = 0.0
        samples[row] = 0
        order[row] = _NOT_A_SAMPLE
        if code == -1:
            continue
        slot = code if code >= 0 else -2 - code
        moment = moments[row]
        newest = runs[slot, 0] + _EMPTY
        if code >= 0:
            order[row] = _arrival(moment, newest, pause_ms)
            if order[row] != _TOO_LATE:
                kept = moment - _EMPTY
                if newest == _EMPTY or moment - newest > pause_ms:
                    runs[slot, 0], runs[slot, 1], runs[slot, 2] = kept, kept, 0
                runs[slot, 0] = max(runs[slot, 0], kept)
                runs[slot, 1] = min(runs[slot, 1], kept)
                runs[slot, 2] += 1
        if runs[slot, 2] > 0 and moment - (runs[slot, 0] + _EMPTY) <= pause_ms:
            result[row] = runs[slot, 0] - runs[slot, 1]
            samples[row] = min(runs[slot, 2], _SAMPLES_MAX)


@njit(
    types.void(types.Tuple((_I32S, _I64S, _F64S)), types.Tuple((_I64S2, _F64S2)), _OUT),
    nogil=True,
    cache=True,
)
def keep_last(rows, state, out):  # type: ignore[no-untyped-def]
    """The value of the account's newest sample. ``state`` = (newest moment, value) as int64 and as float64."""
    slots, moments, values = rows
    newest, kept_value = state
    result, samples, order = out
    for row in range(slots.shape[0]):
        code = slots[row]
        result[row] = 0.0
        samples[row] = 0
        order[row] = _NOT_A_SAMPLE
        if code == -1:
            continue
        slot = code if code >= 0 else -2 - code
        value = values[row]
        if code >= 0 and value == value:
            kept = moments[row] - _EMPTY
            order[row] = _IN_ORDER if kept >= newest[slot, 0] else _OUT_OF_ORDER
            if kept >= newest[slot, 0]:
                newest[slot, 0] = kept
                kept_value[slot, 1] = value
        if newest[slot, 0] != 0:
            result[row] = kept_value[slot, 1]
            samples[row] = 1
