"""Telemetry of a service while no broker answers: taken over, bounded, and every loss counted."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from emergency_stop.domain import telemetry as events
from emergency_stop.domain.telemetry import HealthEvent, Outcome, PlatformEvent, PlatformKind, TelemetryEvent
from emergency_stop.sdk.telemetry import ENTRY_BYTES, Loss, Telemetry
from emergency_stop.wire.schemas import load_record_schema

NOWHERE = "127.0.0.1:9"
RECORDS = TelemetryEvent.__subclasses__()


def healthy(account_id: str = "a", **more: Any) -> HealthEvent:
    return HealthEvent(account_id=account_id, **{"health_score": 90.0, "risk_score": 1.0, **more})


def total(sink: Telemetry) -> int:
    stats = sink.stats
    return stats.delivered + stats.waiting + sum(stats.lost.values())


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_an_event_and_its_schema_have_the_same_fields(record: type[TelemetryEvent]) -> None:
    schema = {field["name"]: field for field in load_record_schema(record.__name__)["fields"]}
    fields = {field.name: field for field in dataclasses.fields(record)}
    assert set(fields) == set(schema)
    filled_in = {"event_id", "occurred_at"}
    optional = {name for name, field in fields.items() if field.default is not dataclasses.MISSING}
    assert optional - filled_in == {name for name, field in schema.items() if "default" in field}


@pytest.mark.parametrize(
    ("vocabulary", "record", "field"),
    [
        (events.Severity, "DetectionEvent", "severity"),
        (events.Outcome, "ProxyEvent", "outcome"),
        (events.PlatformKind, "PlatformEvent", "kind"),
    ],
)
def test_a_vocabulary_is_the_schema_s(vocabulary: Any, record: str, field: str) -> None:
    found = next(entry for entry in load_record_schema(record)["fields"] if entry["name"] == field)
    assert [member.value for member in vocabulary] == found["type"]["symbols"]


async def test_offers_wait_until_a_broker_answers_and_their_bytes_are_bounded() -> None:
    """Room for three: the oldest gives way, because the newest tells most."""
    sink = Telemetry("sessionManager", NOWHERE, queue_bytes_max=3 * (ENTRY_BYTES + 120))
    assert all(sink.offer(healthy(f"account-{number}")) for number in range(10))
    assert (sink.stats.waiting, sink.stats.lost[Loss.OVERFLOW]) == (3, 7)
    assert [entry.key for entry in sink._queue] == [b"account-7", b"account-8", b"account-9"]
    assert total(sink) == sink.stats.offered == 10
    await sink.stop(within_ms=10)


async def test_an_event_larger_than_the_queue_is_lost_and_nothing_raises() -> None:
    sink = Telemetry("sessionManager", NOWHERE, queue_bytes_max=ENTRY_BYTES + 500)
    event = PlatformEvent(account_id="a", kind=PlatformKind.API_CALL, outcome=Outcome.FAILED, detail="x" * 1_000)
    assert sink.offer(event) is False
    assert sink.stats.lost[Loss.OVERFLOW] == 1
    await sink.stop(within_ms=10)


@pytest.mark.parametrize(
    "event",
    [
        healthy(""),
        healthy("x" * 300),
        healthy(health_score=math.nan),
        healthy(health_score="ninety"),
        PlatformEvent(account_id="a", kind="no such kind", outcome=Outcome.OK),  # type: ignore[arg-type]
        TelemetryEvent(account_id="a"),
        healthy(None),  # type: ignore[arg-type]
    ],
)
async def test_what_is_not_telemetry_is_counted_and_its_sender_goes_on(event: TelemetryEvent) -> None:
    sink = Telemetry("sessionManager", NOWHERE)
    assert sink.offer(event) is False
    assert sink.stats.lost[Loss.INVALID] == total(sink) == 1


async def test_what_waits_when_the_service_leaves_is_counted_as_undelivered() -> None:
    sink = Telemetry("sessionManager", NOWHERE)
    await sink.start()
    for _ in range(5):
        sink.offer(healthy())
    await sink.stop(within_ms=50)
    assert sink.offer(healthy()) is False
    assert (sink.stats.lost[Loss.UNDELIVERED], sink.stats.lost[Loss.CLOSED]) == (5, 1)
    assert (total(sink), sink.stats.waiting) == (6, 0)


def test_a_bound_that_holds_no_event_is_refused() -> None:
    with pytest.raises(ValueError, match="queue_bytes_max 10 is too small"):
        Telemetry("sessionManager", NOWHERE, queue_bytes_max=10)
