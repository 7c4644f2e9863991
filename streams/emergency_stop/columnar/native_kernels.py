"""Compiled loops over ClickHouse's Native format: where each text of a column lies, and its hash.

Arrays and scalars in, arrays out; callers validate and allocate. They release the GIL and keep no reference.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, types

from emergency_stop.columnar.memory import address_of, byte_at
from emergency_stop.columnar.text_kernels import hash_at

#: An answer of the database is never written to; a read-only argument takes both kinds of arrays.
_BUFFER: Final = types.Array(types.uint8, 1, "C", readonly=True)
_I64, _I64S, _I32S = types.int64, types.int64[::1], types.int32[::1]
#: A length of more bits than that is damage.
_SHIFT_MAX: Final = np.uint64(28)


@njit(_I64(_BUFFER, _I64, _I64S, _I32S), nogil=True, cache=True)
def walk_texts(buffer, at, starts, lengths):  # type: ignore[no-untyped-def]
    """Start and length of each text of a column that begins at ``at``: a varint before its bytes.

    Returns where the column ends, or -1 where the buffer ends before it.
    """
    memory, end = address_of(buffer), buffer.shape[0]
    for row in range(starts.shape[0]):
        length, shift, more = np.int64(0), np.uint64(0), True
        while more:
            if at >= end or shift > _SHIFT_MAX:
                return np.int64(-1)
            byte = byte_at(memory, at)
            length |= np.int64((byte & np.uint64(0x7F)) << shift)
            shift += np.uint64(7)
            more = byte > np.uint64(0x7F)
            at += 1
        if length > end - at:
            return np.int64(-1)
        starts[row] = at
        lengths[row] = length
        at += length
    return at


@njit(types.void(_BUFFER, _I64S, _I32S, types.uint64[::1]), nogil=True, cache=True)
def hash_texts(buffer, starts, lengths, hashes):  # type: ignore[no-untyped-def]
    """The hash that columns of strings and keys carry, per text."""
    memory = address_of(buffer)
    for row in range(starts.shape[0]):
        hashes[row] = hash_at(memory, starts[row], np.int64(lengths[row]))
