"""What a scraper reads of a service's telemetry and links."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from emergency_stop.domain.telemetry import HealthEvent
from emergency_stop.integrations.guard_metrics import GuardCollector
from emergency_stop.integrations.links.account_health_monitor import AccountHealthMonitorLink
from emergency_stop.integrations.sdk_metrics import LinkCollector, TelemetryCollector
from emergency_stop.sdk import StopGuard, Telemetry
from emergency_stop.sdk.telemetry import ENTRY_BYTES, Loss
from tests.unit.sdk.scenario import Told, held

SERVICE = "accountHealthMonitor"


class Monitor:
    def emergency_stop(self, correlation_id: str) -> bool:
        return bool(correlation_id)


def scraped(collector: Any) -> dict[str, float]:
    """Sample by name and labels, as the text format has them."""
    registry = CollectorRegistry()
    registry.register(collector)
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def health_event(account_id: str = "a") -> HealthEvent:
    return HealthEvent(account_id=account_id, event_id="", occurred_at=0, source="", health_score=1.0, risk_score=0.0)


def test_telemetry_tells_what_was_offered_what_waits_and_what_was_lost_by_the_reason() -> None:
    telemetry = Telemetry(SERVICE, "127.0.0.1:9", queue_bytes_max=2 * ENTRY_BYTES)
    for account_id in ("a", "b", " not an account ", "c"):
        telemetry.offer(health_event(account_id))
    label = f'service="{SERVICE}"'
    assert scraped(TelemetryCollector(telemetry)) == {
        f"estop_telemetry_offered_total{{{label}}}": 4,
        f"estop_telemetry_delivered_total{{{label}}}": 0,
        f"estop_telemetry_unreadable_total{{{label}}}": 0,
        f"estop_telemetry_waiting{{{label}}}": 1,
        f'estop_telemetry_lost_total{{reason="invalid",{label}}}': 1,
        f'estop_telemetry_lost_total{{reason="overflow",{label}}}': 2,
        f'estop_telemetry_lost_total{{reason="undelivered",{label}}}': 0,
        f'estop_telemetry_lost_total{{reason="closed",{label}}}': 0,
    }
    assert len(Loss) == 4


@pytest.mark.parametrize("full", [False, True])
def test_links_tell_what_became_of_their_events_by_name(full: bool) -> None:
    told = Told(is_full=full)
    link = AccountHealthMonitorLink(StopGuard(SERVICE, "127.0.0.1:9"), told, Monitor())
    for payload in ({"accountId": "a", "healthScore": 12}, {"accountId": "a"}):
        link.handle("healthAlert", payload)
    link.handle("somethingElse", {})
    link.handle("somethingElse", {})
    label = f'service="{SERVICE}"'
    assert scraped(LinkCollector([link])) == {
        f'estop_link_{"lost" if full else "told"}_total{{event="healthAlert",{label}}}': 1,
        f'estop_link_unmapped_total{{event="somethingElse",{label}}}': 2,
        f'estop_link_malformed_total{{event="healthAlert: health_score",{label}}}': 1,
    }


def test_a_guard_tells_of_every_counter_that_it_has() -> None:
    guard = StopGuard(SERVICE, "127.0.0.1:9")
    guard._gate.open()
    guard._gate.apply_hold(held("account:a"), trusted=True)
    values = scraped(GuardCollector(guard))
    label = f'{{service="{SERVICE}"}}'
    assert values[f"estop_service_held_scopes{label}"] == 1
    for name in ("failures", "probes_ready", "probes_refused", "drills_passed", "drills_failed", "permits"):
        assert values[f"estop_service_{name}_total{label}"] == 0
