"""Accepted records → an Avro object container that ClickHouse reads, without decoding a row.

Each row becomes its origin (topic, partition, offset, timestamp) as Avro, followed by the record's own
body as the producer wrote it. The container's schema is the writer's, with the origin's fields in front.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numba import njit, types

from emergency_stop.columnar.columns import I32, I64, U8

_SYNC: Final = b"estop-avro-sync!"
_MAGIC: Final = b"Obj\x01"
_VARINT_BYTES_MAX: Final = 10
_MILLIS: Final = {"type": "long", "logicalType": "timestamp-millis"}
_ORIGIN: Final[list[dict[str, Any]]] = [
    {"name": "_topic", "type": "string"},
    {"name": "_partition", "type": "int"},
    {"name": "_offset", "type": "long"},
    {"name": "_timestamp", "type": _MILLIS},
]
_BUFFER = types.Array(types.uint8, 1, "C", readonly=True)
_I64S = types.int64[::1]


def varint(value: int) -> bytes:
    """A zigzag varint, as Avro writes ints and longs."""
    raw = (value << 1) ^ (value >> 63)
    raw &= (1 << 64) - 1
    out = bytearray()
    while raw > 0x7F:
        out.append(raw & 0x7F | 0x80)
        raw >>= 7
    out.append(raw)
    return bytes(out)


@njit(inline="always")
def _put_varint(value, out, at):  # type: ignore[no-untyped-def]
    raw = np.uint64((value << 1) ^ (value >> 63))
    while raw > np.uint64(127):
        out[at] = np.uint8(raw & np.uint64(127)) | np.uint8(128)
        raw >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(raw)
    return at + 1


@njit(
    types.int64(_BUFFER, _BUFFER, _I64S, _I64S, _I64S, types.int32[::1], types.uint8[::1]),
    nogil=True,
    cache=True,
)
def _concatenate(prefix, buffer, offsets, timestamps, starts, lengths, out):  # type: ignore[no-untyped-def]
    """Rows as prefix + offset + timestamp + body; returns the bytes written. ``out`` is large enough."""
    at = 0
    for row in range(offsets.shape[0]):
        for index in range(prefix.shape[0]):
            out[at + index] = prefix[index]
        at = _put_varint(offsets[row], out, at + prefix.shape[0])
        at = _put_varint(timestamps[row], out, at)
        start = starts[row]
        for index in range(lengths[row]):
            out[at + index] = buffer[start + index]
        at += lengths[row]
    return at


def rows_from_columns(
    origin: tuple[str, int], buffer: U8, offsets: I64, timestamps: I64, starts: I64, lengths: I32
) -> bytes:
    """The container rows of byte ranges in ``buffer``; arrays are parallel."""
    prefix = np.frombuffer(_origin_prefix(*origin), np.uint8)
    size = int(lengths.sum()) + len(offsets) * (len(prefix) + 2 * _VARINT_BYTES_MAX)
    out = np.empty(size, np.uint8)
    used = _concatenate(prefix, buffer, offsets, timestamps, starts, lengths, out)
    return out[: int(used)].tobytes()


def row_from_body(origin: tuple[str, int], offset: int, timestamp: int, body: bytes) -> bytes:
    """One container row (for low-volume topics)."""
    return _origin_prefix(*origin) + varint(offset) + varint(timestamp) + body


def _origin_prefix(topic: str, partition: int) -> bytes:
    name = topic.encode()
    return varint(len(name)) + name + varint(partition)


def container_schema(writer: dict[str, Any]) -> dict[str, Any]:
    """The writer's schema with the origin in front; moments (``…_at``) are marked as such for the reader."""
    schema = copy.deepcopy(writer)
    for field in schema["fields"]:
        if field["name"].endswith("_at"):
            field["type"] = _as_millis(field["type"])
    schema["fields"] = [*_ORIGIN, *schema["fields"]]
    return schema


def _as_millis(kind: Any) -> Any:
    if isinstance(kind, list):
        return [_as_millis(branch) for branch in kind]
    return _MILLIS if kind == "long" else kind


def container(schema: dict[str, Any], count: int, rows: Iterable[bytes] | Sequence[bytes]) -> bytes:
    """An object container file of one block with ``count`` rows."""
    body = b"".join(rows)
    meta = {b"avro.schema": json.dumps(schema).encode(), b"avro.codec": b"null"}
    head = [_MAGIC, varint(len(meta))]
    for key, value in meta.items():
        head += [varint(len(key)), key, varint(len(value)), value]
    return b"".join([*head, varint(0), _SYNC, varint(count), varint(len(body)), body, _SYNC])
