"""Records one by one are what aiokafka reads, and a broken batch hides no other."""

from __future__ import annotations

import random

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from emergency_stop.columnar.batches import Scratch
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.columnar.records import Record, Unreadable, records_of
from tests.unit.sink.values import GOOD, SENT_MS, raw_batch

#: Of the batch header: where its attributes lie, whose low bits name the codec.
AT_CODEC = 22
NAMES = ("trace", "", "größe", "x" * 300)


def random_bytes(rng: random.Random) -> bytes | None:
    return None if rng.random() < 0.2 else rng.randbytes(rng.choice((0, 1, 63, 64, 300)))


@pytest.mark.parametrize("codec", range(5))
def test_they_are_what_aiokafka_reads(codec: int) -> None:
    """A failing seed is the codec's number."""
    rng = random.Random(codec)
    for _ in range(50):
        builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 26)
        for number in range(rng.randint(1, 20)):
            headers = [(rng.choice(NAMES), random_bytes(rng)) for _ in range(rng.randint(0, 4))]
            builder.append(number, SENT_MS + rng.randint(-5_000, 5_000), random_bytes(rng), random_bytes(rng), headers)
        raw = bytes(builder.build())
        wanted = [
            Record(one.offset, one.timestamp, one.key, one.value, tuple(one.headers)) for one in DefaultRecordBatch(raw)
        ]
        first, following = rng.randint(0, 5), rng.randint(6, 20)
        found = list(records_of(FetchedBatch("t", 0, first, following, (raw,)), Scratch()))
        assert found == [one for one in wanted if first <= one.offset < following]


def test_a_header_name_that_is_no_utf8_is_spelled_out() -> None:
    raw = raw_batch(0, [b"value"], [("abcd", b"1"), ("fine", b"2")]).replace(b"abcd", b"\xff\xfe\xfd\xfc")
    (found,) = records_of(FetchedBatch("t", 0, 0, 1, (raw,)), Scratch())
    assert isinstance(found, Record)
    assert found.headers == (("\\xff\\xfe\\xfd\\xfc", b"1"), ("fine", b"2"))
    assert found.value == b"value"


def test_headers_that_lie_about_their_length_are_left_out() -> None:
    whole = raw_batch(0, [b"value"], [("abcd", b"1")])
    at = whole.index(b"abcd") - 1
    for lie in (b"\xff", b"\x7e", b"\x01"):
        raw = whole[:at] + lie + whole[at + 1 :]
        (found,) = records_of(FetchedBatch("t", 0, 0, 1, (raw,)), Scratch())
        assert isinstance(found, Record)
        assert found.value == b"value"


def test_a_batch_that_cannot_be_unpacked_is_told_between_the_others() -> None:
    good = [raw_batch(first, [b"a", b"b"]) for first in (0, 2, 4)]
    good[1] = good[1][:AT_CODEC] + b"\x07" + good[1][AT_CODEC + 1 :]
    found = list(records_of(FetchedBatch("t", 0, 1, 5, tuple(good)), Scratch()))
    assert [(type(one).__name__, one.offset) for one in found] == [("Record", 1), ("Unreadable", 2), ("Record", 4)]
    (lost,) = (one for one in found if isinstance(one, Unreadable))
    assert lost.raw == good[1]
    assert "codec 7" in lost.problem
    assert list(records_of(FetchedBatch("t", 0, 0, 2, (good[1],)), Scratch())) == []


def test_a_record_with_broken_framing_is_the_rest_of_its_batch() -> None:
    values = [b"first", GOOD["estop.hits"], b"last"]
    raw = raw_batch(7, values)
    at = raw.index(values[0]) + len(values[0]) + 1  # behind the number of headers: the next record's length
    broken = raw[:at] + b"\x01" + raw[at + 1 :]
    first, rest = records_of(FetchedBatch("t", 0, 7, 10, (broken,)), Scratch())
    assert isinstance(first, Record)
    assert (first.value, first.is_framed) == (b"first", True)
    assert isinstance(rest, Record)
    assert (rest.offset, rest.is_framed, rest.value) == (8, False, broken[at:])
