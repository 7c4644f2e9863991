"""The guide's operations on a real broker and coordinator, asked for by a program."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import pytest

from emergency_stop.domain import topics
from emergency_stop.domain.ids import derived_id
from emergency_stop.domain.messages import AuditRecord, Freshness, Lease, Lifecycle, Recovery, Request
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import AckState, Action, RecoveryOutcome, RecoveryPhase, StopLevel
from emergency_stop.sdk import (
    EmergencyStopSystem,
    NotWrittenError,
    RecoveryRefusedError,
    StopGuard,
    SystemStartError,
    TriggerChangeError,
)
from emergency_stop.testing.brokers import EmbeddedBroker
from tests.integration.coordinator_office import SERVICES, CoordinatorOffice, now_ms, until
from tests.unit.coordinate.scenario import hit
from tests.unit.domain.test_trigger_definitions import GUIDE_HEALTH

pytestmark = pytest.mark.needs("broker")
HEALTH = GUIDE_HEALTH | {"targetServices": ["alpha"]}


@pytest.fixture
async def office(broker: str, tmp_path: Path) -> AsyncIterator[CoordinatorOffice]:
    async with CoordinatorOffice(broker, tmp_path) as opened, AsyncExitStack() as stack:
        for service in SERVICES:
            guard = StopGuard(service, broker, without_lease="ignore")  # coordinators come and go
            guard.handle_stops(_obey)
            await stack.enter_async_context(guard)
        yield opened


@pytest.fixture
async def system(office: CoordinatorOffice) -> AsyncIterator[EmergencyStopSystem]:
    async with EmergencyStopSystem(office.brokers, requested_by="a test", services=SERVICES) as opened:
        yield opened


async def _obey(_correlation_id: str) -> bool:
    return True


async def test_a_manual_stop_is_proven_counted_and_told(office: CoordinatorOffice, system: EmergencyStopSystem) -> None:
    office.start()
    told: list[Lifecycle] = []
    system.on("emergencyCompleted", told.append, account_id="by-hand")
    before = system.get_system_status().metrics
    known_as = await system.manual_emergency_stop("account:by-hand", "suspicious", StopLevel.IMMEDIATE)
    event = await system.completed(known_as, 120_000)
    assert system.get_emergency_event(known_as) == event
    assert (event.success, event.account_id, event.level) == (True, "by-hand", StopLevel.IMMEDIATE)
    assert event.execution_duration is not None
    assert event.services == dict.fromkeys(SERVICES, AckState.STOPPED)
    assert known_as in [one.emergency_id for one in system.get_active_emergencies()]
    await until(lambda: told, "told")
    assert told[0].emergency_id == known_as

    await office.send(hit("h-sys", "account:by-trigger", occurred_at=now_ms()))
    await until(lambda: system.get_system_status().metrics.total_triggers == before.total_triggers + 1, "counted")
    await until(lambda: system.get_system_status().metrics.successful_stops >= before.successful_stops + 2, "counted")
    status = system.get_system_status()
    assert status.active_emergencies == len(system.get_active_emergencies())
    assert status.metrics.average_stop_time is not None


async def test_the_same_request_is_the_same_stop_and_needs_no_start(office: CoordinatorOffice) -> None:
    office.start()
    system = EmergencyStopSystem(office.brokers)
    try:
        ids = {
            await system.manual_emergency_stop("account:again", "why", "graceful", request_id="once") for _ in range(2)
        }
    finally:
        await system.stop()
    (known_as,) = ids
    await until(lambda: office.emergency(known_as) and office.hold("account:again"), "opened and held")
    assert {one.epoch for one in office.holds if one.scope == "account:again"} == {1}


async def test_what_is_no_scope_or_level_is_refused_before_anything_is_sent(office: CoordinatorOffice) -> None:
    system = EmergencyStopSystem(office.brokers)
    with pytest.raises(ValueError, match="an account is named account:account-123"):
        await system.manual_emergency_stop("account-123", "why")
    with pytest.raises(ValueError, match="soon"):
        await system.manual_emergency_stop("global", "why", "soon")


async def test_triggers_come_change_and_go(office: CoordinatorOffice, system: EmergencyStopSystem) -> None:
    versions: list[Trigger] = []
    tail = office._tail(topics.TRIGGERS, Trigger, versions)
    history: list[Trigger] = []
    past = office._tail(topics.TRIGGER_HISTORY, Trigger, history)
    for one in (tail, past):
        await one.start()
    try:
        active = system.get_system_status().active_triggers
        known_as = await system.add_trigger(HEALTH)
        assert system.get_system_status().active_triggers == active + 1
        with pytest.raises(TriggerChangeError, match="stands already"):
            await system.add_trigger(HEALTH)
        assert await system.update_trigger(known_as, {"thresholds": {"healthScore": 20}}) == 2
        await system.remove_trigger(known_as)
        assert system.get_system_status().active_triggers == active
        await until(lambda: len(versions) == 3 and len(history) >= 3, "three versions")
    finally:
        for one in (tail, past):
            await one.stop()
    assert [(one.version, one.thresholds["healthScore"], one.removed) for one in versions] == [
        (1, 30.0, False), (2, 20.0, False), (3, 20.0, True),
    ]  # fmt: skip
    assert {one.version for one in history} == {1, 2, 3}
    assert {one.updated_by for one in versions} == {"a test"}


async def test_it_runs_while_a_coordinator_leads_and_detectors_see_every_partition_that_they_ever_saw(
    tmp_path: Path,
) -> None:
    """On a broker of its own: coordinators of other tests would be heard here as well."""
    with EmbeddedBroker(tmp_path) as own:
        async with (
            CoordinatorOffice(own.bootstrap, tmp_path) as office,
            EmergencyStopSystem(own.bootstrap, requested_by="a test", services=SERVICES) as system,
        ):
            await _lead_and_see(office, system)


async def _lead_and_see(office: CoordinatorOffice, system: EmergencyStopSystem) -> None:
    async def says(partition: int, fresh_at: int) -> None:
        word = Freshness("a", partition, "d", (), fresh_at, now_ms())
        value = office.codec.encode(word, topics.FRESHNESS)
        await office.publisher.publish(topics.FRESHNESS, f"a/{partition}".encode(), value)

    await says(0, now_ms())
    await until(lambda: system._fresh_at, "detectors were heard")
    assert not system.get_system_status().is_running, "no coordinator was heard"
    lease = office.codec.encode(Lease(0, 4, "c1", now_ms(), 30_000, ()), topics.LEASES)
    await office.publisher.publish(topics.LEASES, b"0", lease)
    await until(lambda: system.get_system_status().is_running, "one partition is seen")
    await says(1, now_ms() - 60_000)
    await until(lambda: not system.get_system_status().is_running, "another is not")


class Recoverer:
    """The coordinator's side of a recovery, by hand: whoever asks gets ``answer``."""

    def __init__(self, office: CoordinatorOffice) -> None:
        self._office = office
        self.asked: list[Request] = []
        self._tail = office._tail(topics.REQUESTS, Request, self.asked)

    async def __aenter__(self) -> Self:
        await self._tail.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tail.stop()

    async def request(self, emergency_id: str, number: int = 1) -> Request:
        """The ``number``-th request to recover it."""

        def of_it() -> list[Request]:
            return [r for r in self.asked if r.action is Action.RECOVER and r.emergency_id == emergency_id]

        await until(lambda: len(of_it()) >= number, "asked to recover")
        return of_it()[number - 1]

    async def answer(self, request: Request, outcome: RecoveryOutcome) -> None:
        known_as = derived_id("recovery", request.request_id)
        recovery = Recovery(
            known_as, request.emergency_id or "", request.scope, "corr", 1, request.procedure or "standard_recovery",
            (), RecoveryPhase.MONITORING, outcome, request.requested_by, now_ms(), now_ms(), 3, (), "", now_ms(),
        )  # fmt: skip
        value = self._office.codec.encode(recovery, topics.RECOVERIES)
        await self._office.publisher.publish(topics.RECOVERIES, recovery.emergency_id.encode(), value)

    async def refuse(self, request: Request, reason: str) -> None:
        record = AuditRecord(
            derived_id("audit", request.request_id), now_ms(), "coordinator", "recover_refused", request.scope, reason,
            request.correlation_id,
        )  # fmt: skip
        value = self._office.codec.encode(record, topics.AUDIT)
        await self._office.publisher.publish(topics.AUDIT, request.scope.encode(), value)


