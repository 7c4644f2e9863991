"""A letter that was cut says so, and is not sent again as if it were the event."""

from __future__ import annotations

from emergency_stop.apps.dead_letters.barred import barred
from emergency_stop.apps.dead_letters.letter import Letter, Place, read_letter
from emergency_stop.apps.sink.dead_letter import CUT_BYTES, DeadLetter
from emergency_stop.domain.reasons import Reject
from emergency_stop.domain.topics import DEAD_LETTER, TELEMETRY_HEALTH
from emergency_stop.ports import Publish

LETTER = DeadLetter(TELEMETRY_HEALTH, 1, 7, b"acc-1", bytes(200_000), (("own", b"1"),), Reject.UNKNOWN_SCHEMA, "", 5)


def read(record: Publish) -> Letter:
    return read_letter(Place(DEAD_LETTER, 0, 1), 9, record.key, record.value, record.headers)


def test_it_tells_how_much_there_was() -> None:
    letter = read(LETTER.as_cut_record())
    assert letter.bytes_before_cut == 200_000
    assert letter.value == bytes(CUT_BYTES)
    assert (letter.headers, letter.source, letter.source_timestamp_ms) == (
        (("own", b"1"),), Place(TELEMETRY_HEALTH, 1, 7), 5,
    )  # fmt: skip
    assert "200000 bytes" in barred(letter)


def test_a_whole_one_is_as_ever() -> None:
    letter = read(LETTER.as_record())
    assert letter.bytes_before_cut is None
    assert (letter.value, letter.headers) == (LETTER.value, (("own", b"1"),))
    assert barred(letter) == ""
