"""Control messages ⇄ Confluent wire format: ``0x00``, 4-byte big-endian schema id, Avro body.

The newer framing, ``0x01`` and a 16-byte schema GUID, is read too, and never written.
"""

from __future__ import annotations

import dataclasses
import io
import types
import typing
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache
from typing import Any, Final, TypeVar

import fastavro

from emergency_stop.wire.registry import Registry
from emergency_stop.wire.schemas import load_record_schema

MAGIC: Final = 0
HEADER_BYTES: Final = 5
GUID_MAGIC: Final = 1
GUID_HEADER_BYTES: Final = 17
M = TypeVar("M")


class WireError(ValueError):
    """A value is not a message of the expected kind; the text says what is wrong with it."""


@cache
def _parsed(record: str) -> Any:
    return fastavro.parse_schema(load_record_schema(record), named_schemas={})


def frame(schema_id: int, body: bytes) -> bytes:
    return b"\0" + schema_id.to_bytes(4, "big") + body


def encode_body(record: str, value: Mapping[str, Any]) -> bytes:
    """Plain mapping → Avro body without its frame, by the committed schema of ``record``."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _parsed(record), value)
    return out.getvalue()


def encode_record(record: str, value: Mapping[str, Any], schema_id: int) -> bytes:
    """Plain mapping → wire bytes, by the committed schema of ``record``."""
    return frame(schema_id, encode_body(record, value))


def split_frame(value: bytes | None) -> tuple[int | str, memoryview]:
    """(schema id, or GUID as 32 hex digits; body). Raises ``WireError`` for anything that is not Confluent framing."""
    if value is None:
        raise WireError("value is null")
    header_bytes = GUID_HEADER_BYTES if value[:1] == bytes([GUID_MAGIC]) else HEADER_BYTES
    if len(value) < header_bytes:
        raise WireError(f"value of {len(value)} bytes is shorter than the {header_bytes}-byte header")
    body = memoryview(value)[header_bytes:]
    if value[0] == MAGIC:
        return int.from_bytes(value[1:header_bytes], "big"), body
    if value[0] == GUID_MAGIC:
        return value[1:header_bytes].hex(), body
    raise WireError(f"first byte is {value[0]:#04x}, not {MAGIC:#04x} or {GUID_MAGIC:#04x} as in Confluent's format")


def _builder(hint: Any) -> Callable[[Any], Any] | None:
    """What makes a value of ``hint`` of its plain form; ``None`` where both are the same, as of every scalar."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        inner = _builder(next(arg for arg in args if arg is not type(None)))
        return None if inner is None else lambda value: None if value is None else inner(value)
    if origin is tuple:
        item = _builder(args[0])
        return tuple if item is None else lambda value: tuple(item(entry) for entry in value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _record_builder(hint)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint
    return None


@cache
def _record_builder(kind: type[Any]) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    builders = {field.name: _builder(hints[field.name]) for field in dataclasses.fields(kind)}
    made = [(name, make) for name, make in builders.items() if make is not None]

    def build(value: Mapping[str, Any]) -> Any:
        fields = {name: value[name] for name in builders if name in value}
        for name, make in made:
            if name in fields:
                fields[name] = make(fields[name])
        return kind(**fields)

    return build


@cache
def _plain_fields(kind: type[Any]) -> tuple[tuple[str, bool], ...]:
    """(name, whether it holds dataclasses) of every field."""
    hints = typing.get_type_hints(kind)
    return tuple((field.name, _holds_dataclass(hints[field.name])) for field in dataclasses.fields(kind))


def _holds_dataclass(hint: Any) -> bool:
    return dataclasses.is_dataclass(hint) or any(_holds_dataclass(inner) for inner in typing.get_args(hint))


def to_plain(message: Any) -> dict[str, Any]:
    """A message as a mapping, ready for Avro or JSON. Ten times as fast as ``dataclasses.asdict``: scalars and
    tuples of scalars are shared, not copied.
    """
    return {
        name: _deep_plain(getattr(message, name)) if nested else getattr(message, name)
        for name, nested in _plain_fields(message.__class__)
    }


def _deep_plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_deep_plain(entry) for entry in value]
    return to_plain(value) if dataclasses.is_dataclass(value) else value


def from_plain(kind: type[M], value: Mapping[str, Any]) -> M:
    """The inverse of ``to_plain``: nested dataclasses, tuples, enums and optionals by their hints.

    Entries that ``kind`` does not know are left out; a missing one takes its default, or raises ``TypeError``.
    """
    built: M = _record_builder(typing.cast("Any", kind))(value)
    return built


class Codec:
    """Encodes and decodes control messages; the dataclass's name is the Avro record's name.

    Not thread-safe on the first use of an id (the registry may be asked).
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._writers: dict[int | str, Any] = {}

    def encode(self, message: Any, topic: str) -> bytes:
        """Message → wire bytes for ``topic``."""
        record = type(message).__name__
        return encode_record(record, to_plain(message), self._registry.schema_id(record, topic))

    def decode(self, kind: type[M], value: bytes | None) -> M:
        """Wire bytes → message of ``kind``, resolved from the writer's schema to the committed one.

        Raises ``WireError`` or ``UnknownSchemaError``; never anything else for bad bytes. Raises
        ``SchemaUnansweredError`` where nobody can tell yet, because a registry does not answer.
        """
        schema_id, body = split_frame(value)
        writer = self._writer(schema_id)
        try:
            plain = fastavro.schemaless_reader(io.BytesIO(body), writer, _parsed(kind.__name__))
            built: M = _record_builder(typing.cast("Any", kind))(plain)
        except Exception as error:  # fastavro raises many types for bad bytes; all mean the same here
            raise WireError(f"not a {kind.__name__}: {type(error).__name__}: {error}") from error
        return built

    def _writer(self, schema_id: int | str) -> Any:
        known = self._writers.get(schema_id)
        if known is None:
            schema = self._registry.writer_schema(schema_id)
            try:
                known = self._writers[schema_id] = fastavro.parse_schema(schema, named_schemas={})
            except Exception as error:  # many types again; a registry may hold what only looks like a schema
                raise WireError(f"schema {schema_id} is no Avro: {type(error).__name__}: {error}") from error
        return known
