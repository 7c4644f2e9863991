"""Records of a fetched batch one by one, for topics of few records."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from aiokafka.record.default_records import DefaultRecordBatch

from emergency_stop.columnar.fetched import FetchedBatch


def records_of(
    batch: FetchedBatch, from_offset: int, damaged: Callable[[str], None]
) -> Iterator[tuple[int, bytes | None, bytes | None]]:
    """(offset, key, value) of every record at or after ``from_offset``.

    A record batch that cannot be unpacked, or breaks off, is told to ``damaged``, once. What came of it before was
    handed out, and the batches behind it are: a stop may be among them.
    """
    for raw in batch.batches:
        try:
            for record in DefaultRecordBatch(bytearray(raw)):
                if record.offset >= from_offset:
                    yield record.offset, record.key, record.value
        except Exception as error:  # noqa: BLE001  # each codec has errors of its own, and a batch is data from outside
            damaged(f"{type(error).__name__}: {error}")
