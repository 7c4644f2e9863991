"""Compiled loop over rules: one program over the columns of its aggregates' values.

Instruction by instruction over blocks of rows, not row by row: deciding what an instruction means then costs
nothing, and most loops vectorise. A cell is a double or, seen through another view, a whole number; which of the
two, the compiler knew. Beside each cell lies whether there is a value at all: errors are values without one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, types

from emergency_stop.rules.model import BINARY, LIST_BASE, TERNARY, UNARY, Op

#: Rows at a time: the cells of a usual program stay in the first-level cache.
BLOCK: Final = 256
FALSE, TRUE, NO_VALUE = 0, 1, 2
_BLOCK: Final = BLOCK
_NO_VALUE: Final = NO_VALUE
_UNARY: Final = int(UNARY)
_BINARY: Final = int(BINARY)
_TERNARY: Final = int(TERNARY)
_LIST_BASE: Final = LIST_BASE
_LOAD_D: Final = int(Op.LOAD_D)
_LOAD_I: Final = int(Op.LOAD_I)
_CONST_D: Final = int(Op.CONST_D)
_NOT: Final = int(Op.NOT)
_NEG_D: Final = int(Op.NEG_D)
_NEG_I: Final = int(Op.NEG_I)
_TO_DOUBLE: Final = int(Op.TO_DOUBLE)
_TO_INT: Final = int(Op.TO_INT)
_IN_D: Final = int(Op.IN_D)
_ADD_D: Final = int(Op.ADD_D)
_SUB_D: Final = int(Op.SUB_D)
_MUL_D: Final = int(Op.MUL_D)
_ADD_I: Final = int(Op.ADD_I)
_SUB_I: Final = int(Op.SUB_I)
_MUL_I: Final = int(Op.MUL_I)
_DIV_I: Final = int(Op.DIV_I)
_LESS_D: Final = int(Op.LESS_D)
_LESS_EQUAL_D: Final = int(Op.LESS_EQUAL_D)
_GREATER_D: Final = int(Op.GREATER_D)
_GREATER_EQUAL_D: Final = int(Op.GREATER_EQUAL_D)
_EQUAL_D: Final = int(Op.EQUAL_D)
_LESS_I: Final = int(Op.LESS_I)
_LESS_EQUAL_I: Final = int(Op.LESS_EQUAL_I)
_GREATER_I: Final = int(Op.GREATER_I)
_GREATER_EQUAL_I: Final = int(Op.GREATER_EQUAL_I)
_AND: Final = int(Op.AND)
_OR: Final = int(Op.OR)
_INT_MIN: Final = -(2**63)
_TWO_63: Final = float(2**63)
_SAFE: Final = float(2**62)


@njit(inline="always")
def _push(op, source, known, constant, cells, whole, sure):  # type: ignore[no-untyped-def]
    """An aggregate's column, or a constant. Without a value, a whole number is 0: NaN is none."""
    if op == _LOAD_D:
        for row in range(source.shape[0]):
            cells[row] = source[row]
            sure[row] = known[row] != 0
    elif op == _LOAD_I:
        for row in range(source.shape[0]):
            sure[row] = known[row] != 0
            whole[row] = np.int64(source[row]) if known[row] != 0 else 0
    elif op == _CONST_D:
        cells[: source.shape[0]] = constant
        sure[: source.shape[0]] = 1
    else:
        whole[: source.shape[0]] = np.int64(constant)
        sure[: source.shape[0]] = 1


@njit(inline="always")
def _unary(op, size, cells, whole, sure):  # type: ignore[no-untyped-def]
    for row in range(size):
        if op == _NOT:
            whole[row] = 1 - whole[row]
        elif op == _NEG_D:
            cells[row] = -cells[row]
        elif op == _TO_DOUBLE:
            cells[row] = np.float64(whole[row])
        elif op == _NEG_I:
            sure[row] &= whole[row] != _INT_MIN
            whole[row] = -whole[row]
        else:  # to int: towards zero, strictly between the bounds
            fits = -_TWO_63 < cells[row] < _TWO_63
            sure[row] &= fits
            whole[row] = np.int64(cells[row]) if fits else 0


