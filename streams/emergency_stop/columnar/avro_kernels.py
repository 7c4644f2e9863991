"""Compiled steps over Avro's binary form: read a number, a length, or pass over a whole value.

No kernel reads a byte that it has not checked to lie before ``end``: these are the only code that reads offsets out of
what the network sent. Positions are never trusted: a helper that fails returns a negative code ``-Reject`` in place of
a position. Kernels release the GIL. Helpers take a buffer, and a program's arrays, by their address (see ``memory``).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, types

from emergency_stop.columnar import program as p
from emergency_stop.columnar.memory import byte_at, eight_at, four_at, int_at
from emergency_stop.columnar.text_kernels import is_text
from emergency_stop.domain.reasons import Reject

DEPTH_MAX: Final = 32
_I64: Final = types.int64
_TRUNCATED: Final = -int(Reject.TRUNCATED)
_OVERLONG: Final = -int(Reject.OVERLONG_VARINT)
_BAD_LENGTH: Final = -int(Reject.BAD_LENGTH)
_BAD_ENUM: Final = -int(Reject.BAD_ENUM)
_BAD_UNION: Final = -int(Reject.BAD_UNION)
_BAD_BOOLEAN: Final = -int(Reject.BAD_BOOLEAN)
_NOT_FINITE: Final = -int(Reject.NOT_FINITE)
_TOO_DEEP: Final = -int(Reject.TOO_DEEP)
_BAD_UTF8: Final = -int(Reject.BAD_UTF8)
_NULL: Final = p.NULL
_BOOLEAN: Final = p.BOOLEAN
_INT: Final = p.INT
_LONG: Final = p.LONG
_FLOAT: Final = p.FLOAT
_DOUBLE: Final = p.DOUBLE
_BYTES: Final = p.BYTES
_STRING: Final = p.STRING
_ENUM: Final = p.ENUM
_UNION: Final = p.UNION
_ARRAY: Final = p.ARRAY
_MAP: Final = p.MAP
_ALL_ONES_EXPONENT: Final = 0x7FF


@njit(inline="always")
def varint(buffer, at, end):  # type: ignore[no-untyped-def]
    """(value, next position or -Reject) of a zigzag varint of at most 64 bits."""
    if at >= end:
        return np.int64(0), np.int64(_TRUNCATED)
    byte = byte_at(buffer, at)
    if byte < 128:  # most lengths and enum indexes: one byte
        return np.int64(byte >> np.uint64(1)) ^ -np.int64(byte & np.uint64(1)), at + 1
    raw = byte & np.uint64(127)
    shift = np.uint64(7)
    at += 1
    while True:
        if at >= end:
            return np.int64(0), np.int64(_TRUNCATED)
        byte = byte_at(buffer, at)
        at += 1
        if shift == np.uint64(63) and byte > 1:
            return np.int64(0), np.int64(_OVERLONG)
        raw |= (byte & np.uint64(127)) << shift
        if byte < 128:
            return np.int64(raw >> np.uint64(1)) ^ -np.int64(raw & np.uint64(1)), at
        shift += np.uint64(7)


@njit(inline="always")
def sized(buffer, at, end):  # type: ignore[no-untyped-def]
    """(length, start or -Reject) of length-prefixed bytes that lie whole before ``end``."""
    length, at = varint(buffer, at, end)
    if at < 0:
        return np.int64(0), at
    if length < 0:
        return np.int64(0), np.int64(_BAD_LENGTH)
    if length > end - at:
        return np.int64(0), np.int64(_BAD_LENGTH)
    return length, at


@njit(inline="always")
def real(op, buffer, at, end):  # type: ignore[no-untyped-def]
    """(value, next position or -Reject) of a finite double or float."""
    if op == _DOUBLE:
        if end - at < 8:
            return 0.0, np.int64(_TRUNCATED)
        bits = eight_at(buffer, at)
        if (bits >> np.uint64(52)) & np.uint64(_ALL_ONES_EXPONENT) == np.uint64(_ALL_ONES_EXPONENT):
            return 0.0, np.int64(_NOT_FINITE)
        return np.uint64(bits).view(np.float64), at + 8
    if end - at < 4:
        return 0.0, np.int64(_TRUNCATED)
    single = np.uint32(four_at(buffer, at)).view(np.float32)
    if not np.isfinite(single):
        return 0.0, np.int64(_NOT_FINITE)
    return np.float64(single), at + 4


@njit(inline="always")
def skip_leaf(op, argument, buffer, at, end):  # type: ignore[no-untyped-def]
    """The position after a value of a type without parts, or ``-Reject``."""
    if op == _STRING:
        length, at = sized(buffer, at, end)
        if at > 0 and not is_text(buffer, at, length):
            return np.int64(_BAD_UTF8)
        return at if at < 0 else at + length
    if op == _BYTES:
        length, at = sized(buffer, at, end)
        return at if at < 0 else at + length
    if op == _INT or op == _LONG or op == _ENUM:
        value, at = varint(buffer, at, end)
        if at > 0 and op == _INT and (value > 2147483647 or value < -2147483648):
            return np.int64(_OVERLONG)
        if at > 0 and op == _ENUM and (value < 0 or value >= argument):
            return np.int64(_BAD_ENUM)
        return at
    if op == _BOOLEAN:
        if at >= end:
            return np.int64(_TRUNCATED)
        return at + 1 if byte_at(buffer, at) < 2 else np.int64(_BAD_BOOLEAN)
    if op == _NULL:
        return at
    if op == _DOUBLE or op == _FLOAT:
        _, at = real(op, buffer, at, end)
        return at
    return at + argument if argument <= end - at else np.int64(_TRUNCATED)


@njit(inline="always")
def _block(buffer, at, end, items_left):  # type: ignore[no-untyped-def]
    """(items, next position or -Reject) of an array's or map's block header; 0 items end it.

    Items of no bytes (nulls, empty records) could claim any count: a value has at most ``items_left`` more.
    """
    count, at = varint(buffer, at, end)
    if at > 0 and count < 0:
        count = -count
        size, at = varint(buffer, at, end)
        if at > 0 and (size < 0 or size > end - at):
            return np.int64(0), np.int64(_BAD_LENGTH)
    if at > 0 and (count < 0 or count > end - at or count > items_left):
        return np.int64(0), np.int64(_BAD_LENGTH)
    return count, at


@njit(inline="always")
def op_of(ops, node, column):  # type: ignore[no-untyped-def]
    """An entry of a program's ``ops``, which has four columns."""
    return int_at(ops, node * 4 + column)


