"""Fetched batches → records one by one, for topics of few records. What a record is, ``walk_records`` alone decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from emergency_stop.columnar.batches import CorruptBatchError, Records, Scratch, unpack
from emergency_stop.columnar.columns import U8
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.domain.reasons import Reject

Headers = tuple[tuple[str, bytes | None], ...]
_VARINT_BYTES_MAX: Final = 5
#: A batch begins with the offset of its first record.
_OFFSET_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Record:
    """One record as received; ``timestamp`` in ms. One that is not ``is_framed`` is what is left of its batch, as
    ``value``.
    """

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    is_framed: bool = True


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A batch that cannot be unpacked, and why; ``offset`` is the first one of it that was asked for."""

    offset: int
    raw: bytes
    problem: str


def records_of(batch: FetchedBatch, scratch: Scratch) -> Iterator[Record | Unreadable]:
    """Records from ``fetch_offset`` to ``next_offset`` (excluded), batch by batch: a broken one hides no other."""
    for one in batch_by_batch(batch):
        try:
            found = unpack(one, scratch)
        except CorruptBatchError as error:
            yield from unreadable(one, error)
            continue
        records = [_record(found, row) for row in range(found.n)]  # before the scratch is used again
        yield from (record for record in records if record.offset < batch.next_offset)


def unreadable(batch: FetchedBatch, error: CorruptBatchError) -> Iterator[Unreadable]:
    """What to say of a single raw batch; nothing where all of it lies behind the offsets that are asked for."""
    (raw,) = batch.batches
    offset = max(batch.fetch_offset, int.from_bytes(raw[:_OFFSET_BYTES], "big", signed=True))
    if offset < batch.next_offset:
        yield Unreadable(offset, raw, str(error))


def batch_by_batch(batch: FetchedBatch) -> Iterator[FetchedBatch]:
    """The same offsets, one raw batch at a time."""
    for raw in batch.batches:
        yield FetchedBatch(batch.topic, batch.partition, batch.fetch_offset, batch.next_offset, (raw,))


def _record(found: Records, row: int) -> Record:
    offset, timestamp, key_start, value_start, headers_start = found.longs[:, row].tolist()
    key_length, value_length, status, _ = found.ints[:, row].tolist()
    is_framed = status != Reject.MALFORMED_RECORD
    return Record(
        offset,
        timestamp,
        _piece(found.buffer, key_start, key_length),
        _piece(found.buffer, value_start, value_length),
        _headers(found.buffer, headers_start) if is_framed else (),
        is_framed,
    )


def _piece(buffer: U8, start: int, length: int) -> bytes | None:
    return None if length < 0 else buffer[start : start + length].tobytes()


def _headers(buffer: U8, start: int) -> Headers:
    """Headers as far as they can be read. Names that are not UTF-8 are spelled out, for brokers do not check them."""
    found: list[tuple[str, bytes | None]] = []
    try:
        count, at = _varint(buffer, start)
        for _ in range(count):
            length, at = _varint(buffer, at)
            name = buffer[at : at + max(length, 0)].tobytes().decode(errors="backslashreplace")
            length, at = _varint(buffer, at + max(length, 0))
            found.append((name, _piece(buffer, at, length)))
            at += max(length, 0)
    except (IndexError, ValueError):
        return tuple(found)
    return tuple(found)


def _varint(buffer: U8, at: int) -> tuple[int, int]:
    """(value, where it ends); Kafka's zigzag. Raises ``IndexError`` at the buffer's end, ``ValueError`` if too long."""
    value = 0
    for index in range(_VARINT_BYTES_MAX):
        byte = int(buffer[at + index])
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004  (the bit that says that more follows)
            return (value >> 1) ^ -(value & 1), at + index + 1
    raise ValueError(f"no varint at byte {at}")
