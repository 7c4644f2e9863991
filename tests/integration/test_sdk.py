"""The guard on a real broker: what it knows before the first action, and what it says about a stop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.domain import topics
from emergency_stop.domain.values import AckState, Action, InstanceState, StopLevel
from emergency_stop.integrations.twikit_session_manager import TwikitSessionManager
from emergency_stop.sdk import GuardStartError, StopGuard, Stopped
from emergency_stop.wire.signing import Verifier
from tests.integration.sdk_office import PROMPT_MS, Office, until
from tests.unit.wire.falling_silent import FallingSilent

pytestmark = pytest.mark.needs("broker")
NUMBERS = itertools.count(1)


@pytest.fixture
async def office(broker: str) -> AsyncIterator[Office]:
    async with Office(broker, f"service{next(NUMBERS)}") as opened:
        yield opened


def account() -> str:
    return f"acc-{next(NUMBERS)}"


@asynccontextmanager
async def at_work(office: Office, accounts: list[str], rate_per_s: float = 200) -> AsyncIterator[StopGuard]:
    """A reference service of the office's name that works for ``accounts``."""

    class Service(TwikitSessionManager):
        service = office.service

    guard = StopGuard(office.service, office.brokers)
    publisher = KafkaPublisher(office.brokers, client_id="activity")
    service = Service(guard, publisher, office.codec, accounts, rate_per_s)
    guard.handle_stops(service.emergency_stop, service.save_state)
    await publisher.start()
    async with guard:
        work = asyncio.create_task(service.run())
        try:
            yield guard
        finally:
            work.cancel()
            await asyncio.wait([work])
    await publisher.stop()


async def test_holds_that_were_there_before_the_start_are_known_before_the_first_action(office: Office) -> None:
    stopped, lifted, free = account(), account(), account()
    await office.hold(f"account:{stopped}", 1)
    await office.hold(f"account:{lifted}", 1)
    await office.hold(f"account:{lifted}", 2, level=None)
    guard = StopGuard(office.service, office.brokers)
    with pytest.raises(Stopped, match="not started"):
        async with guard.permit(free):
            pytest.fail("nothing may happen before the holds are read")
    async with guard:
        for account_id in (free, lifted):
            async with guard.permit(account_id):
                pass
        with pytest.raises(Stopped) as refused:
            async with guard.permit(stopped):
                pytest.fail("held")
        assert (refused.value.reason, refused.value.epoch) == ("a test", 1)
        assert guard.not_ready_because() == ""
        await until(lambda: office.state_of(guard.instance_id) is InstanceState.UP, "UP announced")
    await until(lambda: office.state_of(guard.instance_id) is InstanceState.LEFT, "LEFT announced")


async def test_an_immediate_stop_cancels_what_is_in_flight_and_nothing_lands_after_the_proof(office: Office) -> None:
    accounts = [account() for _ in range(20)]
    async with at_work(office, accounts) as guard:
        await until(lambda: len(office.acts()) > 50, "work is visible")
        await office.hold(f"service:{office.service}", 1, level=StopLevel.IMMEDIATE)
        stop = await office.command(f"service:{office.service}", 1)
        proof = await office.answered(stop, AckState.STOPPED)
        assert office.answers(stop) == [AckState.RECEIVED, AckState.STOPPING, AckState.STOPPED]
        announced = office.instances[f"{office.service}/{proof.instance_id}"]
        assert proof.started_at == announced.started_at, "an answer says which process it binds"
        assert (proof.in_flight, proof.saved_state is not None) == (0, True)
        await until(lambda: guard.stats.refused > 20, "the service goes on trying")
        last = max(act.performed_at for act in office.acts())
        assert proof.last_side_effect_at is not None
        assert last <= proof.last_side_effect_at <= proof.acked_at
        assert proof.acked_at - stop.issued_at < PROMPT_MS
        await resume(office, f"service:{office.service}", 2)
        await until(lambda: max(act.performed_at for act in office.acts()) > proof.acked_at, "it works again")


async def resume(office: Office, scope: str, epoch: int) -> None:
    await office.hold(scope, epoch, level=None)
    await office.answered(await office.command(scope, epoch, Action.RESUME), AckState.RESUMED)


async def test_a_stop_of_one_account_leaves_the_others_at_work(office: Office) -> None:
    stopped, other = account(), account()
    async with at_work(office, [stopped, other], 100):
        await until(lambda: office.acts(stopped) and office.acts(other), "both work")
        proof = await office.answered(await office.command(f"account:{stopped}", 1), AckState.STOPPED)
        seen = len(office.acts(other))
        await until(lambda: len(office.acts(other)) > seen + 10, "the other account goes on")
        assert all(act.performed_at <= proof.acked_at for act in office.acts(stopped))


async def test_a_command_ahead_of_its_hold_shuts_the_gate_and_a_hold_ahead_of_its_command_too(office: Office) -> None:
    first, second = account(), account()
    async with StopGuard(office.service, office.brokers) as guard:
        await office.answered(await office.command(f"account:{first}", 1), AckState.STOPPED)
        assert guard.stopped_by(first) is not None
        await office.hold(f"account:{second}", 1)
        await until(lambda: guard.stopped_by(second), "the hold alone shuts the gate")


async def test_a_graceful_stop_lets_work_finish_and_calls_the_handler_after_it(office: Office) -> None:
    story: list[str] = []

    async def emergency_stop(correlation_id: str) -> bool:
        story.append(f"handler {correlation_id}")
        return True

    account_id = account()
    async with StopGuard(office.service, office.brokers, on_stop=emergency_stop) as guard:

        async def work() -> None:
            async with guard.permit(account_id):
                await asyncio.sleep(0.3)
                story.append("work done")

        task = asyncio.create_task(work())
        await until(lambda: guard.stats.in_flight, "work in flight")
        stop = await office.command(f"account:{account_id}", 1, level=StopLevel.GRACEFUL)
        await office.answered(stop, AckState.STOPPED)
        await task
        assert story == ["work done", "handler corr"]
        assert office.answer(stop, AckState.STOPPING).in_flight == 1