@njit(inline="always")
def _among(op, size, listed, cells, whole):  # type: ignore[no-untyped-def]
    for row in range(size):
        found = 0
        for index in range(listed.shape[0]):
            if op == _IN_D:
                found |= cells[row] == listed[index]
            else:
                found |= whole[row] == np.int64(listed[index])
        whole[row] = found


@njit(inline="always")
def _of_doubles(op, size, a, b):  # type: ignore[no-untyped-def]
    if op == _ADD_D:
        for row in range(size):
            a[row] += b[row]
    elif op == _SUB_D:
        for row in range(size):
            a[row] -= b[row]
    elif op == _MUL_D:
        for row in range(size):
            a[row] *= b[row]
    else:
        for row in range(size):
            a[row] /= b[row]


@njit(inline="always")
def _times(a, b):  # type: ignore[no-untyped-def]
    """(product, whether it fits). The double's product is right to one part in 2^52, so it decides but the brink."""
    rough = np.float64(a) * np.float64(b)
    if -_SAFE < rough < _SAFE:
        return a * b, True
    if rough >= 2 * _TWO_63 or rough <= -2 * _TWO_63:
        return np.int64(0), False
    product = a * b  # not 0 here, and at most once around
    return product, (product < 0) == (rough < 0.0)


@njit(inline="always")
def _divided(op, a, b):  # type: ignore[no-untyped-def]
    """(quotient towards zero or the remainder of that, whether there is one)."""
    if b == 0 or (a == _INT_MIN and b == -1):
        return np.int64(0), False
    quotient = a // b
    remainder = a - quotient * b
    if remainder != 0 and (remainder < 0) != (a < 0):
        quotient += 1
        remainder -= b
    return (quotient if op == _DIV_I else remainder), True


@njit(inline="always")
def _of_ints(op, size, a, b, sure):  # type: ignore[no-untyped-def]
    for row in range(size):
        left, right = a[row], b[row]
        if op == _ADD_I:
            result = left + right
            fits = ((left ^ result) & (right ^ result)) >= 0
        elif op == _SUB_I:
            result = left - right
            fits = ((left ^ right) & (left ^ result)) >= 0
        elif op == _MUL_I:
            result, fits = _times(left, right)
        else:
            result, fits = _divided(op, left, right)
        a[row] = result
        sure[row] &= fits


@njit(inline="always")
def _compared(op, less, less_equal, size, a, b, out):  # type: ignore[no-untyped-def]
    if op == less:
        for row in range(size):
            out[row] = a[row] < b[row]
    elif op == less_equal:
        for row in range(size):
            out[row] = a[row] <= b[row]
    else:
        for row in range(size):
            out[row] = a[row] == b[row]


@njit(inline="always")
def _compare(op, size, cells, whole, top):  # type: ignore[no-untyped-def]
    """Into the lower cell. Greater is less with the sides exchanged."""
    low, high = top - 2, top - 1
    if op <= _EQUAL_D:
        if op == _GREATER_D:
            _compared(_LESS_D, _LESS_D, _LESS_EQUAL_D, size, cells[high], cells[low], whole[low])
        elif op == _GREATER_EQUAL_D:
            _compared(_LESS_EQUAL_D, _LESS_D, _LESS_EQUAL_D, size, cells[high], cells[low], whole[low])
        else:
            _compared(op, _LESS_D, _LESS_EQUAL_D, size, cells[low], cells[high], whole[low])
    elif op == _GREATER_I:
        _compared(_LESS_I, _LESS_I, _LESS_EQUAL_I, size, whole[high], whole[low], whole[low])
    elif op == _GREATER_EQUAL_I:
        _compared(_LESS_EQUAL_I, _LESS_I, _LESS_EQUAL_I, size, whole[high], whole[low], whole[low])
    else:
        _compared(op, _LESS_I, _LESS_EQUAL_I, size, whole[low], whole[high], whole[low])


