"""Compiled loops over text: is it UTF-8, is it the same, and the hash of it. Bounds are the caller's duty."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, types

from emergency_stop.columnar.memory import address_of, byte_at, eight_at
from emergency_stop.domain.reasons import Reject

#: Network bytes are never written to; a read-only argument takes both kinds of arrays.
_BUFFER: Final = types.Array(types.uint8, 1, "C", readonly=True)
_I64: Final = types.int64
_U64: Final = types.uint64
_BAD_UTF8: Final = -int(Reject.BAD_UTF8)
_KEY_MISMATCH: Final = -int(Reject.KEY_MISMATCH)
_K1: Final = np.uint64(0x9E3779B97F4A7C15)
_K2: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_HIGH_BITS: Final = np.uint64(0x8080808080808080)


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
def hash_at(buffer, start, length):  # type: ignore[no-untyped-def]
    """A 64-bit multiply-xorshift hash. Not an identity: whoever looks up must compare the bytes."""
    mixed = np.uint64(length) * _K2
    at = start
    end = start + length
    while at + 8 <= end:
        mixed = _mixed(mixed, eight_at(buffer, at))
        at += 8
    return _finished(mixed, _load_rest(buffer, at, end))


@njit(_U64(_BUFFER, _I64, _I64), nogil=True, cache=True)
def hash_bytes(buffer, start, length):  # type: ignore[no-untyped-def]
    """The hash that columns of strings and keys carry; bounds are the caller's duty."""
    return hash_at(address_of(buffer), start, length)


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
def is_text(buffer, start, length):  # type: ignore[no-untyped-def]
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


@njit(inline="always")
def same_text(buffer, a, b, length):  # type: ignore[no-untyped-def]
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
