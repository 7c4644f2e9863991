"""Records of a fetched batch one by one, for topics of few records."""

from __future__ import annotations

from collections.abc import Iterator

from aiokafka.record.default_records import DefaultRecordBatch

from emergency_stop.columnar.fetched import FetchedBatch


def records_of(batch: FetchedBatch, from_offset: int) -> Iterator[tuple[int, bytes | None, bytes | None]]:
    """(offset, key, value) of every record at or after ``from_offset``.

    Raises ``KafkaError`` at a batch that is none; what came before it was handed out.
    """
    for raw in batch.batches:
        for record in DefaultRecordBatch(bytearray(raw)):
            if record.offset >= from_offset:
                yield record.offset, record.key, record.value