@njit(inline="always")
def _logic(op, size, a, b, sure_a, sure_b):  # type: ignore[no-untyped-def]
    """``decisive`` decides alone, whatever the other side is, or that it has no value."""
    decisive = 1 if op == _OR else 0
    for row in range(size):
        decided = (sure_a[row] & (a[row] == decisive)) | (sure_b[row] & (b[row] == decisive))
        sure_a[row] = decided | (sure_a[row] & sure_b[row])
        a[row] = decisive if decided else 1 - decisive


@njit(inline="always")
def _choose(size, condition, yes, no, sure, sure_yes, sure_no):  # type: ignore[no-untyped-def]
    for row in range(size):
        is_yes = condition[row] != 0
        sure[row] &= sure_yes[row] if is_yes else sure_no[row]
        condition[row] = yes[row] if is_yes else no[row]


@njit(
    types.void(
        types.int64[:, ::1],
        types.float64[::1],
        types.int64,
        types.float64[:, ::1],
        types.uint8[:, ::1],
        types.uint8[::1],
    ),
    nogil=True,
    cache=True,
    error_model="numpy",
)
def run_program(ops, constants, stack_max, values, known, out):  # type: ignore[no-untyped-def]
    """One rule on every row: ``out[row]`` is 0 (false), 1 (true) or 2 (no value, which stops nothing).

    ``ops``, ``constants`` and ``stack_max`` are a ``Program``'s. ``values[k, row]`` is the k-th aggregate's value,
    as ``AggregateCall`` describes it, wherever ``known[k, row]`` is 1. Three-valued as CEL is: an error spreads,
    but ``false && error`` is false, ``true || error`` is true, and ``?:`` is its chosen branch.
    """
    cells = np.empty((stack_max, _BLOCK), np.float64)
    whole = cells.view(np.int64)
    sure = np.empty((stack_max, _BLOCK), np.uint8)
    for first in range(0, out.shape[0], _BLOCK):
        size = min(_BLOCK, out.shape[0] - first)
        rows = slice(first, first + size)
        top = 0
        for index in range(ops.shape[0]):
            op, operand = ops[index, 0], ops[index, 1]
            if op < _UNARY:
                source = operand if op <= _LOAD_I else 0
                constant = constants[operand] if op > _LOAD_I else 0.0
                _push(op, values[source, rows], known[source, rows], constant, cells[top], whole[top], sure[top])
                top += 1
                continue
            if op < _IN_D:
                _unary(op, size, cells[top - 1], whole[top - 1], sure[top - 1])
                continue
            if op < _BINARY:
                start = operand // _LIST_BASE
                listed = constants[start : start + operand % _LIST_BASE]
                _among(op, size, listed, cells[top - 1], whole[top - 1])
                continue
            if op >= _TERNARY:
                _choose(
                    size, whole[top - 3], whole[top - 2], whole[top - 1], sure[top - 3], sure[top - 2], sure[top - 1]
                )
                top -= 2
                continue
            if op >= _AND:
                _logic(op, size, whole[top - 2], whole[top - 1], sure[top - 2], sure[top - 1])
                top -= 1
                continue
            if op < _ADD_I:
                _of_doubles(op, size, cells[top - 2], cells[top - 1])
            elif op < _LESS_D:
                _of_ints(op, size, whole[top - 2], whole[top - 1], sure[top - 2])
            else:
                _compare(op, size, cells, whole, top)
            for row in range(size):
                sure[top - 2, row] &= sure[top - 1, row]
            top -= 1
        for row in range(size):
            out[first + row] = (whole[0, row] != 0) if sure[0, row] != 0 else _NO_VALUE
