"""What the sink makes of input that ends lesser readers: it stores the rest, and keeps what it cannot read."""

from __future__ import annotations

from typing import Any

import pytest

from emergency_stop.apps.sink.dead_letter import DEAD_LETTER_COLUMNS
from emergency_stop.apps.sink.intake import Intake, Intaker
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.domain import topics
from emergency_stop.domain.reasons import Reject
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.registry_http import RegistryError
from tests.unit.sink.values import GOOD, SENT_MS, batch, raw_batch

RECORDS: dict[str, str | None] = {
    topics.TELEMETRY_HEALTH: "HealthEvent", topics.HITS: "Hit", topics.DEAD_LETTER: None,
}  # fmt: skip
AT_CODEC = 22
BOTH = pytest.mark.parametrize("topic", GOOD)


def take(found: FetchedBatch) -> Intake:
    return Intaker(LocalRegistry(), RECORDS).take(found, found.fetch_offset, found.next_offset)


def reasons(intake: Intake) -> list[tuple[int, Reject]]:
    return [(letter.offset, letter.reason) for letter in intake.dead]


@BOTH
def test_a_header_name_that_is_no_utf8_harms_nobody(topic: str) -> None:
    found = batch(topic, 3, [GOOD[topic], b"\x05bad", GOOD[topic]], [("abcd", b"1")])
    intake = take(FetchedBatch(topic, 0, 3, 6, (found.batches[0].replace(b"abcd", b"\xff\xfe\xfd\xfc"),)))
    assert sum(intake.counts.values()) == 2
    (letter,) = intake.dead
    assert (letter.offset, letter.value) == (4, b"\x05bad")
    assert letter.headers == (("\\xff\\xfe\\xfd\\xfc", b"1"),)


@BOTH
def test_a_batch_that_cannot_be_unpacked_costs_no_other(topic: str) -> None:
    raws = [raw_batch(first, [GOOD[topic]] * 2) for first in (0, 2, 4)]
    raws[1] = raws[1][:AT_CODEC] + b"\x07" + raws[1][AT_CODEC + 1 :]
    intake = take(FetchedBatch(topic, 0, 0, 6, tuple(raws)))
    assert sum(intake.counts.values()) == 4
    assert reasons(intake) == [(2, Reject.MALFORMED_RECORD)]
    assert intake.dead[0].value == raws[1]


@BOTH
def test_broken_framing_costs_the_rest_of_its_batch_only(topic: str) -> None:
    raw = raw_batch(0, [GOOD[topic]] * 3)
    at = raw.index(GOOD[topic]) + len(GOOD[topic]) + 1
    broken = raw[:at] + b"\x01" + raw[at + 1 :]
    intake = take(FetchedBatch(topic, 0, 0, 5, (broken, raw_batch(3, [GOOD[topic]] * 2))))
    assert sum(intake.counts.values()) == 3
    assert reasons(intake) == [(1, Reject.MALFORMED_RECORD)]
    assert intake.dead[0].value == broken[at:]


@BOTH
def test_a_registry_that_does_not_answer_says_nothing_of_the_record(topic: str) -> None:
    class Away(LocalRegistry):
        def writer_schema(self, schema_id: int | str) -> dict[str, Any]:
            raise RegistryError("did not answer")

    with pytest.raises(RegistryError):
        Intaker(Away(), RECORDS).take(batch(topic, 0, [GOOD[topic]]), 0, 1)


@BOTH
def test_what_is_refused_counts_as_memory_too(topic: str) -> None:
    values = [b"\x05" + bytes(10_000)] * 20
    intake = take(batch(topic, 0, values))
    assert len(intake.dead) == 20
    assert intake.size > 200_000
    assert intake.size == sum(letter.size for letter in intake.dead)


def test_letters_of_anybody_become_rows_that_their_table_takes() -> None:
    strange = [
        ("__connect.errors.partition", "²".encode()),
        ("__connect.errors.offset", b"9" * 40),
        ("__connect.errors.topic", b"\xff"),
        ("__connect.errors.exception.class.name", None),
    ]
    intake = take(batch(topics.DEAD_LETTER, 0, [b"anything"], strange))
    (row,) = intake.raw_rows
    told = dict(zip(DEAD_LETTER_COLUMNS, row, strict=True))
    assert (told["source_partition"], told["source_offset"], told["source_topic"]) == (-1, -1, "\ufffd")
    assert (told["reason"], told["value"]) == ("", b"anything")
    assert told["_timestamp"].timestamp() == SENT_MS / 1000
    assert intake.size > 0


@pytest.mark.parametrize("timestamp_ms", [-(1 << 62), -1, 1 << 62])
def test_a_letter_of_no_possible_time_becomes_a_row(timestamp_ms: int) -> None:
    raw = bytearray(raw_batch(0, [b"anything"]))
    raw[27:35] = timestamp_ms.to_bytes(8, "big", signed=True)
    (row,) = take(FetchedBatch(topics.DEAD_LETTER, 0, 0, 1, (bytes(raw),))).raw_rows
    assert 1970 <= row[3].year <= 2299
