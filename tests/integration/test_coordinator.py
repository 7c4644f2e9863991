"""The coordinator as a process: a hit becomes a proven stop, also when the process dies under way."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from emergency_stop.domain.ids import emergency_id, hit_cause, request_cause
from emergency_stop.domain.messages import Hold
from emergency_stop.domain.values import Action, EmergencyState, HoldState, Mode, NoticeKind, StopLevel
from emergency_stop.sdk import StopGuard, Stopped
from emergency_stop.wire.signing import SignatureVerdict
from tests.integration.coordinator_office import SERVICES, CoordinatorOffice, now_ms, until
from tests.unit.coordinate.scenario import hit, request, resume

pytestmark = pytest.mark.needs("broker")
NUMBERS = itertools.count(1)


@pytest.fixture
async def office(broker: str, tmp_path: Path) -> AsyncIterator[CoordinatorOffice]:
    """A running coordinator, and one instance of each service under a guard that checks signatures."""
    async with CoordinatorOffice(broker, tmp_path) as opened, AsyncExitStack() as stack:
        opened.start()
        for service in SERVICES:
            guard = StopGuard(service, broker, verifier=opened.verifier)
            guard.handle_stops(_obey)
            await stack.enter_async_context(guard)
            opened.guards[service] = guard
        yield opened


async def _obey(correlation_id: str) -> bool:
    return True


def scope() -> str:
    return f"account:acc-{next(NUMBERS)}"


async def test_a_hit_becomes_a_proven_stop_and_a_resume_ends_it(office: CoordinatorOffice) -> None:
    where = scope()
    account, cause = where.partition(":")[2], emergency_id(hit_cause(f"h-{where}"))
    await office.send(hit(f"h-{where}", where, occurred_at=now_ms()))
    await _reaches(office, cause, EmergencyState.STOPPED)
    await until(lambda: office.hold(where) and _is_commanded(office, cause), "held, and commanded")
    stopped, hold = office.emergency(cause), office.hold(where)
    assert stopped is not None
    assert hold is not None
    assert stopped.success is True
    assert {(i.service, i.state.value) for i in stopped.instances} == {("alpha", "stopped"), ("beta", "stopped")}
    assert office.verifier.verify(hold) is SignatureVerdict.VALID
    assert {office.verifier.verify(command) for command in office.commands} == {SignatureVerdict.VALID}
    with pytest.raises(Stopped):
        async with office.guards["alpha"].permit(account):
            pytest.fail("held")

    await office.send(resume(f"r-{where}", hold.epoch, scope=where))
    await _reaches(office, cause, EmergencyState.RESOLVED)
    await until(lambda: (now := office.hold(where)) is not None and now.epoch > hold.epoch, "lifted")
    lifted = office.hold(where)
    assert lifted is not None
    assert (lifted.state, lifted.epoch) == (HoldState.RUNNING, hold.epoch + 1)
    await until(lambda: office.guards["alpha"].stopped_by(account) is None, "the service knows it")
    async with office.guards["alpha"].permit(account):
        pass

    await office.send(resume(f"again-{where}", hold.epoch, scope=where))
    await until(lambda: any(a.action == "resume_refused" and a.subject == where for a in office.audit), "refused")


async def test_a_stop_under_a_bad_key_or_in_a_foreign_partition_is_not_lost(office: CoordinatorOffice) -> None:
    """Another library's partitioner puts a scope elsewhere; the record is forwarded to where it belongs."""
    wanted = []
    for partition in range(4):
        where = scope()
        wanted.append(emergency_id(request_cause(f"r-{where}")))
        stop = request(f"r-{where}", scope=where, level=StopLevel.IMMEDIATE, requested_at=now_ms())
        await office.send(stop, key="nonsense", partition=partition)
    for cause in wanted:
        await _reaches(office, cause, EmergencyState.STOPPED)
        await until(partial(_holds_of, office, cause), "held")
        assert len(_holds_of(office, cause)) == 1


async def test_other_modes_and_garbage_disturb_nobody(office: CoordinatorOffice) -> None:
    where, shadow = scope(), scope()
    await office.publisher.publish("estop.hits", where.encode(), b"\0garbage")
    await office.send(hit(f"s-{shadow}", shadow, mode=Mode.SHADOW))
    await office.send(hit(f"h-{where}", where, occurred_at=now_ms()))
    cause = emergency_id(hit_cause(f"h-{where}"))
    await _reaches(office, cause, EmergencyState.STOPPED)
    await until(lambda: any(a.action == "hit_shadow" and a.subject == shadow for a in office.audit), "recorded")
    assert office.hold(shadow) is None


