"""Every kind of bad input that the producer can make, from the sink's letter to the redrive.

It is listed and explained for the right reason, at the right byte; it is refused as it is, and accepted after the fix
that its explanation names, where there is one. Whether something is accepted is asked of the naive decoder too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from emergency_stop.apps.dead_letters.barred import REDRIVABLE
from emergency_stop.apps.dead_letters.book import Choice, LetterBook
from emergency_stop.apps.dead_letters.examine import Examiner
from emergency_stop.apps.dead_letters.explain import explain
from emergency_stop.apps.dead_letters.fix import Candidate, Fix
from emergency_stop.apps.dead_letters.journal import Standing
from emergency_stop.apps.dead_letters.letter import Letter, Place, read_letter
from emergency_stop.apps.dead_letters.opened import open_letter
from emergency_stop.apps.dead_letters.plan import Refused, plan
from emergency_stop.apps.produce.bad_inputs import NAMES, broken_messages
from emergency_stop.apps.sink.intake import Intaker
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.domain.reasons import Reject
from emergency_stop.domain.topics import DEAD_LETTER, TELEMETRY_HEALTH
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.schemas import load_record_schema
from tests.oracle.columns import Refused as NaivelyRefused
from tests.oracle.columns import decode_naively

SENT_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
OFFSET = 7
OWN = [("trace", b"t-1"), ("__connect.errors.topic", b"a record may come with such a header")]
REGISTRY = LocalRegistry()
HEALTH_ID = REGISTRY.schema_id("HealthEvent", TELEMETRY_HEALTH)
FIELDS: dict[str, Any] = {
    "event_id": "e-1", "account_id": "acc-1", "occurred_at": SENT_MS, "health_score": 12.5, "risk_score": 1.0,
    "source": "test", "correlation_id": None,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """``at``: a byte of the value; ``fix``: makes it acceptable ``later_ms`` after it was sent, where one does."""

    reason: Reject
    where: str
    at: int | None = None
    fix: Fix | None = None
    later_ms: int = 0


#: The body: event_id 5-8, account_id 9-14, occurred_at 15-20, health_score 21-28, risk_score 29-36.
CASES = {
    "null key": Case(Reject.NULL_KEY, "key", fix=Fix(key=True)),
    "null value": Case(Reject.NULL_VALUE, "value"),
    "empty value": Case(Reject.SHORT_VALUE, "frame", 0),
    "JSON text": Case(Reject.BAD_MAGIC, "frame", 0),
    "truncated": Case(Reject.BAD_LENGTH, "source", 37),
    "trailing bytes": Case(Reject.TRAILING_BYTES, "behind the last field", 43),
    "overlong varint": Case(Reject.OVERLONG_VARINT, "event_id", 5),
    "negative length": Case(Reject.BAD_LENGTH, "event_id", 5),
    "huge length": Case(Reject.BAD_LENGTH, "event_id", 5),
    "unknown schema id": Case(Reject.UNKNOWN_SCHEMA, "frame", 1, Fix(schema_id=HEALTH_ID)),
    "wrong magic byte": Case(Reject.BAD_MAGIC, "frame", 0, Fix(schema_id=HEALTH_ID)),
    "other record's schema": Case(Reject.WRONG_RECORD, "frame", 1, Fix(schema_id=HEALTH_ID)),
    "key of another account": Case(Reject.KEY_MISMATCH, "account_id", 9, Fix(key=True)),
    "NaN score": Case(Reject.NOT_FINITE, "health_score", 21),
    "infinite score": Case(Reject.NOT_FINITE, "risk_score", 29),
    "negative infinite score": Case(Reject.NOT_FINITE, "risk_score", 29),
    "future timestamp": Case(Reject.FUTURE_TIMESTAMP, "occurred_at", 15, Fix(), HOUR_MS),
    "negative timestamp": Case(Reject.NEGATIVE_TIMESTAMP, "occurred_at", 15),
    "empty account id": Case(Reject.BAD_ACCOUNT_ID, "account_id", 9),
    "account id too long to be stopped": Case(Reject.BAD_ACCOUNT_ID, "account_id", 9),
    "white space after the account id": Case(Reject.BAD_ACCOUNT_ID, "account_id", 9, Fix(trim=True)),
}
FIXES = (Fix(), Fix(key=True), Fix(trim=True), Fix(schema_id=HEALTH_ID), Fix(True, True, HEALTH_ID))


def batch_of(key: bytes | None, value: bytes | None, offset: int, at_ms: int, headers: Any = ()) -> FetchedBatch:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 26)
    builder.append(offset, at_ms, key, value, list(headers))
    return FetchedBatch(TELEMETRY_HEALTH, 3, offset, offset + 1, (bytes(builder.build()),))


def letter_of(name: str) -> Letter:
    """As the sink writes it, and its topic hands it out."""
    key, value = broken_messages(FIELDS, HEALTH_ID)[name]
    batch = batch_of(key, value, OFFSET, SENT_MS, OWN)
    (dead,) = Intaker(REGISTRY, dict(REDRIVABLE)).take(batch, OFFSET, OFFSET + 1).dead
    return read_letter(Place(DEAD_LETTER, 2, 17), SENT_MS + 900, dead.key, dead.value, dead.error_headers())


def naively_accepted(candidate: Candidate) -> bool:
    def writer(schema_id: int | str) -> tuple[Any, dict[str, list[str]]]:
        if schema_id != HEALTH_ID:
            raise NaivelyRefused(Reject.UNKNOWN_SCHEMA)
        return load_record_schema("HealthEvent"), {}

    batch = batch_of(candidate.key, candidate.value, 0, candidate.timestamp_ms)
    rows, refused = decode_naively(batch.batches, 0, writer)
    return len(rows) == 1 and not refused


def test_there_is_a_case_for_every_kind() -> None:
    assert set(CASES) == set(NAMES)


@pytest.mark.parametrize("name", CASES)
def test_its_letter_tells_all_that_came(name: str) -> None:
    letter = letter_of(name)
    assert (letter.key, letter.value) == broken_messages(FIELDS, HEALTH_ID)[name]
    assert letter.headers == tuple(OWN)
    assert letter.source == Place(TELEMETRY_HEALTH, 3, OFFSET)
    assert letter.source_timestamp_ms == SENT_MS
    assert letter.reason is CASES[name].reason
    book = LetterBook(Choice(reason=letter.label, topic=TELEMETRY_HEALTH, since_ms=letter.at_ms), 10)
    book.take(letter)
    assert book.letters() == [letter]


@pytest.mark.parametrize("name", CASES)
def test_it_is_explained_at_its_field_and_byte(name: str) -> None:
    case, letter = CASES[name], letter_of(name)
    finding = explain(open_letter(letter, REGISTRY, ()))
    assert (finding.where, finding.at) == (case.where, case.at)
    assert finding.found
    assert finding.expected
    advice = " ".join(finding.next_steps)
    named = "" if case.fix is None else case.fix.described()
    assert (f"redrive {letter.place} {named}".strip() in advice) == (case.fix is not None), advice


@pytest.mark.parametrize("fix", FIXES, ids=lambda fix: fix.described() or "as it is")
@pytest.mark.parametrize("name", CASES)
def test_no_fix_but_its_own_makes_it_acceptable_and_the_naive_decoder_agrees(name: str, fix: Fix) -> None:
    case, letter = CASES[name], letter_of(name)
    now_ms = SENT_MS + case.later_ms
    verdict = plan(letter, Standing(), fix, now_ms, Examiner(REGISTRY), REGISTRY)
    if isinstance(verdict, Candidate):
        assert case.fix is not None
        assert naively_accepted(verdict)
    else:
        assert verdict.why
    if fix == case.fix:
        assert isinstance(verdict, Candidate), verdict
    if fix == Fix() and case.fix != Fix():
        assert isinstance(verdict, Refused)
        assert verdict.kind == case.reason.label


def test_what_is_ahead_of_the_clock_waits_until_its_time_has_come() -> None:
    letter = letter_of("future timestamp")
    early = plan(letter, Standing(), Fix(), SENT_MS + HOUR_MS - 60_001, Examiner(REGISTRY), REGISTRY)
    assert isinstance(early, Refused)
    assert early.kind == "future_timestamp"
    now_ms = SENT_MS + HOUR_MS - 60_000
    assert plan(letter, Standing(), Fix(), now_ms, Examiner(REGISTRY), REGISTRY) == Candidate(
        letter.key, letter.value, now_ms
    )


@pytest.mark.parametrize("name", ["null key", "unknown schema id", "white space after the account id"])
def test_a_record_keeps_its_timestamp_and_all_bytes_that_are_not_mended(name: str) -> None:
    case, letter = CASES[name], letter_of(name)
    assert case.fix is not None
    verdict = plan(letter, Standing(), case.fix, SENT_MS + HOUR_MS, Examiner(REGISTRY), REGISTRY)
    good = letter_of("null key").value
    assert verdict == Candidate(b"acc-1", good, SENT_MS)
