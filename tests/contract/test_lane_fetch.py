"""The seam into aiokafka: what it replaces is there, is called so, and behaves as before for everybody else."""

from __future__ import annotations

import inspect
import struct
from typing import Any

import aiokafka
import pytest
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from emergency_stop.adapters import lane_fetch
from emergency_stop.adapters.lane_fetch import LaneTopics, SeamError, install_seam
from emergency_stop.columnar.fetched import FetchedBatch

LANE = TopicPartition("telemetry.health", 2)
OTHER = TopicPartition("estop.holds", 0)
MARKER = LaneTopics(frozenset({LANE.topic}))
COMMITTED = fetcher.READ_COMMITTED
TRANSACTIONAL, CONTROL = 0x10, 0x20


@pytest.fixture(autouse=True)
def _seam() -> None:
    install_seam()


def batch(base: int, count: int, *, producer: int = -1, attributes: int = 0) -> bytes:
    """A record batch as a broker stores it, with a right checksum."""
    builder = DefaultRecordBatchBuilder(2, 0, int(bool(attributes)), producer, 0, 0, 1 << 20)
    for number in range(count):
        builder.append(number, 1_700_000_000_000 + number, b"key", b"value", [])
    raw = bytearray(builder.build())
    struct.pack_into(">q", raw, 0, base)
    if attributes:
        struct.pack_into(">h", raw, 21, struct.unpack_from(">h", raw, 21)[0] | attributes)
        struct.pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
    return bytes(raw)


def abort_marker(base: int, producer: int) -> bytes:
    """The control batch that ends an aborted transaction."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, producer, 0, 0, 1 << 20)
    builder.append(0, 1_700_000_000_000, b"\0\0\0\0", b"\0\0\0\0\0\0", [])
    raw = bytearray(builder.build())
    struct.pack_into(">q", raw, 0, base)
    struct.pack_into(">h", raw, 21, TRANSACTIONAL | CONTROL)
    struct.pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
    return bytes(raw)


def response(where: TopicPartition, raw: bytes, *, start: int = 0, aborted: Any = None, marker: Any = MARKER) -> Any:
    """What the fetcher makes of one partition's response, called as the fetcher calls it."""
    records = fetcher.MemoryRecords(raw)
    return fetcher.PartitionRecords(where, records, aborted, start, marker, None, True, COMMITTED)


def one(where: TopicPartition, raw: bytes, **more: Any) -> FetchedBatch:
    (record,) = list(response(where, raw, **more))
    assert isinstance(record.value, FetchedBatch)
    return record.value


def test_the_version_is_the_one_the_seam_was_written_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert aiokafka.__version__ == lane_fetch.SEAM_VERSION
    monkeypatch.setattr(aiokafka, "__version__", "99.0.0")
    with pytest.raises(SeamError, match=r"99\.0\.0"):
        install_seam()


def test_the_original_takes_what_the_seam_hands_on() -> None:
    """Its parameters by position: the fetcher calls it so, and so does the seam."""
    names = list(inspect.signature(lane_fetch._ORIGINAL_RECORDS.__init__).parameters)[1:]
    assert names == list(inspect.signature(lane_fetch._partition_records).parameters)


def test_the_fetcher_uses_the_replaced_names() -> None:
    source = inspect.getsource(fetcher.Fetcher)
    assert "MemoryRecords(" in source
    assert "PartitionRecords(" in source


def test_a_lane_response_is_one_record_with_its_batches_untouched() -> None:
    first, second = batch(10, 3), batch(13, 2)
    found = one(LANE, first + second, start=10)
    assert (found.topic, found.partition) == tuple(LANE)
    assert (found.fetch_offset, found.next_offset) == (10, 15)
    assert found.batches == (first, second)


def test_a_fetch_from_the_middle_keeps_the_batch_and_says_where_it_began() -> None:
    found = one(LANE, batch(10, 5), start=12)
    assert (found.fetch_offset, found.next_offset) == (12, 15)


def test_a_last_batch_that_the_broker_cut_short_is_left_for_the_next_fetch() -> None:
    whole = batch(0, 3)
    assert one(LANE, whole + batch(3, 3)[:-7]).next_offset == 3
    assert list(response(LANE, whole[:-1])) == []


def test_a_wrong_checksum_is_never_read() -> None:
    raw = bytearray(batch(0, 3))
    raw[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        list(response(LANE, bytes(raw)))


def test_aborted_transactions_are_passed_over_and_the_position_moves_past_them() -> None:
    aborted = batch(0, 2, producer=7, attributes=TRANSACTIONAL)
    kept = batch(3, 2)
    found = response(LANE, aborted + abort_marker(2, 7) + kept, aborted=[(7, 0)])
    (record,) = list(found)
    assert record.value.batches == (kept,)
    assert found.next_fetch_offset == 5


def test_a_response_of_nothing_wanted_says_how_far_it_went() -> None:
    found = response(LANE, abort_marker(4, 7), start=4, aborted=[])
    (record,) = list(found)
    assert (record.value.fetch_offset, record.value.next_offset, record.value.batches) == (4, 5, ())
    assert found.next_fetch_offset == 5


def test_an_empty_response_is_no_record() -> None:
    found = response(LANE, b"", start=4, aborted=[])
    assert list(found) == []
    assert found.next_fetch_offset == 4


@pytest.mark.parametrize(("where", "marker"), [(OTHER, MARKER), (LANE, None)])
def test_every_other_consumer_gets_its_records_as_ever(where: TopicPartition, marker: Any) -> None:
    records = list(response(where, batch(0, 3), marker=marker))
    assert [(record.offset, record.key, record.value) for record in records] == [
        (number, b"key", b"value") for number in range(3)
    ]
