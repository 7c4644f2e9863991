"""Compiled loops over bytes: the only code that reads offsets out of what the network sent.

No kernel reads a byte that it has not checked to lie before ``end``. Positions are never trusted: a
helper that fails returns a negative code ``-Reject`` in place of a position. Kernels release the GIL. Helpers take a
buffer, and a program's arrays, by their address (see ``memory``).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, types

from emergency_stop.columnar import program as p
from emergency_stop.columnar.memory import address_of, byte_at, eight_at, four_at, int_at
from emergency_stop.columnar.name_kernels import is_name, is_process_name
from emergency_stop.domain.reasons import FUTURE_MS_MAX, Reject

DEPTH_MAX: Final = 32
#: Network bytes are never written to; a read-only argument takes both kinds of arrays.
_BUFFER: Final = types.Array(types.uint8, 1, "C", readonly=True)
_I64, _U64 = types.int64, types.uint64
_I64S, _I64S2 = types.int64[::1], types.int64[:, ::1]
_I32S, _I32S2 = types.int32[::1], types.int32[:, ::1]
_TRUNCATED: Final = -int(Reject.TRUNCATED)
_OVERLONG: Final = -int(Reject.OVERLONG_VARINT)
_BAD_LENGTH: Final = -int(Reject.BAD_LENGTH)
_BAD_ENUM: Final = -int(Reject.BAD_ENUM)
_BAD_UNION: Final = -int(Reject.BAD_UNION)
_BAD_BOOLEAN: Final = -int(Reject.BAD_BOOLEAN)
_NOT_FINITE: Final = -int(Reject.NOT_FINITE)
_TOO_DEEP: Final = -int(Reject.TOO_DEEP)
_BAD_UTF8: Final = -int(Reject.BAD_UTF8)
_NULL_KEY: Final = int(Reject.NULL_KEY)
_NULL_VALUE: Final = int(Reject.NULL_VALUE)
_SHORT_VALUE: Final = int(Reject.SHORT_VALUE)
_BAD_MAGIC: Final = int(Reject.BAD_MAGIC)
_TRAILING: Final = int(Reject.TRAILING_BYTES)
_FUTURE: Final = int(Reject.FUTURE_TIMESTAMP)
_NEGATIVE_TIME: Final = int(Reject.NEGATIVE_TIMESTAMP)
_KEY_MISMATCH: Final = -int(Reject.KEY_MISMATCH)
_BAD_ACCOUNT_ID: Final = -int(Reject.BAD_ACCOUNT_ID)
_MALFORMED: Final = int(Reject.MALFORMED_RECORD)
_NULL, _BOOLEAN, _INT, _LONG, _FLOAT, _DOUBLE = p.NULL, p.BOOLEAN, p.INT, p.LONG, p.FLOAT, p.DOUBLE
_BYTES, _STRING, _FIXED, _ENUM, _UNION, _ARRAY, _MAP = p.BYTES, p.STRING, p.FIXED, p.ENUM, p.UNION, p.ARRAY, p.MAP
_AS_NUMBER, _AS_HASH, _AS_OCCURRED_AT, _AS_ACCOUNT = p.AS_NUMBER, p.AS_HASH, p.AS_OCCURRED_AT, p.AS_ACCOUNT
_AS_PROCESS: Final = p.AS_PROCESS
_FUTURE_MS_MAX: Final = FUTURE_MS_MAX
_K1: Final = np.uint64(0x9E3779B97F4A7C15)
_K2: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_ALL_ONES_EXPONENT: Final = 0x7FF
_HIGH_BITS: Final = np.uint64(0x8080808080808080)


@njit(inline="always")
def _varint(buffer, at, end):  # type: ignore[no-untyped-def]
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
def _load_rest(buffer, at, end):  # type: ignore[no-untyped-def]
    """The up to seven bytes before ``end``, little-endian; those before them lie in the buffer, and are shifted out."""
    if at >= end:
        return np.uint64(0)
    if end >= 8:
        return eight_at(buffer, end - 8) >> np.uint64(64 - 8 * (end - at))
    rest = np.uint64(0)
    shift = np.uint64(0)
    while at < end:
        rest |= byte_at(buffer, at) << shift
        shift += np.uint64(8)
        at += 1
    return rest


@njit(inline="always")
def _mixed(mixed, eight):  # type: ignore[no-untyped-def]
    mixed = (mixed ^ eight) * _K1
    return mixed ^ (mixed >> np.uint64(32))


@njit(inline="always")
def _finished(mixed, rest):  # type: ignore[no-untyped-def]
    mixed = (mixed ^ rest) * _K1
    mixed ^= mixed >> np.uint64(29)
    mixed *= _K2
    return mixed ^ (mixed >> np.uint64(32))


@njit(inline="always")
def _hash_bytes(buffer, start, length):  # type: ignore[no-untyped-def]
    """A 64-bit multiply-xorshift hash. Not an identity: whoever looks up must compare the bytes."""
    mixed = np.uint64(length) * _K2
    at = start
    end = start + length
    while at + 8 <= end:
        mixed = _mixed(mixed, eight_at(buffer, at))
        at += 8
    return _finished(mixed, _load_rest(buffer, at, end))


@njit(types.boolean(_I64, _I64, _I64), nogil=True, cache=True)
def is_utf8(buffer, at, end):  # type: ignore[no-untyped-def]
    """Whether these bytes are well-formed UTF-8 (Unicode 15, table 3-7); bounds are the caller's duty."""
    while at < end:
        lead = byte_at(buffer, at)
        at += 1
        if lead < 0x80:
            continue
        if lead < 0xC2 or lead > 0xF4:
            return False
        more = 1 if lead < 0xE0 else 2 if lead < 0xF0 else 3
        if more > end - at:
            return False
        low = 0xA0 if lead == 0xE0 else 0x90 if lead == 0xF0 else 0x80
        high = 0x9F if lead == 0xED else 0x8F if lead == 0xF4 else 0xBF
        for _ in range(more):
            byte = byte_at(buffer, at)
            if byte < low or byte > high:
                return False
            low, high = 0x80, 0xBF
            at += 1
    return True


