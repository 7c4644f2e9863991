"""Rows of Avro → a block in ClickHouse's Native format, in the order of the table's key, without an object per row.

ClickHouse reads Avro row by row, which takes more of its time than all else of an insert but the merges; a Native
block is its own columns in memory. Rows that are in the order of the key already are not sorted again: it looks. Only
flat records become such blocks; what has lists or records in it goes as an Avro container.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from emergency_stop.columnar import program as p
from emergency_stop.columnar.block_kernels import fill_columns, measure_rows, order_by_text
from emergency_stop.columnar.columns import I64, U8

_MOMENT: Final = "DateTime64(3, 'UTC')"
_TYPES: Final = {
    "string": (p.STRING, "String"),
    "int": (p.INT, "Int32"),
    "long": (p.LONG, "Int64"),
    "double": (p.DOUBLE, "Float64"),
}
_NULLABLE: Final = "Nullable(String)"
#: The text that a block is sorted by, where the record has it: the first column of its table's key.
KEY: Final = "account_id"


class RowsMismatchError(ValueError):
    """Rows are not of the schema that they are said to be of; nothing of them may be stored as it."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows for one insert, in a format that ClickHouse reads: ``Native`` or ``Avro``."""

    form: str
    data: bytes


@dataclass(frozen=True, slots=True)
class BlockForm:
    """Columns of a schema, in the order of its fields.

    ``fields[f] = (op, argument, symbols)``, see ``measure_rows``; ``symbols`` are texts as a block has them, between
    ``bounds``. ``key`` is the column to sort by, -1 for none.
    """

    names: tuple[str, ...]
    types: tuple[str, ...]
    fields: I64
    bounds: I64
    symbols: U8
    key: int


def block_form(schema: dict[str, Any]) -> BlockForm | None:
    """How rows of this record become a block; ``None`` where a field is of a type that has no column here."""
    types: list[str] = []
    fields: list[tuple[int, int, int]] = []
    symbols: list[bytes] = []
    for field in schema["fields"]:
        column = _column(field["type"], len(symbols))
        if column is None:
            return None
        kind, code, texts = column
        types.append(kind)
        fields.append(code)
        symbols += [_text(one) for one in texts]
    names = tuple(field["name"] for field in schema["fields"])
    return BlockForm(
        names,
        tuple(types),
        np.array(fields, np.int64).reshape(-1, 3),
        np.cumsum([0, *map(len, symbols)], dtype=np.int64),
        np.frombuffer(b"".join(symbols), np.uint8),
        names.index(KEY) if KEY in names and types[names.index(KEY)] == "String" else -1,
    )


def _column(kind: Any, known: int) -> tuple[str, tuple[int, int, int], list[str]] | None:
    """(ClickHouse's type, (op, argument, symbols), the symbols); ``known`` symbols came before."""
    if isinstance(kind, list):
        if len(kind) != 2 or {"null", "string"} != set(map(str, kind)):  # noqa: PLR2004  (a text, or none)
            return None
        return _NULLABLE, (p.UNION, kind.index("null"), 0), []
    if isinstance(kind, dict) and kind["type"] == "enum":
        return "String", (p.ENUM, known, len(kind["symbols"])), kind["symbols"]
    moment = isinstance(kind, dict) and kind.get("logicalType") == "timestamp-millis"
    plain = kind["type"] if isinstance(kind, dict) else kind
    if plain not in _TYPES:
        return None
    op, name = _TYPES[plain]
    return _MOMENT if moment else name, (op, 0, 0), []


def native_block(form: BlockForm, count: int, rows: Iterable[bytes]) -> Block:
    """``count`` rows as one block, sorted by the form's key; equal keys stay in the order in which they came.

    Keys that are equal in the first 40 bytes behind what all of them begin with count as equal: ClickHouse sorts those
    itself.

    Raises ``RowsMismatchError``.
    """
    data = np.frombuffer(b"".join(rows), np.uint8)
    starts, keys = np.empty(count, np.int64), np.zeros((2, count), np.int64)
    sizes = np.zeros(len(form.names), np.int64)
    end = int(measure_rows(data, form.fields, form.bounds, form.key, starts, keys, sizes))
    if end != len(data):
        raise RowsMismatchError(f"{count} rows of {', '.join(form.names)} end at {end} of {len(data)} bytes")
    order = _order(form, data, keys, count)
    heads = [_text(name) + _text(kind) for name, kind in zip(form.names, form.types, strict=True)]
    head = _length(len(heads)) + _length(count)
    out = np.empty(len(head) + sum(map(len, heads)) + int(sizes.sum()), np.uint8)
    at = _put(out, 0, head)
    cursors = np.empty(len(heads), np.int64)
    for column, text in enumerate(heads):
        at = _put(out, at, text)
        cursors[column] = at + (count if form.types[column] == _NULLABLE else 0)
        at += int(sizes[column])
    fill_columns(data, form.fields, form.bounds, form.symbols, starts, order, cursors, out)
    return Block("Native", out.tobytes())


def _order(form: BlockForm, data: U8, keys: I64, count: int) -> I64:
    order = np.arange(count, dtype=np.int64)
    if form.key >= 0 and count > 1:
        words = np.empty(count, np.uint64)
        order_by_text(data, keys, order, np.empty_like(order), words, np.empty_like(words))
    return order


def _put(out: U8, at: int, data: bytes) -> int:
    out[at : at + len(data)] = np.frombuffer(data, np.uint8)
    return at + len(data)


def _length(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004  (seven bits a byte)
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _text(text: str) -> bytes:
    return _length(len(text.encode())) + text.encode()
