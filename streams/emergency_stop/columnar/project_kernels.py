"""The compiled loop from values to columns: one pass over every record, by the decoder's program."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, types

from emergency_stop.columnar import program as p
from emergency_stop.columnar.avro_kernels import op_of, real, sized, skip_leaf, skip_union_of_leaves, varint
from emergency_stop.columnar.memory import address_of, byte_at, int_at
from emergency_stop.columnar.name_kernels import is_name, is_process_name
from emergency_stop.columnar.text_kernels import hash_at, is_text, same_text
from emergency_stop.domain.reasons import FUTURE_MS_MAX, Reject

#: Network bytes are never written to; a read-only argument takes both kinds of arrays.
_BUFFER: Final = types.Array(types.uint8, 1, "C", readonly=True)
_I64S: Final = types.int64[::1]
_I64S2: Final = types.int64[:, ::1]
_I32S: Final = types.int32[::1]
_I32S2: Final = types.int32[:, ::1]
_TRUNCATED: Final = -int(Reject.TRUNCATED)
_OVERLONG: Final = -int(Reject.OVERLONG_VARINT)
_BAD_ENUM: Final = -int(Reject.BAD_ENUM)
_BAD_UNION: Final = -int(Reject.BAD_UNION)
_BAD_BOOLEAN: Final = -int(Reject.BAD_BOOLEAN)
_BAD_UTF8: Final = -int(Reject.BAD_UTF8)
_NULL_KEY: Final = int(Reject.NULL_KEY)
_TRAILING: Final = int(Reject.TRAILING_BYTES)
_FUTURE: Final = int(Reject.FUTURE_TIMESTAMP)
_NEGATIVE_TIME: Final = int(Reject.NEGATIVE_TIMESTAMP)
_KEY_MISMATCH: Final = -int(Reject.KEY_MISMATCH)
_BAD_ACCOUNT_ID: Final = -int(Reject.BAD_ACCOUNT_ID)
_NULL: Final = p.NULL
_BOOLEAN: Final = p.BOOLEAN
_INT: Final = p.INT
_FLOAT: Final = p.FLOAT
_DOUBLE: Final = p.DOUBLE
_ENUM: Final = p.ENUM
_UNION: Final = p.UNION
_AS_NUMBER: Final = p.AS_NUMBER
_AS_OCCURRED_AT: Final = p.AS_OCCURRED_AT
_AS_ACCOUNT: Final = p.AS_ACCOUNT
_AS_PROCESS: Final = p.AS_PROCESS
_FUTURE_MS_MAX: Final = FUTURE_MS_MAX


@njit(inline="always")
def _number(op, argument, buffer, at, end, enum_map, enum_offset):  # type: ignore[no-untyped-def]
    """(value, next position or -Reject) of a number, boolean or enum."""
    if op == _DOUBLE or op == _FLOAT:
        return real(op, buffer, at, end)
    if op == _BOOLEAN:
        if at >= end:
            return 0.0, np.int64(_TRUNCATED)
        if byte_at(buffer, at) > 1:
            return 0.0, np.int64(_BAD_BOOLEAN)
        return np.float64(byte_at(buffer, at)), at + 1
    value, at = varint(buffer, at, end)
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
            op = op_of(ops, node, 0)
            if role == 0:
                if op == _ENUM:  # a symbol that the reader cannot place is refused, wanted or not
                    _, at = _number(op, op_of(ops, node, 1), memory, at, end, enum_map, fields[position, 3])
                elif op < _UNION:
                    at = skip_leaf(op, op_of(ops, node, 1), memory, at, end)
                else:
                    at = skip_union_of_leaves(node, memory, at, end, ops, children)
            elif role == _AS_OCCURRED_AT:
                moment, at = varint(memory, at, end)
            elif role == _AS_ACCOUNT or role == _AS_PROCESS:
                length, at = sized(memory, at, end)
                if at > 0:
                    if length != key_length:
                        status = np.int64(_KEY_MISMATCH)
                    else:
                        status, key_hash = same_text(memory, at, key_start, length)
                    if status == 0:
                        status = _unstoppable(role, memory, at, at + length)
                    at += length
            else:
                present = op != _NULL
                if op == _UNION:
                    branch, at = varint(memory, at, end)
                    if at > 0:
                        if branch < 0 or branch >= op_of(ops, node, 3):
                            at = np.int64(_BAD_UNION)
                        else:
                            node = int_at(children, op_of(ops, node, 2) + branch)
                            op = op_of(ops, node, 0)
                            present = op != _NULL
                column = fields[position, 2]
                if at < 0:
                    pass
                elif role == _AS_NUMBER:
                    value = np.nan
                    if present:
                        value, at = _number(op, op_of(ops, node, 1), memory, at, end, enum_map, fields[position, 3])
                    numbers[column, row] = value
                else:
                    hashed = np.uint64(0)
                    if present:
                        length, at = sized(memory, at, end)
                        if at > 0:
                            hashed = hash_at(memory, at, length)
                            at = at + length if is_text(memory, at, length) else np.int64(_BAD_UTF8)
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
