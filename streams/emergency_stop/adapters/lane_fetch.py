"""The one seam into aiokafka: a fetch response of a lane topic becomes one record, not one per event.

aiokafka's ``Fetcher`` makes ``PartitionRecords(tp, MemoryRecords(bytes), …)`` of every partition response
and iterates it into ``ConsumerRecord`` objects. Both names are module globals of ``aiokafka.consumer.
fetcher``; here they are replaced by versions that behave as before for every consumer, except for those
that were given a ``LaneTopics`` as key deserializer: there, a lane topic's response is yielded as one
``ConsumerRecord`` whose value is a ``FetchedBatch``. This is private API: versions are pinned, and
``tests/contract/test_lane_fetch.py`` fails loudly when an upgrade changes any of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import aiokafka
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import ConsumerRecord, TopicPartition

from emergency_stop.adapters.lane_stream import install_stream
from emergency_stop.columnar.fetched import FetchedBatch

SEAM_VERSION: Final = "0.14.0"
_ORIGINAL_RECORDS: Final = fetcher.PartitionRecords
_LOG_OVERHEAD_BYTES: Final = 12
_CRC_COVERS_FROM: Final = 21
_READ_COMMITTED: Final = fetcher.READ_COMMITTED
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20
#: base offset, batch length, leader epoch, magic, crc, attributes, last offset delta, times, producer id
_HEAD: Final = struct.Struct(">qiibIhiqqq")
_ABORT_MARKER_KEY: Final = b"\x00\x00\x00\x00"


class SeamError(RuntimeError):
    """aiokafka is not the version that the seam was written for."""


@dataclass(frozen=True, slots=True)
class LaneTopics:
    """Marks a consumer: responses of ``topics`` stay whole. Given as the consumer's key deserializer."""

    topics: frozenset[str]

    def __call__(self, key: bytes | None) -> bytes | None:
        return key


class _KeptRecords:
    """aiokafka's ``MemoryRecords`` with its bytes still at hand."""

    __slots__ = ("parsed", "raw")

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.parsed = MemoryRecords(raw)

    def has_next(self) -> bool:
        return bool(self.parsed.has_next())

    def size_in_bytes(self) -> int:
        return int(self.parsed.size_in_bytes())


@dataclass(frozen=True, slots=True)
class _Head:
    base_offset: int
    end: int
    attributes: int
    next_offset: int
    max_timestamp: int
    producer_id: int


def _partition_records(
    tp: TopicPartition,
    records: _KeptRecords,
    aborted_transactions: Any,
    fetch_offset: int,
    key_deserializer: Any,
    value_deserializer: Any,
    check_crcs: bool,
    isolation_level: int,
) -> Any:
    if isinstance(key_deserializer, LaneTopics) and tp.topic in key_deserializer.topics:
        aborted = aborted_transactions if isolation_level == _READ_COMMITTED else None
        return LaneRecords(tp, records.raw, aborted, fetch_offset, check_crcs=check_crcs)
    return _ORIGINAL_RECORDS(
        tp,
        records.parsed,
        aborted_transactions,
        fetch_offset,
        key_deserializer,
        value_deserializer,
        check_crcs,
        isolation_level,
    )


class LaneRecords:
    """One partition's response as an iterator of at most one record; see ``PartitionRecords``.

    The record's batches are empty where all that came was aborted or control.

    ``next_fetch_offset`` is the position: where the response was fetched from until the record is
    taken, then past its last batch, also when only control or aborted batches were in it.
    """

    def __init__(
        self,
        tp: TopicPartition,
        raw: Any,
        aborted: list[tuple[int, int]] | None,
        fetch_offset: int,
        *,
        check_crcs: bool,
    ) -> None:
        self._tp = tp
        self._raw = memoryview(raw)
        self._aborted = sorted(aborted or [], key=lambda entry: entry[1])
        self._read_committed = aborted is not None
        self._check_crcs = check_crcs
        self.next_fetch_offset = fetch_offset
        self._iterator = self._unpack()

    def __iter__(self) -> Iterator[ConsumerRecord[None, FetchedBatch]]:
        return self

    def __next__(self) -> ConsumerRecord[None, FetchedBatch]:
        return next(self._iterator)

    def _unpack(self) -> Iterator[ConsumerRecord[None, FetchedBatch]]:
        position = self.next_fetch_offset
        kept: list[bytes] = []
        newest = -1
        next_offset = position
        ongoing: set[int] = set()
        at = 0
        while (head := self._head(at)) is not None:
            if self._wanted(head, at, ongoing) and head.next_offset > position:
                kept.append(bytes(self._raw[at : head.end]))
                newest = max(newest, head.max_timestamp)
            next_offset = max(next_offset, head.next_offset)
            at = head.end
        self.next_fetch_offset = next_offset
        self._raw = memoryview(b"")
        if next_offset > position:
            # Of nothing but aborted or control batches too: else who counts positions would stand still before them.
            batch = FetchedBatch(self._tp.topic, self._tp.partition, position, next_offset, tuple(kept))
            size = sum(len(part) for part in kept)
            yield ConsumerRecord(
                self._tp.topic, self._tp.partition, next_offset - 1, newest, 0, None, batch, None, -1, size, ()
            )

    def _head(self, at: int) -> _Head | None:
        """The batch at ``at``; ``None`` at the end, where the broker may have cut the last one short."""
        raw = self._raw
        if len(raw) - at < _LOG_OVERHEAD_BYTES:
            return None
        end = at + _LOG_OVERHEAD_BYTES + int.from_bytes(raw[at + 8 : at + 12], "big", signed=True)
        if end > len(raw):
            return None
        base, _, _, magic, crc, attributes, last_delta, _, max_timestamp, producer = _HEAD.unpack_from(raw, at)
        if magic != 2:  # noqa: PLR2004  (every broker since 0.11 writes format 2)
            raise CorruptRecordException(f"{self._tp}: message format {magic} at offset {base}; only 2 is read")
        if self._check_crcs and calc_crc32c(raw[at + _CRC_COVERS_FROM : end]) != crc:
            raise CorruptRecordException(f"Invalid CRC - {self._tp} at offset {base}")
        return _Head(base, end, attributes, base + last_delta + 1, max_timestamp, producer)

    def _wanted(self, head: _Head, at: int, ongoing: set[int]) -> bool:
        """Neither a control batch nor, under read_committed, part of an aborted transaction."""
        if self._read_committed:
            while self._aborted and self._aborted[0][1] <= head.base_offset:
                ongoing.add(self._aborted.pop(0)[0])
        if head.attributes & _CONTROL:
            if _ABORT_MARKER_KEY in bytes(self._raw[at : head.end]):
                ongoing.discard(head.producer_id)
            return False
        return not (head.attributes & _TRANSACTIONAL and head.producer_id in ongoing)


def install_seam() -> None:
    """Replace the names in aiokafka; idempotent. Raises ``SeamError`` for an unknown version."""
    if aiokafka.__version__ != SEAM_VERSION:
        raise SeamError(
            f"aiokafka is {aiokafka.__version__}, the columnar lane is written for {SEAM_VERSION};"
            " run the contract tests against the new version, then raise SEAM_VERSION"
        )
    fetcher.MemoryRecords = _KeptRecords
    fetcher.PartitionRecords = _partition_records
    install_stream()
