"""The naive twin of the columnar decoder: one record after another, from the specification, in plain Python.

Imports nothing of the decoder except the names of its reasons. aiokafka opens the record batches.
"""

from __future__ import annotations

import math
import string
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.record.default_records import DefaultRecordBatch

from emergency_stop.domain.reasons import FUTURE_MS_MAX, Reject

DEPTH_MAX: Final = 32
_INT_MAX: Final = 2**31 - 1
_TOPIC_LETTERS: Final = frozenset(string.ascii_letters + string.digits + "._-")
_LEAVES: Final = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")


class Refused(Exception):
    """A record is not accepted."""

    def __init__(self, reason: Reject) -> None:
        super().__init__(reason.label)
        self.reason = reason


@dataclass(frozen=True)
class Row:
    """An accepted record; ``fields`` are the writer's, with enums as symbols."""

    offset: int
    record_timestamp: int
    key: bytes
    body: bytes
    fields: dict[str, Any]


class Bytes:
    """A value's bytes, read from the front."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.items_left = len(data)

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise Refused(Reject.TRUNCATED)
        self.at += size
        return self.data[self.at - size : self.at]

    def varint(self) -> int:
        raw = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            if shift == 63 and byte > 1:
                break
            raw |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (raw >> 1) ^ -(raw & 1)
        raise Refused(Reject.OVERLONG_VARINT)

    def sized(self) -> bytes:
        length = self.varint()
        if not 0 <= length <= len(self.data) - self.at:
            raise Refused(Reject.BAD_LENGTH)
        return self.take(length)

    def text(self) -> str:
        return as_text(self.sized())


def as_text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Refused(Reject.BAD_UTF8) from None


def read_value(schema: Any, source: Bytes, named: dict[str, Any], depth: int = 0) -> Any:
    """One value by the writer's schema; types are named without namespaces here."""
    if isinstance(schema, str) and schema not in _LEAVES:
        schema = named[schema.rpartition(".")[2]]
    if isinstance(schema, list):
        branch = source.varint()
        if not 0 <= branch < len(schema):
            raise Refused(Reject.BAD_UNION)
        return read_value(schema[branch], source, named, depth)
    kind = schema if isinstance(schema, str) else schema["type"]
    if isinstance(schema, dict) and "name" in schema:
        named[schema["name"]] = schema
    if kind in _LEAVES:
        return _read_leaf(kind, source)
    if kind == "enum":
        return _read_symbol(schema["symbols"], source)
    if kind == "fixed":
        return source.take(schema["size"])
    if depth == DEPTH_MAX:
        raise Refused(Reject.TOO_DEEP)
    if kind == "record":
        return {field["name"]: read_value(field["type"], source, named, depth + 1) for field in schema["fields"]}
    return _read_blocks(schema, source, named, depth)


def _read_symbol(symbols: list[str], source: Bytes) -> str:
    index = source.varint()
    if not 0 <= index < len(symbols):
        raise Refused(Reject.BAD_ENUM)
    return symbols[index]


def _read_leaf(kind: str, source: Bytes) -> Any:
    if kind == "null":
        return None
    if kind == "boolean":
        byte = source.take(1)[0]
        if byte > 1:
            raise Refused(Reject.BAD_BOOLEAN)
        return bool(byte)
    if kind in ("float", "double"):
        (number,) = struct.unpack("<f" if kind == "float" else "<d", source.take(4 if kind == "float" else 8))
        if not math.isfinite(number):
            raise Refused(Reject.NOT_FINITE)
        return number
    if kind == "string":
        return source.text()
    if kind == "bytes":
        return source.sized()
    whole = source.varint()
    if kind == "int" and not -_INT_MAX - 1 <= whole <= _INT_MAX:
        raise Refused(Reject.OVERLONG_VARINT)
    return whole


def _read_blocks(schema: Any, source: Bytes, named: dict[str, Any], depth: int) -> list[Any]:
    items = []
    while (count := source.varint()) != 0:
        if count < 0:
            size = source.varint()
            if not 0 <= size <= len(source.data) - source.at:
                raise Refused(Reject.BAD_LENGTH)
        if abs(count) > min(len(source.data) - source.at, source.items_left):
            raise Refused(Reject.BAD_LENGTH)
        source.items_left -= abs(count)
        for _ in range(abs(count)):
            name = source.text() if schema["type"] == "map" else None
            item = read_value(schema["items" if name is None else "values"], source, named, depth + 1)
            items.append(item if name is None else (name, item))
    return items


def can_be_stopped(record: str, account_id: str) -> bool:
    """Whether ``account:<id>``, or for a process's ``service@host`` ``service:<name>``, is a scope with a topic."""
    good = account_id != "" and account_id == account_id.strip() and len("account:" + account_id) <= 256
    if record == "SystemEvent":
        service = account_id.split("@", maxsplit=1)[0]
        good = good and service != "" and set(service) <= _TOPIC_LETTERS
        good = good and len("estop.commands." + service) <= 249
    return good


def split(value: bytes) -> tuple[int | str, bytes]:
    """(schema id or GUID, body) of a framed value."""
    if len(value) < 5:
        raise Refused(Reject.SHORT_VALUE)
    if value[0] > 1:
        raise Refused(Reject.BAD_MAGIC)
    if value[0] == 0:
        return int.from_bytes(value[1:5], "big"), value[5:]
    if len(value) < 17:
        raise Refused(Reject.SHORT_VALUE)
    return value[1:17].hex(), value[17:]


#: (schema id or GUID) → the writer's schema and, by field, the reader's symbols. Raises ``Refused``.
Writers = Callable[[int | str], tuple[Any, dict[str, list[str]]]]


def decode_naively(
    batches: Iterable[bytes], fetch_offset: int, writers: Writers
) -> tuple[list[Row], list[tuple[int, Reject]]]:
    """Accepted rows, and (offset, reason) of the refused."""
    rows, refused = [], []
    for raw in batches:
        for record in DefaultRecordBatch(raw):
            if record.offset < fetch_offset:
                continue
            try:
                rows.append(_row(record, writers))
            except Refused as why:
                refused.append((record.offset, why.reason))
    return rows, refused


def _account_id(source: Bytes, key: bytes, record: str) -> str:
    account = source.sized()
    if account != key:
        raise Refused(Reject.KEY_MISMATCH)
    text = as_text(account)
    if not can_be_stopped(record, text):
        raise Refused(Reject.BAD_ACCOUNT_ID)
    return text


def _row(record: Any, writers: Writers) -> Row:
    if record.key is None:
        raise Refused(Reject.NULL_KEY)
    if record.value is None:
        raise Refused(Reject.NULL_VALUE)
    schema_id, body = split(record.value)
    writer, symbols = writers(schema_id)
    source = Bytes(body)
    fields = {}
    for field in writer["fields"]:
        name = field["name"]
        source.items_left = len(body) - source.at
        if name == "account_id":
            fields[name] = _account_id(source, record.key, writer["name"])
            continue
        fields[name] = read_value(field["type"], source, {})
        if name in symbols and fields[name] is not None and fields[name] not in symbols[name]:
            raise Refused(Reject.BAD_ENUM)
    if source.at != len(body):
        raise Refused(Reject.TRAILING_BYTES)
    if int(fields["occurred_at"]) < 0:
        raise Refused(Reject.NEGATIVE_TIMESTAMP)
    if fields["occurred_at"] > record.timestamp + FUTURE_MS_MAX:
        raise Refused(Reject.FUTURE_TIMESTAMP)
    return Row(record.offset, record.timestamp, record.key, body, fields)