@njit(inline="always")
def _is_text(buffer, start, length):  # type: ignore[no-untyped-def]
    """UTF-8, which nearly always means ASCII: eight bytes at a time."""
    at = start
    end = start + length
    while at + 8 <= end:
        if eight_at(buffer, at) & _HIGH_BITS != np.uint64(0):
            return is_utf8(buffer, at, end)
        at += 8
    if _load_rest(buffer, at, end) & _HIGH_BITS != np.uint64(0):
        return is_utf8(buffer, at, end)
    return True


@njit(_U64(_BUFFER, _I64, _I64), nogil=True, cache=True)
def hash_bytes(buffer, start, length):  # type: ignore[no-untyped-def]
    """The hash that columns of strings and keys carry; bounds are the caller's duty."""
    return _hash_bytes(address_of(buffer), start, length)


@njit(inline="always")
def _sized(buffer, at, end):  # type: ignore[no-untyped-def]
    """(length, start or -Reject) of length-prefixed bytes that lie whole before ``end``."""
    length, at = _varint(buffer, at, end)
    if at < 0:
        return np.int64(0), at
    if length < 0:
        return np.int64(0), np.int64(_BAD_LENGTH)
    if length > end - at:
        return np.int64(0), np.int64(_BAD_LENGTH)
    return length, at


@njit(inline="always")
def _real(op, buffer, at, end):  # type: ignore[no-untyped-def]
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
def _skip_leaf(op, argument, buffer, at, end):  # type: ignore[no-untyped-def]
    """The position after a value of a type without parts, or ``-Reject``."""
    if op == _STRING:
        length, at = _sized(buffer, at, end)
        if at > 0 and not _is_text(buffer, at, length):
            return np.int64(_BAD_UTF8)
        return at if at < 0 else at + length
    if op == _BYTES:
        length, at = _sized(buffer, at, end)
        return at if at < 0 else at + length
    if op == _INT or op == _LONG or op == _ENUM:
        value, at = _varint(buffer, at, end)
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
        _, at = _real(op, buffer, at, end)
        return at
    return at + argument if argument <= end - at else np.int64(_TRUNCATED)


@njit(inline="always")
def _block(buffer, at, end, items_left):  # type: ignore[no-untyped-def]
    """(items, next position or -Reject) of an array's or map's block header; 0 items end it.

    Items of no bytes (nulls, empty records) could claim any count: a value has at most ``items_left`` more.
    """
    count, at = _varint(buffer, at, end)
    if at > 0 and count < 0:
        count = -count
        size, at = _varint(buffer, at, end)
        if at > 0 and (size < 0 or size > end - at):
            return np.int64(0), np.int64(_BAD_LENGTH)
    if at > 0 and (count < 0 or count > end - at or count > items_left):
        return np.int64(0), np.int64(_BAD_LENGTH)
    return count, at


