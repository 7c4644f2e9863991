"""Compiled loops over record batches: where every key and value lies, and what frames the values carry."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, types

from emergency_stop.columnar.avro_kernels import varint
from emergency_stop.columnar.memory import address_of
from emergency_stop.domain.reasons import Reject

#: Network bytes are never written to; a read-only argument takes both kinds of arrays.
_BUFFER: Final = types.Array(types.uint8, 1, "C", readonly=True)
_I64: Final = types.int64
_I64S: Final = types.int64[::1]
_I64S2: Final = types.int64[:, ::1]
_I32S2: Final = types.int32[:, ::1]
_BAD_LENGTH: Final = -int(Reject.BAD_LENGTH)
_NULL_KEY: Final = int(Reject.NULL_KEY)
_NULL_VALUE: Final = int(Reject.NULL_VALUE)
_SHORT_VALUE: Final = int(Reject.SHORT_VALUE)
_BAD_MAGIC: Final = int(Reject.BAD_MAGIC)
_MALFORMED: Final = int(Reject.MALFORMED_RECORD)


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
            length, at = varint(memory, at, stop)
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
                timestamp_delta, at = varint(memory, at, end)
            if not broken and at > 0:
                offset_delta, at = varint(memory, at, end)
            if not broken and at > 0:
                key_length, at = varint(memory, at, end)
                if at > 0 and key_length > end - at:
                    at = np.int64(_BAD_LENGTH)
                key_start = at
                if at > 0 and key_length > 0:
                    at += key_length
            if not broken and at > 0:
                value_length, at = varint(memory, at, end)
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
