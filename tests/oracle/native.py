"""ClickHouse's Native format, written value by value: the naive twin of what reads it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any


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
        for value in values:
            if kind == "String":
                out.append(text(value))
            else:
                out.append(struct.pack("<q" if kind == "Int64" else "<d", value))
    return b"".join(out)