@njit(inline="always")
def _op(ops, node, column):  # type: ignore[no-untyped-def]
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
        op = _op(ops, node, 0)
        if op == _UNION:
            branch, at = _varint(buffer, at, end)
            if at < 0:
                return at
            if branch < 0 or branch >= _op(ops, node, 3):
                return np.int64(_BAD_UNION)
            node = int_at(children, _op(ops, node, 2) + branch)
            continue
        if op < _UNION:
            at = _skip_leaf(op, _op(ops, node, 1), buffer, at, end)
            if at < 0:
                return at
        else:
            if depth == DEPTH_MAX:
                return np.int64(_TOO_DEEP)
            parent[depth] = node
            left[depth] = 0 if op == _ARRAY or op == _MAP else _op(ops, node, 3)
            depth += 1
            if op == _ARRAY or op == _MAP:
                left[depth - 1], at = _block(buffer, at, end, items_left)
                if at < 0:
                    return at
                items_left -= left[depth - 1]
                if left[depth - 1] == 0:
                    depth -= 1
        while depth > 0 and left[depth - 1] == 0:  # close what is complete
            op = _op(ops, parent[depth - 1], 0)
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
        op = _op(ops, open_node, 0)
        if op == _MAP:
            length, at = _sized(buffer, at, end)
            if at < 0:
                return at
            if not _is_text(buffer, at, length):
                return np.int64(_BAD_UTF8)
            at += length
        is_block = op == _ARRAY or op == _MAP
        index = 0 if is_block else _op(ops, open_node, 3) - left[depth - 1]
        node = int_at(children, _op(ops, open_node, 2) + index)
        left[depth - 1] -= 1


@njit(_I64(_BUFFER, _I64S2, _I64, _I64S2, _I32S2), nogil=True, cache=True)
def walk_records(buffer, batches, fetch_offset, longs, ints):  # type: ignore[no-untyped-def]
    """Find every record of the decompressed batches; returns their number.

    ``batches[b] = (start, end, count, base offset, base timestamp, log append time or -1)``.
    Out, per record from ``fetch_offset`` on: ``longs[0..4] = offset, record timestamp, key start, value
    start, headers start`` and ``ints[0..2] = key length, value length (-1: null), status``. A record whose
    framing is broken gets status MALFORMED_RECORD, spans the rest of its batch, and ends that batch.
    """
    n = 0
    memory = address_of(buffer)
    for b in range(batches.shape[0]):
        at, stop = batches[b, 0], batches[b, 1]
        for index in range(batches[b, 2]):
            start = at
            length, at = _varint(memory, at, stop)
            broken = at < 0 or length < 1 or length > stop - at
            end = at + length
            timestamp_delta = np.int64(0)
            offset_delta = np.int64(index)
            key_length = np.int64(-1)
            value_length = np.int64(-1)
            key_start = start
            value_start = start
            if not broken:
                at += 1  # attributes, unused in v2
                timestamp_delta, at = _varint(memory, at, end)
            if not broken and at > 0:
                offset_delta, at = _varint(memory, at, end)
            if not broken and at > 0:
                key_length, at = _varint(memory, at, end)
                if at > 0 and key_length > end - at:
                    at = np.int64(_BAD_LENGTH)
                key_start = at
                if at > 0 and key_length > 0:
                    at += key_length
            if not broken and at > 0:
                value_length, at = _varint(memory, at, end)
                if at > 0 and value_length > end - at:
                    at = np.int64(_BAD_LENGTH)
                value_start = at
                if at > 0 and value_length > 0:
                    at += value_length
            if broken or at < 0:
                offset = batches[b, 3] + index
                if offset >= fetch_offset:
                    longs[0, n], longs[1, n] = offset, batches[b, 4]
                    longs[2, n], longs[3, n], longs[4, n] = start, start, stop
                    ints[0, n], ints[1, n], ints[2, n] = -1, stop - start, _MALFORMED
                    n += 1
                break
            offset = batches[b, 3] + offset_delta
            if offset >= fetch_offset:
                longs[0, n] = offset
                longs[1, n] = batches[b, 5] if batches[b, 5] >= 0 else batches[b, 4] + timestamp_delta
                longs[2, n], longs[3, n], longs[4, n] = key_start, value_start, at
                ints[0, n], ints[1, n], ints[2, n] = key_length, value_length, 0
                n += 1
            at = end
    return n