async def _stopped(office: CoordinatorOffice, system: EmergencyStopSystem, account: str) -> str:
    """An emergency whose coordinator is gone, so that its recovery can be answered by hand."""
    office.start()
    known_as = await system.manual_emergency_stop(f"account:{account}", "why")
    await system.completed(known_as, 120_000)
    office.kill()
    return known_as


async def test_a_recovery_tells_whether_it_came_to_its_end(
    office: CoordinatorOffice, system: EmergencyStopSystem
) -> None:
    known_as = await _stopped(office, system, "recovers")
    before = system.get_system_status().metrics
    async with Recoverer(office) as recoverer:
        for number, outcome in enumerate((RecoveryOutcome.ROLLED_BACK, RecoveryOutcome.COMPLETED), start=1):
            recovering = asyncio.create_task(system.start_recovery(known_as, "critical_recovery", within_ms=60_000))
            asked = await recoverer.request(known_as, number)
            assert (asked.scope, asked.procedure) == ("account:recovers", "critical_recovery")
            await recoverer.answer(asked, RecoveryOutcome.UNDER_WAY)
            await recoverer.answer(asked, outcome)
            assert await asyncio.wait_for(recovering, 90) is (outcome is RecoveryOutcome.COMPLETED)
    after = system.get_system_status().metrics
    assert (after.successful_recoveries, after.failed_recoveries) == (
        before.successful_recoveries + 1, before.failed_recoveries + 1,
    )  # fmt: skip


async def test_a_recovery_that_is_refused_says_why_and_one_without_an_answer_is_not_known(
    office: CoordinatorOffice, system: EmergencyStopSystem
) -> None:
    known_as = await _stopped(office, system, "refused")
    recovering = asyncio.create_task(system.start_recovery(known_as, within_ms=60_000))
    async with Recoverer(office) as recoverer:
        await recoverer.refuse(await recoverer.request(known_as), "a newer stop holds the scope")
    with pytest.raises(RecoveryRefusedError, match="a newer stop"):
        await asyncio.wait_for(recovering, 90)
    with pytest.raises(TimeoutError, match="is not known"):
        await system.start_recovery(known_as, within_ms=300)
    with pytest.raises(ValueError, match="get_active_emergencies"):
        await system.start_recovery("nobody")


async def test_without_a_broker_it_says_so_and_never_that_it_stopped() -> None:
    system = EmergencyStopSystem("127.0.0.1:9")
    with pytest.raises(NotWrittenError, match="stop of global, request"):
        await system.manual_emergency_stop("global", "why")
    with pytest.raises(SystemStartError, match="could not be read"):
        await system.start(within_ms=300)
