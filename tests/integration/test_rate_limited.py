"""A platform that answers 429 stops the account by itself: transport, telemetry, detector, coordinator, gate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from emergency_stop.apps.stack.child import Child
from emergency_stop.config import Settings
from emergency_stop.domain import topics
from emergency_stop.domain.values import EmergencyState, TriggerType
from emergency_stop.rules.definitions import read_trigger
from emergency_stop.sdk import StopGuard, Stopped, Telemetry
from emergency_stop.sdk.httpx import GuardedTransport, account_from_extensions
from tests.integration.coordinator_office import SERVICES, CoordinatorOffice, until
from tests.platform_server import PlatformServer

pytestmark = pytest.mark.needs("broker")
#: The first start on a machine compiles the kernels.
READY_MS = 180_000
SERVICE, _ = SERVICES
VIOLATIONS = 3
TRIGGER = {
    "triggerId": "limited", "triggerType": "rate_limit_violation", "name": "Rate limited", "timeWindow": 60_000,
    "thresholds": {"violations": VIOLATIONS}, "cooldownPeriod": 600_000, "stopLevel": "immediate",
    "targetServices": [SERVICE], "priority": 1,
}  # fmt: skip


@dataclass
class Scene:
    """A service whose client is guarded, in a running installation."""

    office: CoordinatorOffice
    platform: PlatformServer
    guard: StopGuard
    client: httpx.AsyncClient

    async def ask(self, account_id: str, status: int) -> int:
        """Raises ``Stopped`` where the account may not ask."""
        answer = await self.client.get(
            f"{self.platform.url}/status/{status}", extensions={"account_id": account_id, "correlation_id": "corr-429"}
        )
        return answer.status_code


@pytest.fixture
async def scene(broker: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        office = await stack.enter_async_context(CoordinatorOffice(broker, tmp_path))
        trigger = read_trigger(TRIGGER, services=SERVICES)
        await office.publisher.publish(topics.TRIGGERS, b"limited", office.codec.encode(trigger, topics.TRIGGERS))
        office.start()
        settings = Settings(brokers=broker, data_dir=tmp_path, checkpoint_interval_ms=100, instance_id="detector-1")
        detector = Child("detector", ["detector"], settings, tmp_path / "detector.log")
        detector.start()
        stack.push_async_callback(detector.stop)
        await detector.ready(READY_MS)
        platform = await stack.enter_async_context(PlatformServer())
        guard = await stack.enter_async_context(StopGuard(SERVICE, broker, verifier=office.verifier))
        telemetry = await stack.enter_async_context(Telemetry(SERVICE, broker))
        transport = GuardedTransport(
            guard, httpx.AsyncHTTPTransport(), account_of=account_from_extensions, telemetry=telemetry
        )
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport))
        yield Scene(office, platform, guard, client)


async def test_an_account_that_the_platform_limits_is_stopped_and_its_next_request_is_not_sent(scene: Scene) -> None:
    """As a timeline; another account meanwhile is limited once too seldom, and goes on.

    acc-limited  429  429  429 ─► hit ─► hold ─► Stopped
    acc-free     429  429   200                   200
    """
    for _ in range(VIOLATIONS - 1):
        assert await scene.ask("acc-free", 429) == 429
        assert await scene.ask("acc-limited", 429) == 429
    assert await scene.ask("acc-free", 200) == 200
    assert scene.guard.stopped_by("acc-limited") is None
    assert await scene.ask("acc-limited", 429) == 429
    await until(lambda: scene.guard.stopped_by("acc-limited"), "the gate is shut for the account")
    asked = len(scene.platform.requests)
    with pytest.raises(Stopped) as refused:
        await scene.ask("acc-limited", 200)
    assert len(scene.platform.requests) == asked
    assert refused.value.scope == "account:acc-limited"
    assert await scene.ask("acc-free", 200) == 200
    await _is_on_record(scene, refused.value.emergency_id)


async def _is_on_record(scene: Scene, emergency_id: str) -> None:
    def proven() -> bool:
        emergency = scene.office.emergency(emergency_id)
        return emergency is not None and emergency.state is EmergencyState.STOPPED

    await until(proven, "the stop is proven")
    emergency = scene.office.emergency(emergency_id)
    assert emergency is not None
    assert (emergency.trigger_id, emergency.trigger_type) == ("limited", TriggerType.RATE_LIMIT_VIOLATION)
    assert (emergency.success, emergency.target_services) == (True, (SERVICE,))
    assert emergency.correlation_id == "corr-429", "from the request to the stop"
    await until(lambda: scene.office.holds, "held")
    assert {hold.scope for hold in scene.office.holds} == {"account:acc-limited"}
