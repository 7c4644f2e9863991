"""Kafka v2 record batches: headers, codecs, and one buffer of decompressed records for the kernels."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import cramjam
import numpy as np

from emergency_stop.columnar.columns import I32, I64, U8
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.columnar.kernels import walk_records

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES: Final = _HEADER.size
_CODEC_MASK: Final = 0x07
_LOG_APPEND_TIME: Final = 0x08
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES: Final = 16


class CorruptBatchError(ValueError):
    """A batch whose checksum is right cannot be unpacked: its codec is unknown or its data is broken."""


def _snappy(data: memoryview) -> Any:
    """Raw snappy, or the framing of the Java client (blocks, each with its length)."""
    if bytes(data[: len(_XERIAL)]) != _XERIAL:
        return cramjam.snappy.decompress_raw(data)
    blocks = []
    at = _XERIAL_HEADER_BYTES
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        at += 4
        blocks.append(bytes(cramjam.snappy.decompress_raw(data[at : at + size])))
        at += size
    return b"".join(blocks)


_CODECS: Final[dict[int, Callable[[Any], Any]]] = {
    0: lambda data: data,
    1: cramjam.gzip.decompress,
    2: _snappy,
    3: cramjam.lz4.decompress,
    4: cramjam.zstd.decompress,
}


@dataclass(frozen=True, slots=True)
class Records:
    """Every record of a ``FetchedBatch`` from its ``fetch_offset`` on, not yet decoded.

    ``longs`` rows: offset, record timestamp, key start, value start, headers start. ``ints`` rows: key
    length, value length (-1: null), status (0 or a ``Reject``), bytes of framing that the value's start has
    been moved over. Columns are records; ``n`` are valid.
    """

    buffer: U8
    longs: I64
    ints: I32
    n: int


def unpack(batch: FetchedBatch) -> Records:
    """Decompress and walk. Raises ``CorruptBatchError``; a broken record inside only gets a status."""
    parts: list[Any] = []
    table = np.empty((len(batch.batches), 6), np.int64)
    end = 0
    for index, raw in enumerate(batch.batches):
        payload, row = _open(raw)
        table[index] = (end, end + len(payload), *row)
        end += len(payload)
        parts.append(payload)
    buffer = _joined(parts)
    bound = int(table[:, 2].sum()) if parts else 0
    if bound > end:
        raise CorruptBatchError(f"{batch.topic}-{batch.partition}: {bound} records claimed in {end} bytes")
    longs, ints = np.empty((5, bound), np.int64), np.empty((4, bound), np.int32)
    n = int(walk_records(buffer, table, batch.fetch_offset, longs, ints))
    if n == bound:
        return Records(buffer, longs, ints, n)
    return Records(buffer, np.ascontiguousarray(longs[:, :n]), np.ascontiguousarray(ints[:, :n]), n)


def _open(raw: bytes) -> tuple[Any, tuple[int, int, int, int]]:
    """(records' bytes, (count, base offset, base timestamp, log append time or -1)) of one batch."""
    if len(raw) < HEADER_BYTES:
        raise CorruptBatchError(f"a record batch of {len(raw)} bytes is shorter than its header")
    (base_offset, _, _, magic, _, attributes, _, base_time, max_time, _, _, _, count) = _HEADER.unpack_from(raw)
    if magic != 2:  # noqa: PLR2004  (the message format of every broker since 0.11)
        raise CorruptBatchError(f"record batch has magic {magic}; only format 2 is read")
    codec = _CODECS.get(attributes & _CODEC_MASK)
    if codec is None or count < 0:
        raise CorruptBatchError(f"record batch at {base_offset} has codec {attributes & _CODEC_MASK}, count {count}")
    try:
        payload = codec(memoryview(raw)[HEADER_BYTES:])
    except cramjam.DecompressionError as error:
        raise CorruptBatchError(f"record batch at {base_offset} does not decompress: {error}") from error
    return payload, (count, base_offset, base_time, max_time if attributes & _LOG_APPEND_TIME else -1)


def _joined(parts: list[Any]) -> U8:
    if len(parts) == 1:
        return np.frombuffer(parts[0], np.uint8)
    arrays = [np.frombuffer(part, np.uint8) for part in parts]
    return np.concatenate(arrays) if arrays else np.empty(0, np.uint8)