@njit(_I64(_BUFFER, _I64S2, _I32S2, _I64S), nogil=True, cache=True)
def open_frames(buffer, longs, ints, schemas):  # type: ignore[no-untyped-def]
    """Step over every value's framing; returns the id that all accepted rows share, or -1.

    Writes the id to ``schemas`` (-1: a GUID, which ends at the value's new start), the frame's bytes to
    ``ints[3]``, and a status where key, value or framing is missing.
    """
    shared = np.int64(-2)
    for row in range(schemas.shape[0]):
        ints[3, row] = 0
        schemas[row] = -1
        if ints[2, row] != 0:
            continue
        length = ints[1, row]
        at = longs[3, row]
        if ints[0, row] < 0:
            ints[2, row] = _NULL_KEY
        elif length < 0:
            ints[2, row] = _NULL_VALUE
        elif length < 5:
            ints[2, row] = _SHORT_VALUE
        elif buffer[at] > 1:
            ints[2, row] = _BAD_MAGIC
        elif buffer[at] == 1 and length < 17:
            ints[2, row] = _SHORT_VALUE
        else:
            frame = 5
            found = np.int64(-1)
            if buffer[at] == 1:
                frame = 17
            else:
                found = (
                    np.int64(buffer[at + 1]) << 24
                    | np.int64(buffer[at + 2]) << 16
                    | np.int64(buffer[at + 3]) << 8
                    | np.int64(buffer[at + 4])
                )
            longs[3, row] = at + frame
            ints[1, row] = length - frame
            ints[3, row] = frame
            schemas[row] = found
            shared = found if shared == -2 or shared == found else np.int64(-1)
    return shared


@njit(inline="always")
def _number(op, argument, buffer, at, end, enum_map, enum_offset):  # type: ignore[no-untyped-def]
    """(value, next position or -Reject) of a number, boolean or enum."""
    if op == _DOUBLE or op == _FLOAT:
        return _real(op, buffer, at, end)
    if op == _BOOLEAN:
        if at >= end:
            return 0.0, np.int64(_TRUNCATED)
        if byte_at(buffer, at) > 1:
            return 0.0, np.int64(_BAD_BOOLEAN)
        return np.float64(byte_at(buffer, at)), at + 1
    value, at = _varint(buffer, at, end)
    if at < 0:
        return 0.0, at
    if op == _INT and (value > 2147483647 or value < -2147483648):
        return 0.0, np.int64(_OVERLONG)
    if op == _ENUM:
        if value < 0 or value >= argument:
            return 0.0, np.int64(_BAD_ENUM)
        mapped = int_at(enum_map, enum_offset + value) if enum_offset > 0 else value
        if mapped < 0:
            return 0.0, np.int64(_BAD_ENUM)
        return np.float64(mapped), at
    return np.float64(value), at


@njit(inline="always")
def _skip_union_of_leaves(node, buffer, at, end, ops, children):  # type: ignore[no-untyped-def]
    """Nullable fields without the stack of ``skip_node``, which takes everything else."""
    if _op(ops, node, 0) == _UNION and at < end and byte_at(buffer, at) < 128 and not byte_at(buffer, at) & 1:
        branch = np.int64(byte_at(buffer, at) >> 1)
        if branch < _op(ops, node, 3):
            inner = int_at(children, _op(ops, node, 2) + branch)
            if _op(ops, inner, 0) < _UNION:
                return _skip_leaf(_op(ops, inner, 0), _op(ops, inner, 1), buffer, at + 1, end)
    return skip_node(node, buffer, at, end, ops, children)


@njit(inline="always")
def _same_text(buffer, a, b, length):  # type: ignore[no-untyped-def]
    """(0, or the ``-Reject`` that tells why not; hash) of equal texts at ``a`` and ``b``, in one pass."""
    mixed = np.uint64(length) * _K2
    different = np.uint64(0)
    high = np.uint64(0)
    at = np.int64(0)
    while at + 8 <= length:
        eight = eight_at(buffer, a + at)
        different |= eight ^ eight_at(buffer, b + at)
        high |= eight
        mixed = _mixed(mixed, eight)
        at += 8
    rest = _load_rest(buffer, a + at, a + length)
    different |= rest ^ _load_rest(buffer, b + at, b + length)
    high |= rest
    if different != np.uint64(0):
        return np.int64(_KEY_MISMATCH), np.uint64(0)
    if high & _HIGH_BITS != np.uint64(0) and not is_utf8(buffer, a, a + length):
        return np.int64(_BAD_UTF8), np.uint64(0)
    return np.int64(0), _finished(mixed, rest)