async def test_a_cascade_holds_one_tier_after_the_other(office: CoordinatorOffice) -> None:
    """Alpha depends on beta: alpha is held, proven and only then beta."""
    office.kill()
    office.start(ESTOP_DEPENDENCIES="alpha:beta")
    where = scope()
    cause = emergency_id(request_cause(f"r-{where}"))
    await office.send(request(f"r-{where}", scope=where, level=StopLevel.CASCADING, requested_at=now_ms()))
    await _reaches(office, cause, EmergencyState.STOPPED)
    stopped = office.emergency(cause)
    assert stopped is not None
    assert (stopped.success, stopped.level, stopped.asked_level) == (True, StopLevel.CASCADING, StopLevel.CASCADING)
    await until(lambda: any(hold.scope == where and hold.epoch == stopped.epoch for hold in office.holds), "held")
    await until(lambda: _is_commanded(office, cause), "commanded")
    held = [(hold.epoch, hold.causes[0].services) for hold in office.holds if hold.scope == where]
    assert held == [(1, ("alpha",)), (2, ("all",))]
    sent = [(c.service, c.epoch) for c in office.commands if c.emergency_id == cause]
    assert sorted(set(sent)) == [("alpha", 1), ("beta", 2)]
    proofs = {one.service: one.at for one in stopped.instances}
    began = next(c.issued_at for c in office.commands if c.emergency_id == cause and c.service == "beta")
    assert proofs["alpha"] <= began <= proofs["beta"], "one machine, one clock"


async def test_a_drill_walks_the_whole_path_and_holds_nothing(office: CoordinatorOffice) -> None:
    where = scope()
    cause = emergency_id(request_cause(f"d-{where}"))
    await office.send(request(f"d-{where}", Action.DRILL, where, level=StopLevel.GRACEFUL, requested_at=now_ms()))
    await _reaches(office, cause, EmergencyState.RESOLVED)
    drilled = office.emergency(cause)
    assert drilled is not None
    assert (drilled.drill, drilled.success, drilled.level) == (True, True, StopLevel.GRACEFUL)
    await until(lambda: any(c.emergency_id == cause for c in office.commands), "the drill's commands")
    assert {c.action for c in office.commands if c.emergency_id == cause} == {Action.DRILL}
    assert office.hold(where) is None
    async with office.guards["alpha"].permit(where.partition(":")[2]):
        pass


async def test_every_hit_is_one_proven_stop_through_kills(office: CoordinatorOffice) -> None:
    """Twenty hits, and the process dies while it handles them; twice.

    hits         20           20
    coordinator  start──kill-start──kill-start──
    """
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 30)))
    print(f"seed {seed} (set SEED to repeat)")
    rng, scopes = random.Random(seed), [scope() for _ in range(40)]
    for batch in (scopes[:20], scopes[20:]):
        first = emergency_id(hit_cause(f"h-{batch[0]}"))
        for where in batch:
            await office.send(hit(f"h-{where}", where, occurred_at=now_ms(), level=StopLevel.IMMEDIATE))
        await until(partial(office.emergency, first), "at work", 60)
        await asyncio.sleep(rng.random() * 0.1)
        office.kill()
        office.start()
    causes = {emergency_id(hit_cause(f"h-{where}")): where for where in scopes}
    for cause, where in causes.items():
        await _reaches(office, cause, EmergencyState.STOPPED)
        await until(partial(office.hold, where), "held")
        holds = [hold for hold in office.holds if hold.scope == where]
        assert {(hold.state, hold.epoch) for hold in holds} == {(HoldState.HELD, 1)}, "one stop, decided once"
        await until(partial(_is_commanded, office, cause), "commanded")
        await until(partial(_is_told, office, cause), "its begin and its end are told, though it died in between")
    assert {e.emergency_id for e in office.emergencies if e.scope in scopes} == set(causes)


def _holds_of(office: CoordinatorOffice, cause: str) -> list[Hold]:
    return [hold for hold in office.holds if cause in {one.emergency_id for one in hold.causes}]


def _is_commanded(office: CoordinatorOffice, cause: str) -> bool:
    """Whether every service was told to stop."""
    stops = [one for one in office.commands if one.emergency_id == cause and one.action is Action.STOP]
    return {one.service for one in stops} == set(SERVICES)


def _is_told(office: CoordinatorOffice, cause: str) -> bool:
    return office.told(cause) == {NoticeKind.WARNING, NoticeKind.INFO}


async def _reaches(office: CoordinatorOffice, cause: str, state: EmergencyState) -> None:
    """Each topic is read on its own: this may be seen before the holds and commands that led to it."""

    def reached() -> bool:
        found = office.emergency(cause)
        return found is not None and found.state is state

    await until(reached, f"{cause} {state.value}", 90)
