"""The benchmark's telemetry is what its schema says, and the same for the same seed."""

from __future__ import annotations

from itertools import islice

from tests.bench.load import SPAN_MS, HealthLoad, records
from tests.campaign.telemetry import decode

LOAD = HealthLoad(seed=3, events=2_000, accounts=50, base_ms=1_700_000_000_000)


def test_fastavro_reads_the_events_from_the_bytes() -> None:
    seen = list(records(LOAD))
    assert len(seen) == LOAD.events
    for number, (key, value, moment) in enumerate(seen):
        event = decode("telemetry.health", value)
        assert event is not None
        assert (event["account_id"].encode(), event["occurred_at"]) == (key, moment)
        assert event["event_id"] == f"{number:012x}"
        assert 0 <= event["health_score"] <= 100
        assert 0 <= event["risk_score"] <= 100
    assert seen[0][2] == LOAD.base_ms
    assert seen[-1][2] < LOAD.base_ms + SPAN_MS


def test_the_same_seed_makes_the_same_records_and_another_seed_others() -> None:
    assert list(records(LOAD)) == list(records(LOAD))
    other = HealthLoad(LOAD.seed + 1, LOAD.events, LOAD.accounts, LOAD.base_ms)
    assert list(islice(records(other), 20)) != list(islice(records(LOAD), 20))
