"""Requests while no coordinator runs: they are in the log, so nobody may be told that they were refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.config import Settings
from emergency_stop.control.cli.main import main
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_NOT_PROVEN, EXIT_REFUSED
from emergency_stop.coordinate.holds import hold_of
from emergency_stop.coordinate.lifecycle import to_wire_emergency
from emergency_stop.domain.messages import Emergency, Hold
from emergency_stop.domain.topics import EMERGENCIES, HOLDS
from emergency_stop.domain.values import EmergencyState
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.unit.coordinate.scenario import SCOPE, hit, opened

pytestmark = pytest.mark.needs("broker")
STATE = opened(hit())
HELD = hold_of(STATE, "", 0)
STOPPED = replace(to_wire_emergency(STATE.cases[0]), state=EmergencyState.STOPPED)
PLANNED = replace(STOPPED, emergency_id="planned", scope="account:b", state=EmergencyState.SCHEDULED)
MAY_STILL = "no coordinator has answered; the request is in the log and may still be carried out"


@pytest.fixture
def _abandoned(broker: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a coordinator wrote before it went: a stop that is in force, and one that is planned."""
    settings, codec = Settings(brokers=broker), Codec(LocalRegistry())

    async def write() -> None:
        await ensure_topics(broker, settings.topics())
        publisher = KafkaPublisher(broker, client_id="test")
        await publisher.start()
        records: tuple[tuple[str, str, Hold | Emergency], ...] = (
            (HOLDS, HELD.scope, HELD),
            (EMERGENCIES, STOPPED.emergency_id, STOPPED),
            (EMERGENCIES, PLANNED.emergency_id, PLANNED),
        )
        for topic, key, record in records:
            await publisher.publish(topic, key.encode(), codec.encode(record, topic))
        await publisher.stop()

    asyncio.run(write())
    monkeypatch.setenv("ESTOP_BROKERS", broker)
    monkeypatch.setenv("ESTOP_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("emergency_stop.control.cli.recover._BEGUN_WITHIN_S", 1.0)


@pytest.mark.usefixtures("_abandoned")
@pytest.mark.parametrize(
    "command",
    [
        ("resume", SCOPE, "--timeout", "1"),
        ("resume", PLANNED.scope, "--emergency", PLANNED.emergency_id, "--timeout", "1"),
        ("reset", SCOPE, "--timeout", "1"),
        ("recover", SCOPE),
    ],
    ids=["resume", "call off", "reset", "recover"],
)
def test_what_may_still_be_carried_out_is_not_called_refused(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--reason", "x"]) == EXIT_NOT_PROVEN
    told = capsys.readouterr()
    assert MAY_STILL in told.out + told.err


@pytest.mark.usefixtures("_abandoned")
@pytest.mark.parametrize(
    ("target", "code", "said"),
    [
        ("no-such-emergency", EXIT_BAD_INPUT, "'no-such-emergency' is no scope and no emergency"),
        ("account:nobody", EXIT_REFUSED, "nothing holds account:nobody"),
    ],
)
def test_a_wrong_name_is_no_refusal(target: str, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recover", target, "--reason", "x"]) == code
    assert said in capsys.readouterr().err
