"""Why a record was refused, for the person who must mend it: what was wrong, at which byte, and what to do next."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from emergency_stop.apps.dead_letters.barred import barred
from emergency_stop.apps.dead_letters.letter import REASONS
from emergency_stop.apps.dead_letters.opened import Opened
from emergency_stop.config import did_you_mean
from emergency_stop.domain.reasons import FUTURE_MS_MAX, Reject
from emergency_stop.domain.topics import TELEMETRY
from emergency_stop.domain.values import ACCOUNT_ID_LENGTH_MAX

_ANEW: Final = "nothing can mend this record: mend its producer, and let it send the event anew"
_SHOWN_MAX: Final = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """``where`` names key, frame or field; ``at`` is a byte of the value. ``next_steps`` are sentences, best first."""

    where: str
    at: int | None
    found: str
    expected: str
    next_steps: tuple[str, ...]


def explain(opened: Opened) -> Finding:
    """What was wrong. Pure; of any letter, also one whose reason this version does not know."""
    reason = opened.letter.reason
    if reason is None:
        hint = did_you_mean(opened.letter.label, tuple(REASONS))
        return Finding(
            "reason", None, repr(opened.letter.label), f"one of {', '.join(REASONS)}{hint}",
            ("look at it with the version of estop that the sink runs",),
        )  # fmt: skip
    finding = _FINDERS.get(reason, _at_fault)(opened)
    never = barred(opened.letter)
    return Finding(finding.where, finding.at, finding.found, finding.expected, (never,)) if never else finding


def _redrive(opened: Opened, options: str = "") -> str:
    return f"estop dead-letters redrive {opened.letter.place}{options}"


def _no_key(opened: Opened) -> Finding:
    account = opened.part("account_id")
    steps = (_ANEW,) if account is None else (_redrive(opened, " --fix-key"), "key telemetry by account id")
    return Finding("key", None, "no key", "the account id of the value", steps)


def _no_value(opened: Opened) -> Finding:
    del opened
    return Finding("value", None, "no value", "an Avro record in Confluent's wire format", (_ANEW,))


def _frame(opened: Opened) -> Finding:
    value = opened.letter.value or b""
    found = f"{len(value)} bytes" + (f", the first is {value[0]:#04x}" if value else "")
    if value[:1] in {b"{", b"["}:
        found += "; it looks like JSON"
    steps = (_ANEW, "serialize with a Confluent serializer for Avro")
    if opened.fitting_id is not None:
        steps = (_redrive(opened, f" --schema-id {opened.fitting_id}"), "and mend the producer's framing")
    return Finding("frame", 0, found, "0x00 and 4 bytes of schema id, or 0x01 and 16 bytes of GUID, then Avro", steps)


def _unknown_schema(opened: Opened) -> Finding:
    again = "register the writer's schema, then: " + _redrive(opened)
    if opened.writer is not None:
        again = "the registry knows it now: " + _redrive(opened)
    if opened.fitting_id is not None and opened.writer is None:
        fits = f"the body reads whole as {opened.record}: {_redrive(opened, f' --schema-id {opened.fitting_id}')}"
        return Finding("frame", 1, _schema(opened), "an id that the registry knows", (again, "or " + fits))
    return Finding("frame", 1, _schema(opened), "an id that the registry knows", (again,))


def _wrong_record(opened: Opened) -> Finding:
    home = next((spec.name for spec in TELEMETRY if spec.record == opened.writer_record), None)
    hint = f"{opened.writer_record} belongs on {home}" if home else f"no telemetry topic carries {opened.writer_record}"
    steps: tuple[str, ...] = (f"{hint}: mend the producer, and let it send the event there",)
    if opened.fitting_id is not None:
        fits = _redrive(opened, f" --schema-id {opened.fitting_id}")
        steps = (f"the body reads whole as {opened.record}: {fits}", f"else {hint}")
    return Finding("frame", 1, f"{_schema(opened)} of {opened.writer_record or '?'}", str(opened.record), steps)


def _key_mismatch(opened: Opened) -> Finding:
    account = opened.part("account_id")
    found = f"key {_text(opened.letter.key)}, value of account {_short(account.value) if account else '?'}"
    at = None if account is None else opened.header_bytes + account.start
    steps = ("if the value is right: " + _redrive(opened, " --fix-key"), "if the key is right: " + _ANEW)
    return Finding("account_id", at, found, "one account", steps)


def _bad_account(opened: Opened) -> Finding:
    account = opened.part("account_id")
    text = str(account.value) if account else ""
    steps: tuple[str, ...] = (_ANEW,)
    if text != text.strip() and 0 < len(text.strip()) <= ACCOUNT_ID_LENGTH_MAX:
        steps = (_redrive(opened, " --trim-account-id"), "let the producer trim account ids")
    at = None if account is None else opened.header_bytes + account.start
    expected = f"1 to {ACCOUNT_ID_LENGTH_MAX} characters without white space at the ends"
    return Finding("account_id", at, f"{_short(text)}, {len(text)} characters", expected, steps)


def _not_finite(opened: Opened) -> Finding:
    parts = opened.dissection.parts if opened.dissection else ()
    for part in parts:
        if isinstance(part.value, float) and not math.isfinite(part.value):
            return Finding(part.path, opened.header_bytes + part.start, str(part.value), "a finite number", (_ANEW,))
    return _at_fault(opened)


def _time(opened: Opened) -> Finding:
    part, sent = opened.part("occurred_at"), opened.letter.timestamp_ms
    if part is None:
        return _at_fault(opened)
    at = opened.header_bytes + part.start
    if opened.letter.reason is Reject.NEGATIVE_TIMESTAMP:
        return Finding(part.path, at, f"{part.value} ms", "milliseconds since 1970", (_ANEW,))
    ahead_s = (part.value - sent) / 1000
    steps = (
        "if the event's time is right, the record's was wrong: once that time has come, " + _redrive(opened),
        "if it is wrong: set the producer's clock, and let it send the event anew",
    )
    expected = f"at most {FUTURE_MS_MAX // 1000} s after the record's timestamp, {sent}"
    return Finding(part.path, at, f"{part.value} ms, {ahead_s:.0f} s after it", expected, steps)


def _malformed(opened: Opened) -> Finding:
    found = f"{len(opened.letter.value or b'')} bytes from offset {opened.letter.source.offset} on"
    return Finding("batch", 0, found, "a record batch of Kafka's format 2", (_ANEW,))


def _at_fault(opened: Opened) -> Finding:
    """Where the body stopped making sense."""
    fault = opened.dissection.fault if opened.dissection else None
    if fault is None:
        found = opened.closed or "its schema reads all of it now"
        return Finding(
            "value", None, found, f"a {opened.record}", ("what refused it may be mended: " + _redrive(opened),)
        )
    steps: tuple[str, ...] = (_ANEW,)
    if opened.fitting_id not in {None, opened.schema_id}:
        fits = _redrive(opened, f" --schema-id {opened.fitting_id}")
        steps = (f"the body reads whole as {opened.record}: {fits}", "else " + _ANEW)
    where = fault.path or "behind the last field"
    return Finding(where, opened.header_bytes + fault.at, fault.problem, fault.expected, steps)


def _schema(opened: Opened) -> str:
    return "no schema id" if opened.schema_id is None else f"schema id {opened.schema_id}"


def _text(data: bytes | None) -> str:
    return "none" if data is None else _short(data.decode(errors="backslashreplace"))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…"


_FINDERS: Final[dict[Reject, Callable[[Opened], Finding]]] = {
    Reject.NULL_KEY: _no_key,
    Reject.NULL_VALUE: _no_value,
    Reject.BAD_MAGIC: _frame,
    Reject.SHORT_VALUE: _frame,
    Reject.UNKNOWN_SCHEMA: _unknown_schema,
    Reject.WRONG_RECORD: _wrong_record,
    Reject.KEY_MISMATCH: _key_mismatch,
    Reject.BAD_ACCOUNT_ID: _bad_account,
    Reject.NOT_FINITE: _not_finite,
    Reject.FUTURE_TIMESTAMP: _time,
    Reject.NEGATIVE_TIMESTAMP: _time,
    Reject.MALFORMED_RECORD: _malformed,
}
