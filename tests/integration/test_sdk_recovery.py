"""A guard on a real broker is let back in step by step, is drilled, and is stopped for maintenance."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest

from emergency_stop.domain.values import AckState, Action, InstanceState, StopLevel
from emergency_stop.sdk import StopGuard, Stopped
from emergency_stop.wire.signing import Signer, Verifier
from tests.integration.sdk_office import Office, until

pytestmark = pytest.mark.needs("broker")
NUMBERS = itertools.count(1)
SIGNER = Signer.generate()


@pytest.fixture
async def office(broker: str) -> AsyncIterator[Office]:
    async with Office(broker, f"recovering{next(NUMBERS)}") as opened:
        opened.signer = SIGNER  # of leases, too: an instance acts only while it has one
        yield opened


class Service:
    """The user's own: each handler says what the test wants, and notes that it was called."""

    def __init__(self) -> None:
        self.problem = ""
        self.is_prepared = True
        self.saved: list[str] = []
        self.is_saved_well = True
        self.drilled: list[str] = []

    def health(self) -> str:
        return self.problem

    async def prepare(self, correlation_id: str) -> bool:
        return self.is_prepared and bool(correlation_id)

    def drill(self, correlation_id: str) -> bool:
        self.drilled.append(correlation_id)
        return True

    def save(self, correlation_id: str) -> str:
        self.saved.append(f"state-of-{correlation_id}")
        return self.saved[-1]

    def verify(self, reference: str) -> bool:
        return self.is_saved_well and reference in self.saved

    def guarded(self, office: Office) -> StopGuard:
        return StopGuard(
            office.service, office.brokers, save_state=self.save, verify_state=self.verify, on_prepare=self.prepare,
            on_drill=self.drill, health=self.health, heartbeat_ms=60_000, verifier=Verifier([SIGNER.public_key]),
        )  # fmt: skip


def attempt(guard: StopGuard, account_id: str) -> bool:
    try:
        with guard.permit(account_id):
            return True
    except Stopped:
        return False


async def test_an_account_is_let_back_in_step_by_step_and_a_new_stop_takes_it_all_back(office: Office) -> None:
    """As a timeline; what is signed is heeded at once, not in the next pause.

    hold   held 1 ─── 50 % 2 ──── 100 % 3 ─── held 4 ─── running 5
    probe       0 % READY   READY       not well       resume: RESUMED
    """
    service, account_id = Service(), f"acc-{next(NUMBERS)}"
    scope = f"account:{account_id}"
    async with service.guarded(office) as guard:
        await office.hold(scope, 1, signer=SIGNER)
        await office.answered(await office.command(scope, 1, signer=SIGNER), AckState.STOPPED)
        prepared = await office.command(scope, 1, Action.PROBE, signer=SIGNER)
        await office.answered(prepared, AckState.READY)
        assert not attempt(guard, account_id)
        probe = await office.command(scope, 2, Action.PROBE, share_percent=50, signer=SIGNER)
        await office.hold(scope, 2, percent=50, signer=SIGNER)
        await office.answered(probe, AckState.READY)
        assert [attempt(guard, account_id) for _ in range(6)] == [False, True] * 3
        service.problem = "the proxy is slow"
        await office.hold(scope, 3, percent=100, signer=SIGNER)
        probe = await office.command(scope, 3, Action.PROBE, share_percent=100, signer=SIGNER)
        refused = await office.answered(probe, AckState.REFUSED)
        assert refused.reason == "the service is not well: the proxy is slow"
        name = f"{office.service}/{guard.instance_id}"
        await until(lambda: not office.instances[name].healthy, "what ails it is announced before the next heartbeat")
        assert (office.instances[name].problem, office.instances[name].actions) == ("the proxy is slow", 3)
        await office.hold(scope, 4, signer=SIGNER)
        await office.answered(await office.command(scope, 4, signer=SIGNER), AckState.STOPPED)
        assert not any(attempt(guard, account_id) for _ in range(200))
        await office.hold(scope, 5, level=None, signer=SIGNER)
        resumed = await office.command(scope, 5, Action.RESUME, signer=SIGNER)
        await office.answered(resumed, AckState.RESUMED)
        assert all(attempt(guard, account_id) for _ in range(10))
        stats = guard.stats
        assert (stats.probes_ready, stats.probes_refused, stats.stops_proven, stats.resumes) == (2, 1, 2, 1)


async def test_a_share_that_nobody_signed_shuts_instead_and_its_probe_is_refused(office: Office) -> None:
    service, account_id = Service(), f"acc-{next(NUMBERS)}"
    scope = f"account:{account_id}"
    async with service.guarded(office) as guard:
        await office.hold(scope, 2, percent=100)
        refused = await office.answered(
            await office.command(scope, 2, Action.PROBE, share_percent=100), AckState.REFUSED
        )
        assert "must be signed by a known key" in refused.reason
        await until(lambda: guard.stopped_by(account_id), "an alarm admits nothing")
        assert not any(attempt(guard, account_id) for _ in range(200))


async def test_a_drill_walks_the_whole_way_and_work_goes_on(office: Office) -> None:
    service = Service()
    async with service.guarded(office) as guard:
        with guard.permit("acc-busy"):
            drill = await office.command("global", 1, Action.DRILL, signer=SIGNER)
            proof = await office.answered(drill, AckState.STOPPED)
            assert attempt(guard, "acc-other")
        assert sorted(office.answers(drill)) == [AckState.RECEIVED, AckState.STOPPED, AckState.STOPPING]
        assert (proof.reason, proof.in_flight) == ("a drill: the way is proven, and nothing was stopped", 1)
        assert service.drilled == ["corr"]
        forged = await office.command("global", 2, Action.DRILL)
        assert "signed by a known key" in (await office.answered(forged, AckState.FAILED)).reason
        stats = guard.stats
        assert (stats.drills_passed, stats.drills_failed, stats.stops_proven, stats.held_scopes) == (1, 1, 0, 0)


async def test_a_maintenance_stop_is_proven_by_saved_state_that_was_verified(office: Office) -> None:
    service, scope = Service(), f"service:{office.service}"
    async with service.guarded(office) as guard:
        good = await office.command(scope, 1, level=StopLevel.MAINTENANCE, signer=SIGNER)
        assert (await office.answered(good, AckState.STOPPED)).saved_state == "state-of-corr"
        service.is_saved_well = False
        bad = await office.command(scope, 2, level=StopLevel.MAINTENANCE, signer=SIGNER)
        failed = await office.answered(bad, AckState.FAILED)
        assert failed.reason == "verify_state says that the saved state state-of-corr is not good"
        assert not attempt(guard, "acc-any"), "the gate stays shut all the same"
    await until(lambda: office.state_of(guard.instance_id) is InstanceState.LEFT, "LEFT announced")
