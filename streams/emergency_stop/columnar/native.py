"""ClickHouse's Native format → arrays: the columns of an answer, without an object per row.

An answer is a row of blocks. A block is its counts of columns and of rows, then per column a name, a type, and the
values: numbers as they lie in memory, texts each behind its length. Only the two types of numbers and the one of text
that our own statements ask for are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from emergency_stop.columnar.columns import F64, I32, I64, U8, U64
from emergency_stop.columnar.native_kernels import hash_texts, walk_texts

_NUMBERS: Final[Mapping[str, type[np.int64 | np.float64]]] = {"Int64": np.int64, "Float64": np.float64}
_TEXT: Final = "String"
_VALUE_BYTES: Final = 8


class NativeFormatError(ValueError):
    """Bytes are no answer in the Native format, or it has a type that is not read; the text says which and where."""


@dataclass(frozen=True, slots=True)
class Texts:
    """One text per row: byte ranges of ``buffer``."""

    buffer: U8
    start: I64
    length: I32

    def hashes(self) -> U64:
        """The texts' hashes, as columns of strings and keys carry them."""
        found: U64 = np.empty(len(self.start), np.uint64)
        hash_texts(self.buffer, self.start, self.length, found)
        return found

    def at(self, row: int) -> bytes:
        """One row's bytes (not for hot paths)."""
        start = int(self.start[row])
        return self.buffer[start : start + int(self.length[row])].tobytes()


@dataclass(frozen=True, slots=True)
class Answer:
    """``n`` rows; ``longs``, ``doubles`` and ``texts`` are columns by name. An answer without rows has no columns."""

    n: int = 0
    longs: Mapping[str, I64] = field(default_factory=dict)
    doubles: Mapping[str, F64] = field(default_factory=dict)
    texts: Mapping[str, Texts] = field(default_factory=dict)


@dataclass(slots=True)
class _Source:
    """The bytes, read from the front."""

    data: U8
    at: int = 0

    def varint(self) -> int:
        value, shift, more = 0, 0, True
        while more:
            byte = int(self.take(1)[0])
            value |= (byte & 0x7F) << shift
            shift, more = shift + 7, byte > 0x7F  # noqa: PLR2004  (the continuation bit)
        return value

    def name(self) -> str:
        return self.take(self.varint()).tobytes().decode()

    def take(self, size: int) -> U8:
        if size > len(self.data) - self.at:
            raise NativeFormatError(f"{size} bytes are needed at {self.at} of {len(self.data)}: the answer is cut off")
        self.at += size
        return self.data[self.at - size : self.at]


@dataclass(slots=True)
class _Pieces:
    """A column's values, block by block."""

    longs: dict[str, list[I64]] = field(default_factory=dict)
    doubles: dict[str, list[F64]] = field(default_factory=dict)
    texts: dict[str, list[tuple[I64, I32]]] = field(default_factory=dict)


def read_native(data: bytes) -> Answer:
    """All blocks of an answer as one. Texts stay where they are: ``data`` lives as long as they do.

    Raises ``NativeFormatError``.
    """
    source, pieces, n = _Source(np.frombuffer(data, np.uint8)), _Pieces(), 0
    while source.at < len(source.data):
        columns, rows = source.varint(), source.varint()
        for _ in range(columns):
            _read_column(source, rows, pieces)
        n += rows
    return Answer(
        n,
        {name: np.concatenate(parts) for name, parts in pieces.longs.items()},
        {name: np.concatenate(parts) for name, parts in pieces.doubles.items()},
        {
            name: Texts(source.data, *(np.concatenate(column) for column in zip(*parts, strict=True)))
            for name, parts in pieces.texts.items()
        },
    )


def _read_column(source: _Source, rows: int, pieces: _Pieces) -> None:
    name, kind = source.name(), source.name()
    if kind == _TEXT:
        start, length = np.empty(rows, np.int64), np.empty(rows, np.int32)
        end = int(walk_texts(source.data, source.at, start, length))
        if end < 0:
            where = f"column {name!r} at {source.at}"
            raise NativeFormatError(f"{where} has fewer than {rows} texts: the answer is cut off")
        source.at = end
        pieces.texts.setdefault(name, []).append((start, length))
    elif kind in _NUMBERS:
        values = np.frombuffer(source.take(rows * _VALUE_BYTES).tobytes(), _NUMBERS[kind])
        kept: dict[str, list[I64]] | dict[str, list[F64]] = pieces.longs if kind == "Int64" else pieces.doubles
        kept.setdefault(name, []).append(values)  # type: ignore[arg-type]  # the kind decides
    else:
        known = ", ".join((*_NUMBERS, _TEXT))
        raise NativeFormatError(f"column {name!r} has type {kind}; ask for one of {known}")
