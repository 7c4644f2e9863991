"""What Prometheus is told of a guard."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from emergency_stop.integrations.guard_metrics import GuardCollector
from emergency_stop.sdk import StopGuard

SERVICE = "sessionManager"


@pytest.mark.parametrize(("without_lease", "state"), [("stop", "awaited"), ("run", "awaited"), ("ignore", "ignored")])
async def test_a_lease_is_in_one_state_and_how_long_it_lasts_is_told(without_lease: str, state: str) -> None:
    registry = CollectorRegistry()
    registry.register(GuardCollector(StopGuard(SERVICE, "127.0.0.1:9", without_lease=without_lease)))
    (family,) = (family for family in registry.collect() if family.name == "estop_service_lease")
    assert {s.labels["state"]: s.value for s in family.samples if s.value} == {state: 1.0}
    assert len(family.samples) == 6
    assert registry.get_sample_value("estop_service_lease_seconds", {"service": SERVICE}) == 0.0
    assert registry.get_sample_value("estop_service_leases_lost_total", {"service": SERVICE}) == 0.0
