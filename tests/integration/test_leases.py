"""Instances and a real coordinator that dies: who stops itself, who goes on, and what is in force afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Hold, HoldCause, ServiceInstance
from emergency_stop.domain.values import HoldState, InstanceState, StopLevel
from emergency_stop.sdk import GuardStartError, StopGuard, Stopped, current_stop
from emergency_stop.sdk.lease_keeper import LEASE_LOST
from emergency_stop.testing.brokers import ApacheKafka
from emergency_stop.wire.signing import Signer, Verifier
from tests.integration.coordinator_office import CoordinatorOffice, now_ms, until

pytestmark = pytest.mark.needs("broker")
LEASE_MS, DELAY_MS = 6_000, 2_000
#: What a busy machine may add to a timer.
SLACK_MS = 10_000
PARTITIONS = 4
SHORT = {"ESTOP_LEASE": str(LEASE_MS)}


@dataclass
class Work:
    """One side effect that would last for ever, and how it ended."""

    guard: StopGuard
    account_id: str
    began: asyncio.Event = field(default_factory=asyncio.Event)
    ended_by: str = ""

    async def run(self) -> None:
        try:
            async with self.guard.permit(self.account_id):
                self.began.set()
                await asyncio.Event().wait()
        except Stopped as stopped:
            self.ended_by = stopped.reason


@pytest.fixture
async def office(broker: str, tmp_path: Path) -> AsyncIterator[CoordinatorOffice]:
    async with CoordinatorOffice(broker, tmp_path) as opened:
        yield opened


@pytest.fixture
async def announced(office: CoordinatorOffice) -> AsyncIterator[dict[str, ServiceInstance]]:
    """The newest announcement of every instance, by its id."""
    newest: dict[str, ServiceInstance] = {}

    def take(record: TailRecord) -> None:
        instance = office.codec.decode(ServiceInstance, record.value)
        newest[instance.instance_id] = instance

    tail = CompactedTail(office.brokers, topics.SERVICES, take, client_id="office-services")
    await tail.start()
    yield newest
    await tail.stop()


def may_act(guard: StopGuard, account_id: str) -> bool:
    try:
        with guard.permit(account_id):
            return True
    except Stopped:
        return False


async def test_without_its_coordinator_an_instance_stops_itself_unless_it_may_run_on_and_holds_stay_in_force(
    office: CoordinatorOffice, announced: dict[str, ServiceInstance], tmp_path: Path
) -> None:
    """::

    coordinator   ─────────── kill -9                          start again ──
    safe          acts        no new actions │ stopped itself  │ acts, but not for what was held
                              └ lease        └ hold delay      └ fresh lease
    open          acts ──────────────────────────────────────────────────────
    a hold                                            held ──────────────────
    """
    office.start(**SHORT)
    await until(lambda: len(office.lessors()) == PARTITIONS, "every partition publishes leases")
    reasons: list[str] = []

    async def stop(correlation_id: str) -> bool:
        command = current_stop()
        assert command is not None
        assert command.correlation_id == correlation_id
        reasons.append(command.reason)
        return True

    safe = StopGuard(
        "alpha",
        office.brokers,
        instance_id="safe",
        on_stop=stop,
        verifier=office.verifier,
        lease_hold_delay_ms=DELAY_MS,
    )
    fail_open = StopGuard("beta", office.brokers, instance_id="open", without_lease="run", verifier=office.verifier)
    async with safe, fail_open:
        await until(lambda: fail_open.stats.lease.state == "held", "whoever may do without a lease gets one too")
        assert may_act(safe, "a")
        work = Work(safe, "a")
        working = asyncio.create_task(work.run())
        await work.began.wait()

        killed_at = time.monotonic()
        office.kill()
        await until(lambda: not may_act(safe, "b"), "no new actions")
        refused_ms = (time.monotonic() - killed_at) * 1_000
        assert refused_ms < LEASE_MS + SLACK_MS
        assert work.ended_by == "", "what is in flight goes on at first"
        await until(lambda: reasons, "the stop handler is called")
        assert (time.monotonic() - killed_at) * 1_000 < LEASE_MS + DELAY_MS + SLACK_MS
        await working
        assert work.ended_by.startswith(LEASE_LOST)
        assert reasons[0].startswith(LEASE_LOST)
        assert safe.not_ready_because() == "no lease of the coordinator (lost)"
        await until(lambda: announced["safe"].lease_lost_at is not None, "it announces that it has no lease")
        assert announced["safe"].state is InstanceState.UP, "it is asked to stop all the same"
        await until(lambda: fail_open.stats.lease.state == "lost", "the other one lost its lease too")
        assert may_act(fail_open, "b"), "and goes on"

        await _hold(office, tmp_path, "account:b")
        await until(lambda: not may_act(fail_open, "b"), "the hold is known")
        office.start(**SHORT)
        await until(lambda: may_act(safe, "a"), "a fresh lease")
        assert not may_act(safe, "b")
        await until(lambda: announced["safe"].lease_lost_at is None, "it announces that it has a lease again")
        await until(lambda: fail_open.stats.lease.state == "held", "so has the other one")
        assert (safe.stats.lease.times_lost, len(reasons)) == (1, 1)


async def _hold(office: CoordinatorOffice, folder: Path, scope: str) -> None:
    cause = HoldCause(f"e-{scope}", StopLevel.GRACEFUL, ("all",), "a test", 1)
    hold = Hold(scope, 1, HoldState.HELD, StopLevel.GRACEFUL, (cause,), "a test", now_ms())
    signed = Signer.load(folder / "signing.pem").sign(hold)
    await office.publisher.publish(topics.HOLDS, scope.encode(), office.codec.encode(signed, topics.HOLDS))


async def test_whoever_needs_a_lease_does_not_start_without_a_coordinator_and_leaves_no_trace(
    office: CoordinatorOffice, announced: dict[str, ServiceInstance]
) -> None:
    guard = StopGuard("alpha", office.brokers, instance_id="waits", verifier=office.verifier)
    with pytest.raises(GuardStartError, match=f"no coordinator has answered on {topics.LEASES}; check that a coord"):
        await guard.start(within_ms=10_000)
    assert not may_act(guard, "a")
    await until(lambda: announced["waits"].state is InstanceState.LEFT, "nobody waits for its proof")
    async with StopGuard("alpha", office.brokers, without_lease="run") as runs:
        assert may_act(runs, "a")
        assert runs.stats.lease.state == "awaited"
    async with StopGuard("alpha", office.brokers, without_lease="ignore") as ignores:
        assert (may_act(ignores, "a"), ignores.stats.lease.state) == (True, "ignored")


async def test_leases_of_a_coordinator_that_is_not_trusted_start_nobody(office: CoordinatorOffice) -> None:
    office.start(**SHORT)
    await until(lambda: len(office.lessors()) == PARTITIONS, "every partition publishes leases")
    stranger = StopGuard("alpha", office.brokers, verifier=Verifier([Signer.generate().public_key]))
    with pytest.raises(GuardStartError, match="no lease that a trusted key has signed"):
        await stranger.start(within_ms=10_000)


@pytest.mark.needs("java", "maven")
async def test_a_takeover_by_another_coordinator_costs_nobody_the_lease(tmp_path: Path) -> None:
    """Default lease, default session: who dies is missed for six seconds, and half of a lease is left at the worst."""
    (tmp_path / "kafka").mkdir()
    with ApacheKafka(tmp_path / "kafka", heap_mb=256, short_lived=True) as kafka:
        async with CoordinatorOffice(kafka.bootstrap, tmp_path) as office:
            office.start("c1")
            office.start("c2")
            both = {"coordinator-c1", "coordinator-c2"}
            await until(lambda: set(office.lessors().values()) == both, "they share the partitions", within_s=60)
            async with StopGuard("alpha", office.brokers, verifier=office.verifier) as guard:
                left_ms = await _left_during_takeover(office, guard)
                await until(lambda: guard.stats.lease.left_ms > left_ms, "a fresh lease of all partitions")
                assert guard.stats.lease.times_lost == 0


async def _left_during_takeover(office: CoordinatorOffice, guard: StopGuard) -> int:
    """Kill c1, and wait until c2 publishes all leases. Returns how much of the lease was left at the least."""
    office.kill("c1")
    killed_at, left_ms = time.monotonic(), guard.stats.lease.left_ms
    while set(office.lessors().values()) != {"coordinator-c2"}:
        assert time.monotonic() < killed_at + 60, office.log()
        assert may_act(guard, "a")
        left_ms = min(left_ms, guard.stats.lease.left_ms)
        await asyncio.sleep(0.05)
    took_ms = (time.monotonic() - killed_at) * 1_000
    print(f"leases again {took_ms:.0f} ms after kill -9; {left_ms} ms of the lease were left at the least")
    return left_ms