@njit(inline="always")
def _unstoppable(role, buffer, start, end):  # type: ignore[no-untyped-def]
    """0, or the ``-Reject`` of an id that no stop could name."""
    good = is_process_name(buffer, start, end) if role == _AS_PROCESS else is_name(buffer, start, end)
    return np.int64(0) if good else np.int64(_BAD_ACCOUNT_ID)


@njit(
    types.void(
        _BUFFER,
        _I64S2,
        _I32S2,
        _I64S,
        types.Tuple((_I32S2, _I32S, _I32S2, _I32S)),
        _I64S,
        types.float64[:, ::1],
        types.uint64[:, ::1],
    ),
    nogil=True,
    cache=True,
)
def project(buffer, longs, ints, rows, code, occurred_at, numbers, hashes):  # type: ignore[no-untyped-def]
    """Decode the wanted fields of ``rows`` and check every byte of their values.

    ``longs`` and ``ints`` as ``walk_records`` left them, value starts now past the framing. ``code`` is
    (ops, children, fields, enum_map) of the schema's program. Writes a row's status to ``ints[2]``.
    The key's hash goes to ``hashes[0]``, columns of strings to ``hashes[1 + column]``.
    """
    ops, children, enum_map = address_of(code[0]), address_of(code[1]), address_of(code[3])
    fields, memory = code[2], address_of(buffer)
    for index in range(rows.shape[0]):
        row = rows[index]
        at = longs[3, row]
        end = at + np.int64(ints[1, row])
        key_start = longs[2, row]
        key_length = np.int64(ints[0, row])
        status = np.int64(0)
        if key_length < 0:
            status = np.int64(-_NULL_KEY)
        key_hash = np.uint64(0)
        moment = np.int64(-1)
        for position in range(fields.shape[0]):
            if status < 0:
                break
            node = fields[position, 0]
            role = fields[position, 1]
            op = _op(ops, node, 0)
            if role == 0:
                if op == _ENUM:  # a symbol that the reader cannot place is refused, wanted or not
                    _, at = _number(op, _op(ops, node, 1), memory, at, end, enum_map, fields[position, 3])
                elif op < _UNION:
                    at = _skip_leaf(op, _op(ops, node, 1), memory, at, end)
                else:
                    at = _skip_union_of_leaves(node, memory, at, end, ops, children)
            elif role == _AS_OCCURRED_AT:
                moment, at = _varint(memory, at, end)
            elif role == _AS_ACCOUNT or role == _AS_PROCESS:
                length, at = _sized(memory, at, end)
                if at > 0:
                    if length != key_length:
                        status = np.int64(_KEY_MISMATCH)
                    else:
                        status, key_hash = _same_text(memory, at, key_start, length)
                    if status == 0:
                        status = _unstoppable(role, memory, at, at + length)
                    at += length
            else:
                present = op != _NULL
                if op == _UNION:
                    branch, at = _varint(memory, at, end)
                    if at > 0:
                        if branch < 0 or branch >= _op(ops, node, 3):
                            at = np.int64(_BAD_UNION)
                        else:
                            node = int_at(children, _op(ops, node, 2) + branch)
                            op = _op(ops, node, 0)
                            present = op != _NULL
                column = fields[position, 2]
                if at < 0:
                    pass
                elif role == _AS_NUMBER:
                    value = np.nan
                    if present:
                        value, at = _number(op, _op(ops, node, 1), memory, at, end, enum_map, fields[position, 3])
                    numbers[column, row] = value
                else:
                    hashed = np.uint64(0)
                    if present:
                        length, at = _sized(memory, at, end)
                        if at > 0:
                            hashed = _hash_bytes(memory, at, length)
                            at = at + length if _is_text(memory, at, length) else np.int64(_BAD_UTF8)
                    hashes[1 + column, row] = hashed
            if at < 0:
                status = at
        if status == 0 and at != end:
            status = np.int64(-_TRAILING)
        if status == 0 and moment < 0:
            status = np.int64(-_NEGATIVE_TIME)
        if status == 0 and moment > longs[1, row] + _FUTURE_MS_MAX:
            status = np.int64(-_FUTURE)
        if status == 0:
            occurred_at[row] = moment
            hashes[0, row] = key_hash
        ints[2, row] = np.int32(-status)
