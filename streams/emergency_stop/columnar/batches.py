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
from emergency_stop.columnar.record_kernels import walk_records

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES: Final = _HEADER.size
_CODEC_MASK: Final = 0x07
_LOG_APPEND_TIME: Final = 0x08
_SCRATCH_BYTES_MIN: Final = 4 * 1024 * 1024
#: A batch that needed more than this does not keep it for ever.
_SCRATCH_BYTES_KEPT: Final = 32 * 1024 * 1024
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES: Final = 16


class CorruptBatchError(ValueError):
    """A batch whose checksum is right cannot be unpacked: its codec is unknown or its data is broken."""


def _xerial_blocks(data: memoryview) -> list[memoryview]:
    """The raw snappy blocks of the Java client's framing, each with its length before it; else the whole."""
    if bytes(data[: len(_XERIAL)]) != _XERIAL:
        return [data]
    blocks, at = [], _XERIAL_HEADER_BYTES
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        at += 4
        blocks.append(data[at : at + size])
        at += size
    return blocks


@dataclass(frozen=True, slots=True)
class _Codec:
    """``into`` writes to memory that is there, and fails where it is too small; ``whole`` allocates."""

    whole: Callable[[Any], Any]
    into: Callable[[Any, Any], int]


_RAW_SNAPPY: Final = _Codec(cramjam.snappy.decompress_raw, cramjam.snappy.decompress_raw_into)
_CODECS: Final[dict[int, _Codec]] = {
    1: _Codec(cramjam.gzip.decompress, cramjam.gzip.decompress_into),
    2: _RAW_SNAPPY,
    3: _Codec(cramjam.lz4.decompress, cramjam.lz4.decompress_into),
    4: _Codec(cramjam.zstd.decompress, cramjam.zstd.decompress_into),
}


class Scratch:
    """Memory that batches are decompressed into, one behind the other; reused, so that it is not cleared anew.

    What ``unpack`` returns lies in it, and is valid until the next ``unpack`` with the same scratch.
    """

    def __init__(self) -> None:
        self._memory: U8 = np.empty(_SCRATCH_BYTES_MIN, np.uint8)
        self._used = 0

    def restart(self) -> None:
        self._used = 0
        if len(self._memory) > _SCRATCH_BYTES_KEPT:
            self._memory = np.empty(_SCRATCH_BYTES_MIN, np.uint8)

    def add(self, codec: _Codec | None, data: memoryview) -> int:
        """Put the payload behind the others; returns the end. Raises ``cramjam.DecompressionError``."""
        if codec is None:
            self._put(data)
            return self._used
        try:
            self._used += codec.into(data, self._memory[self._used :])
        except cramjam.DecompressionError:  # too small, or damaged: the other way tells which
            self._put(memoryview(codec.whole(data)))
        return self._used

    def _put(self, payload: memoryview) -> None:
        end = self._used + len(payload)
        if end > len(self._memory):
            larger = np.empty(max(end, 2 * len(self._memory)), np.uint8)
            larger[: self._used] = self._memory[: self._used]
            self._memory = larger
        self._memory[self._used : end] = np.frombuffer(payload, np.uint8)
        self._used = end

    def filled(self) -> U8:
        return self._memory[: self._used]


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


def unpack(batch: FetchedBatch, scratch: Scratch) -> Records:
    """Decompress and walk. Raises ``CorruptBatchError``; a broken record inside only gets a status."""
    scratch.restart()
    table = np.empty((len(batch.batches), 6), np.int64)
    end = 0
    for index, raw in enumerate(batch.batches):
        start = end
        end, row = _open(raw, scratch)
        table[index] = (start, end, *row)
    buffer = scratch.filled()
    bound = int(table[:, 2].sum())
    if bound > end:
        raise CorruptBatchError(f"{batch.topic}-{batch.partition}: {bound} records claimed in {end} bytes")
    longs, ints = np.empty((5, bound), np.int64), np.empty((4, bound), np.int32)
    n = int(walk_records(buffer, table, batch.fetch_offset, longs, ints))
    if n == bound:
        return Records(buffer, longs, ints, n)
    return Records(buffer, np.ascontiguousarray(longs[:, :n]), np.ascontiguousarray(ints[:, :n]), n)


def _open(raw: bytes, scratch: Scratch) -> tuple[int, tuple[int, int, int, int]]:
    """(end of its records in ``scratch``, (count, base offset, base timestamp, log append time or -1))."""
    if len(raw) < HEADER_BYTES:
        raise CorruptBatchError(f"a record batch of {len(raw)} bytes is shorter than its header")
    (base_offset, _, _, magic, _, attributes, _, base_time, max_time, _, _, _, count) = _HEADER.unpack_from(raw)
    if magic != 2:  # noqa: PLR2004  (the message format of every broker since 0.11)
        raise CorruptBatchError(f"record batch has magic {magic}; only format 2 is read")
    number = attributes & _CODEC_MASK
    if number > max(_CODECS) or count < 0:
        raise CorruptBatchError(f"record batch at {base_offset} has codec {number}, count {count}")
    data = memoryview(raw)[HEADER_BYTES:]
    codec, end = _CODECS.get(number), 0
    try:
        for block in _xerial_blocks(data) if codec is _RAW_SNAPPY else (data,):
            end = scratch.add(codec, block)
    except cramjam.DecompressionError as error:
        raise CorruptBatchError(f"record batch at {base_offset} does not decompress: {error}") from error
    return end, (count, base_offset, base_time, max_time if attributes & _LOG_APPEND_TIME else -1)