@pytest.mark.parametrize("outcome", ["false", "raises"])
async def test_a_handler_that_fails_is_reported_with_its_reason(office: Office, outcome: str) -> None:
    def emergency_stop(correlation_id: str) -> bool:
        if outcome == "raises":
            raise OSError(f"no disk for {correlation_id}")
        return False

    async with StopGuard(office.service, office.brokers, on_stop=emergency_stop):
        failed = await office.answered(await office.command(f"account:{account()}", 1), AckState.FAILED)
    assert ("no disk for corr" if outcome == "raises" else "returned false") in failed.reason


async def test_a_registry_that_is_away_from_the_start_on_is_not_missed_by_a_stop(office: Office) -> None:
    registry, account_id = FallingSilent(), account()
    async with StopGuard(office.service, office.brokers, registry=registry) as guard:
        registry.is_away = True
        asked = len(registry.asked)
        await office.hold(f"account:{account_id}", 1)
        await until(lambda: guard.stopped_by(account_id), "the hold shuts the gate")
        await office.answered(await office.command(f"account:{account_id}", 1), AckState.STOPPED)
        await resume(office, f"account:{account_id}", 2)
        assert len(registry.asked) == asked


async def test_a_stale_resume_is_refused_and_a_good_one_opens(office: Office) -> None:
    account_id = account()
    scope = f"account:{account_id}"
    async with StopGuard(office.service, office.brokers) as guard:
        await office.hold(scope, 5)
        await until(lambda: guard.stopped_by(account_id), "held")
        stale = await office.answered(await office.command(scope, 4, Action.RESUME), AckState.REFUSED)
        assert "not beyond the stop of epoch 5" in stale.reason
        assert guard.stopped_by(account_id) is not None
        await resume(office, scope, 6)
        async with guard.permit(account_id):
            pass


async def test_a_hold_with_a_bad_signature_stops_and_does_not_lift(office: Office) -> None:
    account_id = account()
    verifier = Verifier([office.signer.public_key])
    async with StopGuard(office.service, office.brokers, verifier=verifier) as guard:
        hold = await office.hold(f"account:{account_id}", 1)
        await until(lambda: guard.stopped_by(account_id), "the unsigned stop is obeyed")
        lifted = await office.hold(f"account:{account_id}", 2, level=None)
        await until(lambda: guard.stats.untrusted >= 2, "both were seen and flagged")
        assert guard.stopped_by(account_id) is not None
        value = office.codec.encode(office.signer.sign(lifted), topics.HOLDS)
        await office.publisher.publish(topics.HOLDS, hold.scope.encode(), value)
        await until(lambda: guard.stopped_by(account_id) is None, "the signed record lifts it")


async def test_an_unreadable_hold_stops_its_scope_until_a_readable_one_comes(office: Office) -> None:
    account_id = account()
    scope = f"account:{account_id}"
    async with StopGuard(office.service, office.brokers) as guard:
        await office.publisher.publish(topics.HOLDS, scope.encode(), b"\0\0\0\0\xce garbage")
        await until(lambda: guard.stopped_by(account_id), "in doubt it is stopped")
        await office.hold(scope, 1, level=None)
        await until(lambda: guard.stopped_by(account_id) is None, "a readable record ends the doubt")


async def test_an_instance_leaves_only_when_its_work_has_ended(office: Office) -> None:
    guard = StopGuard(office.service, office.brokers)
    await guard.start()
    release = asyncio.Event()

    async def deaf() -> None:
        async with guard.permit("a"):
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

    task = asyncio.create_task(deaf())
    await until(lambda: guard.stats.in_flight, "work in flight")
    assert await guard.stop(within_ms=200) is False
    release.set()
    await asyncio.wait([task])
    assert office.state_of(guard.instance_id) is InstanceState.UP


async def test_without_a_broker_the_guard_does_not_start_and_says_what_to_check() -> None:
    guard = StopGuard("sessionManager", "127.0.0.1:9")
    with pytest.raises(GuardStartError, match="check that the broker is up"):
        await guard.start(within_ms=500)
    with pytest.raises(Stopped), guard.permit("a"):
        pytest.fail("shut")


async def test_an_instance_heartbeats_with_what_it_holds(office: Office) -> None:
    account_id = account()
    async with StopGuard(office.service, office.brokers, heartbeat_ms=100) as guard:
        await office.hold(f"account:{account_id}", 1)
        key = f"{office.service}/{guard.instance_id}"
        await until(
            lambda: key in office.instances and office.instances[key].held_scopes == 1,
            "the heartbeat tells of the hold",
        )


def test_the_module_needs_nothing_of_the_server(tmp_path: Path) -> None:
    """Imported in an interpreter where the server's libraries do not exist."""
    import subprocess
    import sys

    absent = ("numpy", "numba", "faust", "clickhouse_connect", "prometheus_client", "chdb", "cramjam", "psutil")
    code = f"import sys; sys.modules.update(dict.fromkeys({absent!r})); import emergency_stop.sdk.httpx"
    code += "; import emergency_stop.integrations.links.twikit_session_manager"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    code = f"import sys; sys.modules.update(dict.fromkeys({(*absent, 'httpx', 'twikit')!r})); import emergency_stop.sdk"
    code += "; import emergency_stop.integrations.links.account_health_monitor"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
