"""``domain.values.is_account_id`` and ``is_service_name`` over the bytes of UTF-8: whether an id can be stopped.

Lengths count characters, as there: a byte that continues a character is none. Whoever calls has checked that the bytes
are UTF-8. Nearly every id is short and begins and ends in printable ASCII, which two bytes tell.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, types

from emergency_stop.columnar.memory import address_of, byte_at
from emergency_stop.domain.values import ACCOUNT_ID_LENGTH_MAX, SERVICE_NAME_LENGTH_MAX

_I64 = types.int64
_LENGTH_MAX: Final = ACCOUNT_ID_LENGTH_MAX
_SERVICE_LENGTH_MAX: Final = SERVICE_NAME_LENGTH_MAX
_AT: Final = ord("@")


@njit(inline="always")
def _is_space(point):  # type: ignore[no-untyped-def]
    """Whether ``str.strip`` takes this code point away."""
    if point < 0x80:
        return 0x09 <= point <= 0x0D or 0x1C <= point <= 0x20
    if 0x2000 <= point <= 0x200A or 0x2028 <= point <= 0x2029:
        return True
    return point == 0x85 or point == 0xA0 or point == 0x1680 or point == 0x202F or point == 0x205F or point == 0x3000


@njit(inline="always")
def _first_point(buffer, start):  # type: ignore[no-untyped-def]
    """The code point at ``start``, as far as a space could reach: one of four bytes is none, and is -1."""
    lead = np.int64(byte_at(buffer, start))
    if lead < 0x80:
        return lead
    if lead < 0xE0:
        return (lead & 0x1F) << 6 | np.int64(byte_at(buffer, start + 1)) & 0x3F
    if lead < 0xF0:
        more = (np.int64(byte_at(buffer, start + 1)) & 0x3F) << 6 | np.int64(byte_at(buffer, start + 2)) & 0x3F
        return (lead & 0x0F) << 12 | more
    return np.int64(-1)


@njit(inline="always")
def _last_start(buffer, start, end):  # type: ignore[no-untyped-def]
    """Where the last character before ``end`` begins."""
    at = end - 1
    while at > start and byte_at(buffer, at) & np.uint64(0xC0) == np.uint64(0x80):
        at -= 1
    return at


@njit(inline="always")
def _is_short(buffer, start, end):  # type: ignore[no-untyped-def]
    """Whether the characters are few enough."""
    length = end - start
    if length <= _LENGTH_MAX:
        return True
    if length > 4 * _LENGTH_MAX:
        return False
    characters = np.int64(0)
    for at in range(start, end):
        if byte_at(buffer, at) & np.uint64(0xC0) != np.uint64(0x80):
            characters += 1
    return characters <= _LENGTH_MAX


@njit(types.boolean(_I64, _I64, _I64), nogil=True, cache=True)
def is_unusual_name(buffer, start, end):  # type: ignore[no-untyped-def]
    """The whole question, for UTF-8 of at least one byte."""
    if _is_space(_first_point(buffer, start)):
        return False
    if _is_space(_first_point(buffer, _last_start(buffer, start, end))):
        return False
    return _is_short(buffer, start, end)


@njit(inline="always")
def is_name(buffer, start, end):  # type: ignore[no-untyped-def]
    """Whether the UTF-8 from ``start`` to ``end`` is the id of an account that can be stopped."""
    if start >= end:
        return False
    first, last = np.int64(byte_at(buffer, start)), np.int64(byte_at(buffer, end - 1))
    if 0x20 < first < 0x80 and 0x20 < last < 0x80 and end - start <= _LENGTH_MAX:
        return True
    return is_unusual_name(buffer, start, end)


@njit(inline="always")
def _is_of_a_service(byte):  # type: ignore[no-untyped-def]
    """A letter, a digit, or one of ``.-_``."""
    lowered = byte | np.int64(0x20)
    return 0x61 <= lowered <= 0x7A or 0x30 <= byte <= 0x39 or byte == 0x2E or byte == 0x2D or byte == 0x5F


@njit(types.boolean(_I64, _I64, _I64), nogil=True, cache=True)
def is_process_name(buffer, start, end):  # type: ignore[no-untyped-def]
    """Whether it is ``service@host``: an account's id, with the name of a service that can be stopped before the @."""
    at = start
    while at < end and _is_of_a_service(np.int64(byte_at(buffer, at))):
        at += 1
    if at == start or at - start > _SERVICE_LENGTH_MAX:
        return False
    return (at == end or byte_at(buffer, at) == np.uint64(_AT)) and is_name(buffer, start, end)


@njit(types.boolean(types.Array(types.uint8, 1, "C", readonly=True), types.boolean), nogil=True, cache=True)
def is_name_of(buffer, is_process):  # type: ignore[no-untyped-def]
    """``is_name`` or ``is_process_name`` of all of an array."""
    memory = address_of(buffer)
    if is_process:
        return is_process_name(memory, 0, buffer.shape[0])
    return is_name(memory, 0, buffer.shape[0])
