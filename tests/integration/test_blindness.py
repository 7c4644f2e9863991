"""A partition that nobody sees any more: those who asked for it are held, once, and stay held when it sees again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from emergency_stop.domain import topics
from emergency_stop.domain.messages import Freshness
from emergency_stop.domain.values import EmergencyState, HoldState, StopLevel
from emergency_stop.sdk import StopGuard
from emergency_stop.testing.brokers import EmbeddedBroker
from tests.bench.latency import probe
from tests.integration.coordinator_office import SERVICES, CoordinatorOffice, now_ms, until
from tests.unit.coordinate.test_blindness import trigger

pytestmark = pytest.mark.needs("broker")
BLIND_AFTER_MS = 2_000
BLIND = {"ESTOP_BLIND_AFTER_MS": str(BLIND_AFTER_MS), "HEALTH_MONITORING_INTERVAL": "1000"}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    with EmbeddedBroker(tmp_path) as running:
        yield running.bootstrap


@pytest.fixture
async def office(broker: str, tmp_path: Path) -> AsyncIterator[CoordinatorOffice]:
    """No coordinator yet; one instance of each service, and a trigger that holds acc-1 when it does not see."""
    async with CoordinatorOffice(broker, tmp_path) as opened, AsyncExitStack() as stack:
        for service in SERVICES:
            guard = StopGuard(service, broker, without_lease="ignore")  # the coordinator starts later, or never
            guard.handle_stops(_obey)
            await stack.enter_async_context(guard)
        one = trigger("careful", "acc-1", target_services=("all",))
        await opened.publisher.publish(topics.TRIGGERS, b"careful", opened.codec.encode(one, topics.TRIGGERS))
        yield opened


async def _obey(_correlation_id: str) -> bool:
    return True


async def _says(office: CoordinatorOffice, partition: int) -> None:
    """A detector says that it has evaluated everything in ``partition``."""
    word = Freshness("a", partition, "d", (), now_ms(), now_ms())
    value = office.codec.encode(word, topics.FRESHNESS)
    await office.publisher.publish(topics.FRESHNESS, f"a/{partition}".encode(), value)


def _audited(office: CoordinatorOffice, action: str, partition: int) -> int:
    """Decisions on record, repeats of one counted once."""
    subject = f"telemetry-partition:{partition}"
    return len({one.audit_id for one in office.audit if (one.action, one.subject) == (action, subject)})


async def test_a_blind_partition_holds_once_through_a_restart_and_what_it_holds_stays_held(
    office: CoordinatorOffice,
) -> None:
    """
    ```
    lane a, partition 0   word                            word word word …
    coordinator           start ─── blind: hold ─ kill ─ start ─── sees again: on record
    acc-1                 runs ──── held ────────────────────────── held
    ```
    """  # noqa: D212  (a drawing)
    office.start(**BLIND)
    await _says(office, 0)
    await until(lambda: office.hold("account:acc-1"), "held")
    hold = office.hold("account:acc-1")
    assert hold is not None
    assert (hold.state, hold.level) == (HoldState.HELD, StopLevel.GRACEFUL)
    cause = hold.causes[0].emergency_id
    await until(lambda: (one := office.emergency(cause)) and one.state is EmergencyState.STOPPED, "proven")
    await until(lambda: _audited(office, "partition_blind", 0) == 1, "on record")
    assert {one.subject for one in office.audit if one.action == "partition_blind"} == {"telemetry-partition:0"}

    office.kill()
    office.start(**BLIND)
    async with asyncio.timeout(90):
        while not _audited(office, "partition_sees_again", 0):
            await _says(office, 0)
            await asyncio.sleep(0.2)
    assert _audited(office, "partition_blind", 0) == 1
    assert {one.epoch for one in office.holds if one.scope == "account:acc-1"} == {hold.epoch}
    assert {one.emergency_id for one in office.emergencies} == {cause}


async def test_a_detector_that_never_started_is_blind_once_there_is_telemetry(office: CoordinatorOffice) -> None:
    office.start(**BLIND)
    await _says(office, 1)
    await until(lambda: _audited(office, "partition_blind", 1), "partition 1 was seen, and is not any more")
    for number in range(20):
        await probe(office.publisher, f"acc-{number}")
    await until(lambda: all(_audited(office, "partition_blind", number) for number in range(4)), "every partition")
    never = [one for one in office.audit if one.action == "partition_blind" and "evaluated it ever" in one.reason]
    assert {one.subject for one in never} == {f"telemetry-partition:{number}" for number in (0, 2, 3)}
