"""ClickHouse's Native format, written value by value: the naive twin of what reads and what writes it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

_NUMBERS: Final = {"Int32": "<i", "Int64": "<q", "Float64": "<d", "DateTime64(3, 'UTC')": "<q"}


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def text(value: bytes) -> bytes:
    return varint(len(value)) + value


def block(columns: Sequence[tuple[str, str, Sequence[Any]]]) -> bytes:
    """One block of (name, type, values)."""
    rows = len(columns[0][2]) if columns else 0
    out = [varint(len(columns)), varint(rows)]
    for name, kind, values in columns:
        out += [text(name.encode()), text(kind.encode())]
        if kind.startswith("Nullable"):
            out.append(bytes(value is None for value in values))
        for value in values:
            if kind in _NUMBERS:
                out.append(struct.pack(_NUMBERS[kind], value))
            else:
                out.append(text(value or b""))
    return b"".join(out)
