"""What a real coordinator tells: every event of a stop, once, through a restart, to the SDK and on the command line."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from emergency_stop.domain.ids import emergency_id, hit_cause
from emergency_stop.domain.messages import Lifecycle
from emergency_stop.domain.values import LifecycleKind
from emergency_stop.sdk import EventsStartError, LifecycleEvents, StopGuard
from tests.integration.coordinator_office import SERVICES, CoordinatorOffice, now_ms, until
from tests.unit.coordinate.scenario import hit

pytestmark = pytest.mark.needs("broker")


@pytest.fixture
async def office(broker: str, tmp_path: Path) -> AsyncIterator[CoordinatorOffice]:
    async with CoordinatorOffice(broker, tmp_path) as opened, AsyncExitStack() as stack:
        opened.start()
        for service in SERVICES:
            guard = StopGuard(service, broker, without_lease="ignore")  # coordinators come and go
            guard.handle_stops(_obey)
            await stack.enter_async_context(guard)
        yield opened


async def _obey(_correlation_id: str) -> bool:
    return True


def _told(events: list[Lifecycle]) -> list[tuple[LifecycleKind, str | None, bool | None]]:
    return [(one.event, one.service, one.success) for one in events]


async def _estop(office: CoordinatorOffice, *arguments: str) -> asyncio.subprocess.Process:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ESTOP_")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "emergency_stop.control.cli.main", *arguments,
        env=environment | {"ESTOP_BROKERS": office.brokers}, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_a_stop_is_told_from_the_hit_to_its_end_each_event_once_through_a_restart(
    office: CoordinatorOffice,
) -> None:
    heard, completed = list[Lifecycle](), list[Lifecycle]()
    async with LifecycleEvents(office.brokers) as events:
        for kind in LifecycleKind:
            events.on(kind, heard.append, account_id="told")
        events.on("emergencyCompleted", completed.append)
        await office.send(hit("h-told", "account:told", occurred_at=now_ms()))
        await until(lambda: completed, "completed")
        office.kill()
        office.start()
        await office.send(hit("h-other", "account:other", occurred_at=now_ms()))
        await until(lambda: len(completed) > 1, "the next one completed")
    started, ended = LifecycleKind.EMERGENCY_STARTED, LifecycleKind.EMERGENCY_COMPLETED
    told = _told(heard)
    assert told[:2] == [(LifecycleKind.TRIGGER_EVALUATED, None, True), (started, None, None)]
    assert sorted(told[2:4]) == [(LifecycleKind.SERVICE_STOP_ATTEMPTED, service, True) for service in SERVICES]
    assert told[4:] == [(ended, None, True)]
    assert {one.correlation_id for one in heard} == {"corr-h-told"}
    assert {one.emergency_id for one in heard[1:]} == {emergency_id(hit_cause("h-told"))}
    assert all((one.duration_ms or 0) >= 0 for one in heard)

    async with LifecycleEvents(office.brokers, from_start=True) as again:
        found = []
        async for one in again.stream(scope="account:told"):
            found.append(one)
            if len(found) == len(heard):
                break
    assert found == heard


async def test_the_command_line_shows_what_happened_and_follows_what_happens(office: CoordinatorOffice) -> None:
    wanted = ("--event", "emergencyCompleted", "--scope", "account:cli")
    following = await _estop(office, "events", "--follow", "--json", *wanted)
    assert following.stdout is not None
    assert following.stderr is not None
    assert b"following" in await asyncio.wait_for(following.stderr.readline(), 60)
    await office.send(hit("h-cli", "account:cli", occurred_at=now_ms()))
    line = json.loads(await asyncio.wait_for(following.stdout.readline(), 60))
    assert (line["event"], line["scope"], line["success"]) == ("emergencyCompleted", "account:cli", True)
    following.terminate()
    assert await asyncio.wait_for(following.wait(), 60) == 0

    listing = await _estop(office, "events", "--scope", "account:cli", "--json", "--limit", "2")
    out, errors = await asyncio.wait_for(listing.communicate(), 60)
    assert listing.returncode == 0, errors
    assert [one["event"] for one in json.loads(out)][-1] == "emergencyCompleted"
    assert len(json.loads(out)) == 2


async def test_without_a_broker_it_says_what_is_missing() -> None:
    events = LifecycleEvents("127.0.0.1:9")
    with pytest.raises(EventsStartError, match="could not be read"):
        await events.start(within_ms=300)
