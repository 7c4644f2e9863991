"""Every kind of bad input: accepted, or refused for a reason that says what to do, and its neighbours unharmed."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from emergency_stop.columnar.columns import Columns
from emergency_stop.columnar.decoder import ColumnDecoder, string_hash
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.domain.reasons import Reject
from emergency_stop.wire.registry import LocalRegistry
from tests.campaign.telemetry import encode

TOPIC = "telemetry.health"
KEY = b"acc-000001"
NOW_MS = 1_700_000_000_000
MEGABYTE = 1_000_000
FIELDS = ("health_score", "risk_score", "source")
FRAME = 5


def event(**more: Any) -> bytes:
    fields = {"event_id": "e", "account_id": KEY.decode(), "occurred_at": NOW_MS, "health_score": 50.0,
              "risk_score": 1.0, "source": "test", "correlation_id": None}  # fmt: skip
    return encode(TOPIC, fields | more)


GOOD = event()
#: Where the body's parts begin: "e" and the account's text come first.
AT_ACCOUNT = FRAME + 2
AT_TIME = AT_ACCOUNT + 1 + len(KEY)


def with_bytes(at: int, replacement: bytes, drop: int = 0) -> bytes:
    return GOOD[:at] + replacement + GOOD[at + drop :]


BAD: dict[str, tuple[bytes | None, bytes | None, Reject]] = {
    "no key": (None, GOOD, Reject.NULL_KEY),
    "no value": (KEY, None, Reject.NULL_VALUE),
    "an empty value": (KEY, b"", Reject.SHORT_VALUE),
    "a value of four bytes": (KEY, GOOD[:4], Reject.SHORT_VALUE),
    "JSON instead of Avro": (KEY, b'{"health_score": 3}', Reject.BAD_MAGIC),
    "an unknown schema id": (KEY, b"\0\x7f\xff\xff\xff" + GOOD[FRAME:], Reject.UNKNOWN_SCHEMA),
    "the schema id of another record": (KEY, encode("telemetry.proxy", {
        "event_id": "e", "account_id": KEY.decode(), "occurred_at": NOW_MS, "proxy_id": "p", "outcome": "ok",
    }), Reject.WRONG_RECORD),
    "Avro cut off": (KEY, GOOD[:-6], Reject.TRUNCATED),
    "a body of nothing": (KEY, GOOD[:FRAME], Reject.TRUNCATED),
    "a byte too many": (KEY, GOOD + b"\0", Reject.TRAILING_BYTES),
    "a varint of eleven bytes": (KEY, with_bytes(AT_TIME, b"\xff" * 10 + b"\x01", 6), Reject.OVERLONG_VARINT),
    "a varint that ends in 65 bits": (KEY, with_bytes(AT_TIME, b"\x80" * 9 + b"\x02", 6), Reject.OVERLONG_VARINT),
    "a negative length": (KEY, with_bytes(FRAME, b"\x01", 1), Reject.BAD_LENGTH),
    "a length of 2^62": (KEY, with_bytes(FRAME, b"\xfe" + b"\xff" * 7 + b"\x7f", 1), Reject.BAD_LENGTH),
    "a length one beyond the end": (KEY, with_bytes(FRAME, bytes([2 * len(GOOD)]), 1), Reject.BAD_LENGTH),
    "a text that is not UTF-8": (KEY, with_bytes(FRAME + 1, b"\xff", 1), Reject.BAD_UTF8),
    "a union branch that is not there": (KEY, GOOD[:-1] + b"\x04", Reject.BAD_UNION),
    "a score that is not a number": (KEY, event(health_score=math.nan), Reject.NOT_FINITE),
    "an infinite score": (KEY, event(risk_score=math.inf), Reject.NOT_FINITE),
    "a time 61 s ahead": (KEY, event(occurred_at=NOW_MS + 61_000), Reject.FUTURE_TIMESTAMP),
    "the largest time": (KEY, event(occurred_at=2**63 - 1), Reject.FUTURE_TIMESTAMP),
    "a time before 1970": (KEY, event(occurred_at=-1), Reject.NEGATIVE_TIMESTAMP),
    "the key of another account": (b"acc-000002", GOOD, Reject.KEY_MISMATCH),
    "no account": (KEY, event(account_id=""), Reject.KEY_MISMATCH),
    "no account and no key": (b"", event(account_id=""), Reject.BAD_ACCOUNT_ID),
    "an account of 249 characters": (b"a" * 249, event(account_id="a" * 249), Reject.BAD_ACCOUNT_ID),
    "249 characters of three bytes": ("日".encode() * 249, event(account_id="日" * 249), Reject.BAD_ACCOUNT_ID),
    "an account of a megabyte": (b"a" * MEGABYTE, event(account_id="a" * MEGABYTE), Reject.BAD_ACCOUNT_ID),
    "a blank account": (b" ", event(account_id=" "), Reject.BAD_ACCOUNT_ID),
    "a line break after the account": (KEY + b"\n", event(account_id=KEY.decode() + "\n"), Reject.BAD_ACCOUNT_ID),
    "a wide space before it": ("\u3000a".encode(), event(account_id="\u3000a"), Reject.BAD_ACCOUNT_ID),
}  # fmt: skip

ACCEPTED: dict[str, tuple[bytes, bytes]] = {
    "a time 59 s ahead": (KEY, event(occurred_at=NOW_MS + 59_000)),
    "a text of a megabyte": (KEY, event(source="x" * MEGABYTE)),
    "an account of 248 characters": (b"a" * 248, event(account_id="a" * 248)),
    "248 characters of four bytes": ("😀".encode() * 248, event(account_id="😀" * 248)),
    "white space within an account": (b"a b", event(account_id="a b")),
    "the smallest and the largest number": (KEY, event(health_score=5e-324, risk_score=1.7976931348623157e308)),
    "an empty text": (KEY, event(source="")),
    "a text outside of ASCII": (KEY, event(source="日本語 😀")),
}


def batch_of(*records: tuple[bytes | None, bytes | None]) -> FetchedBatch:
    builder = DefaultRecordBatchBuilder(2, 3, 0, -1, -1, -1, 1 << 26)
    for offset, (key, value) in enumerate(records):
        builder.append(offset, NOW_MS, key, value, [])
    return FetchedBatch(TOPIC, 0, 0, len(records), (bytes(builder.build()),))


def decoded(*records: tuple[bytes | None, bytes | None]) -> Columns:
    return ColumnDecoder(LocalRegistry(), "HealthEvent").decode(batch_of(*records), FIELDS)


@pytest.mark.parametrize("what", BAD)
def test_it_is_refused_for_its_reason_and_its_neighbours_are_not(what: str) -> None:
    key, value, reason = BAD[what]
    columns = decoded((KEY, GOOD), (key, value), (KEY, event(health_score=7.0)))
    assert [(entry.offset, entry.reason) for entry in columns.rejected] == [(1, reason)]
    assert columns.offset.tolist() == [0, 2]
    assert columns.fields["health_score"].tolist() == [50.0, 7.0]
    assert reason.explanation


@pytest.mark.parametrize("what", BAD)
def test_a_dead_letter_can_carry_it_unchanged(what: str) -> None:
    key, value, _ = BAD[what]
    (entry,) = decoded((key, value)).rejected
    assert (entry.key, entry.value) == (key, value)


@pytest.mark.parametrize("what", ACCEPTED)
def test_it_is_accepted_with_its_neighbours(what: str) -> None:
    columns = decoded((KEY, GOOD), ACCEPTED[what], (KEY, GOOD))
    assert columns.rejected == ()
    assert columns.offset.tolist() == [0, 1, 2]
    assert columns.fields["source"].tolist()[::2] == [string_hash("test")] * 2


def test_all_of_it_in_one_batch() -> None:
    good = [(KEY, event(health_score=float(number))) for number in range(len(BAD))]
    bad = [(key, value) for key, value, _ in BAD.values()]
    columns = decoded(*(record for pair in zip(good, bad, strict=True) for record in pair))
    assert columns.fields["health_score"].tolist() == [float(number) for number in range(len(BAD))]
    assert [entry.reason for entry in columns.rejected] == [reason for _, _, reason in BAD.values()]


def test_a_record_with_broken_framing_ends_its_batch_and_no_other() -> None:
    """The batch's checksum can be right where a producer's library wrote nonsense."""
    whole = batch_of((KEY, GOOD), (KEY, GOOD))
    raw = bytearray(DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20).build())
    assert len(raw) == struct.calcsize(">qiibIhiqqqhii")
    raw += b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
    struct.pack_into(">q", raw, 0, 2)
    struct.pack_into(">i", raw, 57, 1)
    columns = ColumnDecoder(LocalRegistry(), "HealthEvent").decode(
        FetchedBatch(TOPIC, 0, 0, 3, (*whole.batches, bytes(raw))), FIELDS
    )
    assert columns.offset.tolist() == [0, 1]
    assert [(entry.offset, entry.reason) for entry in columns.rejected] == [(2, Reject.MALFORMED_RECORD)]
