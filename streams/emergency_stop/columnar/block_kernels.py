"""Compiled loops from rows of Avro to columns: how large each column gets, in which order rows go, and their bytes.

Arrays and scalars in, arrays out; callers validate and allocate. They release the GIL and keep no reference.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, types

from emergency_stop.columnar import program as p
from emergency_stop.columnar.avro_kernels import sized, varint
from emergency_stop.columnar.memory import address_of, byte_at

#: Rows of a flush are only read; a read-only argument takes both kinds of arrays.
_BUFFER: Final = types.Array(types.uint8, 1, "C", readonly=True)
_I64: Final = types.int64
_I64S: Final = types.int64[::1]
_I64S2: Final = types.int64[:, ::1]
_U64S: Final = types.uint64[::1]
_U8S: Final = types.uint8[::1]
_INT: Final = p.INT
_LONG: Final = p.LONG
_DOUBLE: Final = p.DOUBLE
_STRING: Final = p.STRING
_ENUM: Final = p.ENUM
_DIGITS: Final = 8
_DIGIT_VALUES: Final = 256
#: Texts that differ only behind so many bytes of their common beginning keep the order in which they came.
_WORDS_MAX: Final = 5
_ROWS_AHEAD: Final = 12
_CACHE_LINE_BYTES: Final = 64


@njit(inline="always")
def _text_bytes(length):  # type: ignore[no-untyped-def]
    """A text in the Native format: its length as a varint, and itself."""
    size = length + 1
    while length > 127:
        size += 1
        length >>= 7
    return size


@njit(_I64(_BUFFER, _I64S2, _I64S, _I64, _I64S, _I64S2, _I64S), nogil=True, cache=True)
def measure_rows(rows, fields, bounds, key_field, starts, keys, sizes):  # type: ignore[no-untyped-def]
    """Where each row starts, where its key lies, and how many bytes each column takes.

    ``fields[f] = (op, argument)``: of an enum the first of its symbols, of a nullable text the branch that is null.
    ``bounds`` are the symbols' bounds. Out: ``starts``; ``keys[0..1] = start, length`` of the text ``key_field``;
    ``sizes``. Returns where the last row ends, or a negative number where the rows are not of these fields.
    """
    memory, end, at = address_of(rows), rows.shape[0], np.int64(0)
    for row in range(starts.shape[0]):
        starts[row] = at
        for field in range(fields.shape[0]):
            op, argument = fields[field, 0], fields[field, 1]
            if op == _STRING:
                length, at = sized(memory, at, end)
                if field == key_field:
                    keys[0, row], keys[1, row] = at, length
                sizes[field] += _text_bytes(length)
                at = at if at < 0 else at + length
            elif op == _DOUBLE:
                sizes[field] += 8
                at = at + 8 if end - at >= 8 else np.int64(-1)
            elif op == _INT or op == _LONG:
                _, at = varint(memory, at, end)
                sizes[field] += 4 if op == _INT else 8
            elif op == _ENUM:
                symbol, at = varint(memory, at, end)
                if symbol < 0 or symbol >= fields[field, 2]:
                    return np.int64(-1)
                sizes[field] += bounds[argument + symbol + 1] - bounds[argument + symbol]
            else:
                branch, at = varint(memory, at, end)
                length = np.int64(0)
                if at > 0 and branch != argument:
                    length, at = sized(memory, at, end)
                sizes[field] += 1 + _text_bytes(length)
                at = at if at < 0 else at + length
            if at < 0:
                return at
    return at


@njit(inline="always")
def _word(memory, start, length, index):  # type: ignore[no-untyped-def]
    """Eight bytes of a text from ``index`` on, as a number that sorts as they do; zeros behind its end."""
    word = np.uint64(0)
    for at in range(index, index + 8):
        word <<= np.uint64(8)
        if at < length:
            word |= byte_at(memory, start + at)
    return word


@njit(inline="always")
def _shared(memory, keys):  # type: ignore[no-untyped-def]
    """(how many bytes all texts begin with, how many the longest has)."""
    shared, longest = keys[1, 0], keys[1, 0]
    for row in range(1, keys.shape[1]):
        length = keys[1, row]
        longest = max(longest, length)
        at, most = np.int64(0), min(shared, length)
        while at < most and byte_at(memory, keys[0, row] + at) == byte_at(memory, keys[0, 0] + at):
            at += 1
        shared = at
    return shared, longest


@njit(types.void(_BUFFER, _I64S2, _I64S, _I64S, _U64S, _U64S), nogil=True, cache=True)
def order_by_text(rows, keys, order, other_order, words, other_words):  # type: ignore[no-untyped-def]
    """``order``: the numbers of rows in the order of their keys' bytes, equal ones as they came. At least one row.

    A stable radix sort from the last eight bytes to the first. The other three arrays are its scratch.
    """
    memory, n = address_of(rows), order.shape[0]
    counts = np.empty((_DIGITS, _DIGIT_VALUES), np.int64)
    for row in range(n):
        order[row] = row
    shared, longest = _shared(memory, keys)
    for word in range(min((longest - shared + 7) // 8, _WORDS_MAX) - 1, -1, -1):
        counts[:] = 0
        for index in range(n):
            row = order[index]
            value = _word(memory, keys[0, row], keys[1, row], shared + 8 * word)
            words[index] = value
            for digit in range(_DIGITS):
                counts[digit, np.int64((value >> np.uint64(8 * digit)) & np.uint64(255))] += 1
        for digit in range(_DIGITS):
            shift = np.uint64(8 * digit)
            if counts[digit, np.int64((words[0] >> shift) & np.uint64(255))] == n:
                continue  # the same in all
            at = np.int64(0)
            for value_of_digit in range(_DIGIT_VALUES):
                at, counts[digit, value_of_digit] = at + counts[digit, value_of_digit], at
            for index in range(n):
                place = np.int64((words[index] >> shift) & np.uint64(255))
                to = counts[digit, place]
                counts[digit, place] = to + 1
                other_words[to], other_order[to] = words[index], order[index]
            for index in range(n):
                words[index], order[index] = other_words[index], other_order[index]


@njit(inline="always")
def _put_text(memory, start, length, out, at):  # type: ignore[no-untyped-def]
    left = length
    while left > 127:
        out[at] = np.uint8(left & 127) | np.uint8(128)
        left >>= 7
        at += 1
    out[at] = np.uint8(left)
    at += 1
    for index in range(length):
        out[at + index] = np.uint8(byte_at(memory, start + index))
    return at + length


@njit(inline="always")
def _put_number(value, size, out, at):  # type: ignore[no-untyped-def]
    for index in range(size):
        out[at + index] = np.uint8((value >> (8 * index)) & 255)
    return at + size


@njit(_I64(_BUFFER, _I64S2, _I64S, _BUFFER, _I64S, _I64S, _I64S, _U8S), nogil=True, cache=True)
def fill_columns(rows, fields, bounds, symbols, starts, order, cursors, out):  # type: ignore[no-untyped-def]
    """Write every row's values behind the former row's, each at its column's ``cursors``, which move.

    Obliges: ``measure_rows`` has accepted these rows, and ``out`` has for each column what that found. A nullable
    text's marks lie before its cursor, one byte per row.

    Sorted rows lie all over ``rows``: some are looked at ahead of their turn, so that the memory has sent them by then.
    What is returned is nothing but a reason for the compiler to keep those loads.
    """
    memory, end, symbol_memory = address_of(rows), rows.shape[0], address_of(symbols)
    n = order.shape[0]
    marks = cursors.copy()
    for field in range(fields.shape[0]):
        marks[field] -= n
    loaded = np.uint64(0)
    for index in range(n):
        ahead = starts[order[min(index + _ROWS_AHEAD, n - 1)]]
        loaded ^= byte_at(memory, ahead) ^ byte_at(memory, min(ahead + _CACHE_LINE_BYTES, end - 1))
        at = starts[order[index]]
        for field in range(fields.shape[0]):
            op, argument, to = fields[field, 0], fields[field, 1], cursors[field]
            if op == _STRING:
                length, at = sized(memory, at, end)
                cursors[field] = _put_text(memory, at, length, out, to)
                at += length
            elif op == _DOUBLE:
                for byte in range(8):
                    out[to + byte] = np.uint8(byte_at(memory, at + byte))
                cursors[field] = to + 8
                at += 8
            elif op == _LONG:
                value, at = varint(memory, at, end)
                cursors[field] = _put_number(value, 8, out, to)
            elif op == _INT:
                value, at = varint(memory, at, end)
                cursors[field] = _put_number(value, 4, out, to)
            elif op == _ENUM:
                symbol, at = varint(memory, at, end)
                first = bounds[argument + symbol]
                size = bounds[argument + symbol + 1] - first
                for byte in range(size):
                    out[to + byte] = np.uint8(byte_at(symbol_memory, first + byte))
                cursors[field] = to + size
            else:
                branch, at = varint(memory, at, end)
                length = np.int64(0)
                out[marks[field] + index] = branch == argument
                if branch != argument:
                    length, at = sized(memory, at, end)
                cursors[field] = _put_text(memory, at, length, out, to)
                at += length
    return np.int64(loaded)