@njit(_I64(_I64, _I64, _I64, _I64, _I64, _I64), nogil=True, cache=True)
def skip_node(node, buffer, at, end, ops, children):  # type: ignore[no-untyped-def]
    """The position after one value of ``node``, or ``-Reject``; any nesting, at most 32 deep.

    A stack of open parents instead of recursion: compiled recursion cannot be kept in the cache.
    """
    parent = np.empty(DEPTH_MAX, np.int64)
    left = np.empty(DEPTH_MAX, np.int64)  # a record's fields, or a block's items, still to come
    depth = 0
    items_left = end - at
    while True:
        op = op_of(ops, node, 0)
        if op == _UNION:
            branch, at = varint(buffer, at, end)
            if at < 0:
                return at
            if branch < 0 or branch >= op_of(ops, node, 3):
                return np.int64(_BAD_UNION)
            node = int_at(children, op_of(ops, node, 2) + branch)
            continue
        if op < _UNION:
            at = skip_leaf(op, op_of(ops, node, 1), buffer, at, end)
            if at < 0:
                return at
        else:
            if depth == DEPTH_MAX:
                return np.int64(_TOO_DEEP)
            parent[depth] = node
            left[depth] = 0 if op == _ARRAY or op == _MAP else op_of(ops, node, 3)
            depth += 1
            if op == _ARRAY or op == _MAP:
                left[depth - 1], at = _block(buffer, at, end, items_left)
                if at < 0:
                    return at
                items_left -= left[depth - 1]
                if left[depth - 1] == 0:
                    depth -= 1
        while depth > 0 and left[depth - 1] == 0:  # close what is complete
            op = op_of(ops, parent[depth - 1], 0)
            if op == _ARRAY or op == _MAP:
                left[depth - 1], at = _block(buffer, at, end, items_left)
                if at < 0:
                    return at
                items_left -= left[depth - 1]
                if left[depth - 1] > 0:
                    break
            depth -= 1
        if depth == 0:
            return at
        open_node = parent[depth - 1]
        op = op_of(ops, open_node, 0)
        if op == _MAP:
            length, at = sized(buffer, at, end)
            if at < 0:
                return at
            if not is_text(buffer, at, length):
                return np.int64(_BAD_UTF8)
            at += length
        is_block = op == _ARRAY or op == _MAP
        index = 0 if is_block else op_of(ops, open_node, 3) - left[depth - 1]
        node = int_at(children, op_of(ops, open_node, 2) + index)
        left[depth - 1] -= 1


@njit(inline="always")
def skip_union_of_leaves(node, buffer, at, end, ops, children):  # type: ignore[no-untyped-def]
    """Nullable fields without the stack of ``skip_node``, which takes everything else."""
    if op_of(ops, node, 0) == _UNION and at < end and byte_at(buffer, at) < 128 and not byte_at(buffer, at) & 1:
        branch = np.int64(byte_at(buffer, at) >> 1)
        if branch < op_of(ops, node, 3):
            inner = int_at(children, op_of(ops, node, 2) + branch)
            if op_of(ops, inner, 0) < _UNION:
                return skip_leaf(op_of(ops, inner, 0), op_of(ops, inner, 1), buffer, at + 1, end)
    return skip_node(node, buffer, at, end, ops, children)
