"""Triggers stop many accounts at once: everything is held, once, whatever becomes of the coordinator meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from emergency_stop.coordinate.blast import COMMON_CAUSE
from emergency_stop.domain import topics
from emergency_stop.domain.ids import emergency_id, hit_cause
from emergency_stop.domain.messages import Freshness, Hold, Notice
from emergency_stop.domain.values import Action, EmergencyState, HoldState, NoticeKind, StopLevel
from emergency_stop.sdk import StopGuard
from emergency_stop.testing.brokers import EmbeddedBroker
from tests.integration.coordinator_office import SERVICES, CoordinatorOffice, now_ms, until
from tests.unit.coordinate.scenario import hit, request

pytestmark = pytest.mark.needs("broker")
GUARDED = {"ESTOP_BLAST_PERCENT": "30", "ESTOP_BLAST_MIN_ACCOUNTS": "20"}
LIVE_ACCOUNTS = 60


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    with EmbeddedBroker(tmp_path) as running:
        yield running.bootstrap


@pytest.fixture
async def office(broker: str, tmp_path: Path) -> AsyncIterator[CoordinatorOffice]:
    """No coordinator yet; one instance of each service, and detectors that know 60 live accounts."""
    async with CoordinatorOffice(broker, tmp_path) as opened, AsyncExitStack() as stack:
        for service in SERVICES:
            guard = StopGuard(service, broker, without_lease="ignore")  # the coordinator starts later
            guard.handle_stops(_obey)
            await stack.enter_async_context(guard)
        for partition in range(2):
            word = Freshness("a", partition, "d", (), now_ms(), now_ms(), LIVE_ACCOUNTS // 2)
            value = opened.codec.encode(word, topics.FRESHNESS)
            await opened.publisher.publish(topics.FRESHNESS, f"a/{partition}".encode(), value)
        yield opened


async def _obey(_correlation_id: str) -> bool:
    return True


async def _fire(office: CoordinatorOffice, numbers: range) -> None:
    for number in numbers:
        scope = f"account:acc-{number}"
        await office.send(hit(f"h{number}", scope, trigger_id=f"t{number % 2}", occurred_at=now_ms()))


def _held(office: CoordinatorOffice) -> set[str]:
    return {one.scope for one in office.holds if one.state is HoldState.HELD and one.scope.startswith("account:")}


def _is_held(office: CoordinatorOffice, number: int) -> bool:
    return f"account:acc-{number}" in _held(office)


def _everything(office: CoordinatorOffice) -> Hold:
    found = office.hold("global")
    assert found is not None
    return found


def _pages(office: CoordinatorOffice) -> list[Notice]:
    return [one for one in office.notices if one.kind is NoticeKind.PAGE]


async def test_a_crowd_stopped_by_triggers_holds_everything_once_through_restarts(office: CoordinatorOffice) -> None:
    """
    ```
    stops        20 by people, 20 by triggers (of 60)      one      one            one
    everything   runs ─────────────────────── held ─ kill ──── kill ──── lifted ─────── runs
    ```
    """  # noqa: D212  (a drawing)
    office.start(**GUARDED, ESTOP_BLAST_WINDOW="600000")
    for number in range(20):
        await office.send(request(f"r{number}", scope=f"account:by-hand-{number}"))
    await _fire(office, range(20))
    await until(lambda: len(_held(office)) == 40, "every account is held for itself")
    await until(lambda: office.hold("global"), "everything is held")
    hold = _everything(office)
    assert (hold.state, hold.level) == (HoldState.HELD, StopLevel.GRACEFUL)
    assert [cause.trigger_id for cause in hold.causes] == [COMMON_CAUSE]
    assert "33 % of 60 live ones" in hold.reason
    cause = hold.causes[0].emergency_id
    await until(lambda: (one := office.emergency(cause)) and one.state is EmergencyState.STOPPED, "proven")
    await until(lambda: _pages(office), "a page")
    assert {one.emergency_id for one in _pages(office)} == {cause}

    for number in (30, 31):  # what comes during and after restarts is stopped all the same, and raises nothing
        office.kill()
        office.start(**GUARDED, ESTOP_BLAST_WINDOW="600000")
        await _fire(office, range(number, number + 1))
        await until(partial(_is_held, office, number), "held")
    raised = {one.hit_id for one in office.hits if one.trigger_id == COMMON_CAUSE}
    assert [emergency_id(hit_cause(one)) for one in raised] == [cause]
    assert len({one.notice_id for one in _pages(office)}) == 1

    for who, action in (("ann", Action.RESET), ("ann", Action.RESUME), ("ben", Action.RESUME)):
        await office.send(request(f"{who}-{action}", action, "global", requested_by=who, epoch=hold.epoch))
    await until(lambda: _everything(office).state is HoldState.RUNNING, "lifted")
    await until(lambda: any(one.action == "common_cause_lifted" for one in office.audit), "counted anew")
    await _fire(office, range(40, 41))
    await until(partial(_is_held, office, 40), "held")
    assert _everything(office).state is HoldState.RUNNING, "one account more is no common cause"


async def test_fewer_than_the_share_hold_themselves_alone(office: CoordinatorOffice) -> None:
    office.start(ESTOP_BLAST_PERCENT="40", ESTOP_BLAST_MIN_ACCOUNTS="2")
    await _fire(office, range(24))
    await until(lambda: len(_held(office)) == 24, "every account is held for itself")
    await _fire(office, range(24, 25))
    await until(lambda: office.hold("global"), "one more than 40 %")
    assert "most often t0 (13), t1 (12)" in _everything(office).reason
