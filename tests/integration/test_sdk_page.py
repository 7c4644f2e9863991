"""Every script of docs/sdk.md runs as it stands, and does what the page says."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from emergency_stop.domain.values import StopLevel
from emergency_stop.sdk import StopGuard
from emergency_stop.testing.brokers import EmbeddedBroker
from tests.integration.coordinator_office import SERVICES, CoordinatorOffice
from tests.integration.sdk_office import Office, until
from tests.platform_server import PlatformServer

pytestmark = pytest.mark.needs("broker")
PAGE = Path(__file__).parents[2] / "docs/sdk.md"
SCRIPTS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
ACCOUNT = "account:account-123"


@pytest.fixture
async def platform() -> AsyncIterator[PlatformServer]:
    async with PlatformServer() as serving:
        yield serving


def script_of(service: str) -> str:
    (found,) = (str(script) for script in SCRIPTS if f'"{service}"' in script or f"import {service}\n" in script)
    return found


async def run(script: str, broker: str, platform: PlatformServer) -> str:
    environment = {**os.environ, "BROKERS": broker, "PLATFORM": f"{platform.url}/status/200"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await asyncio.wait_for(process.communicate(), 150)
    assert process.returncode == 0, errors.decode()
    return out.decode()


def test_the_page_has_the_scripts_that_are_run_here() -> None:
    assert len(SCRIPTS) == 6


@pytest.mark.parametrize(
    ("service", "free", "held"),
    [
        ("behavioralEngine", "acted for account-123", "not now: a test"),
        ("sessionManager", "answered 200", "not sent: a test"),
    ],
)
async def test_a_script_acts_and_under_a_hold_it_does_not(
    broker: str, platform: PlatformServer, service: str, free: str, held: str
) -> None:
    async with Office(broker, service) as office:
        await office.hold(ACCOUNT, 1, level=None)
        assert (await run(script_of(service), broker, platform)).strip() == free
        await office.hold(ACCOUNT, 2, level=StopLevel.IMMEDIATE)
        asked = len(platform.requests)
        assert (await run(script_of(service), broker, platform)).strip() == held
        assert len(platform.requests) == asked
        await office.hold(ACCOUNT, 3, level=None)


async def test_the_link_s_script_announces_its_service_and_tells_of_the_alert(
    broker: str, platform: PlatformServer
) -> None:
    async with Office(broker, "accountHealthMonitor") as office:
        out = await run(script_of("accountHealthMonitor"), broker, platform)
        assert out.strip() == "{'healthAlert': 1}"
        await until(lambda: office.instances, "the service was announced")


@pytest.mark.parametrize(("percent", "admitted"), [(0, 0), (10, 10), (100, 100)])
async def test_the_script_of_recovery_is_admitted_its_share_and_announces_that_it_is_well(
    broker: str, platform: PlatformServer, percent: int, admitted: int
) -> None:
    async with Office(broker, "realtimeSync") as office:
        await office.hold(ACCOUNT, 4 + percent, percent=percent)
        out = await run(script_of("realtimeSync"), broker, platform)
        assert out.strip() == f"admitted {admitted} of 100"
        await until(lambda: office.instances, "the service was announced")
        assert all(instance.healthy for instance in office.instances.values())
        await office.hold(ACCOUNT, 5 + percent, level=None)


async def _obey(_correlation_id: str) -> bool:
    return True


async def test_the_system_s_script_stops_and_the_events_script_hears_it(
    platform: PlatformServer, tmp_path: Path
) -> None:
    """On a broker of their own: a stop of the account would be in the way of the other scripts."""
    with EmbeddedBroker(tmp_path) as embedded:
        async with CoordinatorOffice(embedded.bootstrap, tmp_path) as office, AsyncExitStack() as stack:
            for service in SERVICES:
                guard = StopGuard(service, embedded.bootstrap, on_stop=_obey, without_lease="ignore")
                await stack.enter_async_context(guard)
            office.start()
            out = await run(script_of("EmergencyStopSystem"), embedded.bootstrap, platform)
            assert out.splitlines() == [
                "success: True {'alpha': 'stopped', 'beta': 'stopped'}", "active: True", "stops: 1",
            ]  # fmt: skip
            told = (await run(script_of("LifecycleEvents"), embedded.bootstrap, platform)).splitlines()
    assert sorted(line.partition(" in ")[0] for line in told) == ["completed: SUCCESS", "started: suspicious activity"]
