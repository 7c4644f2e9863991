"""Reference services as processes of their own: killed, restarted under a hold, and ended in good order."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.config import Settings
from emergency_stop.domain.topics import ACTIVITY
from emergency_stop.domain.values import AckState, Action, InstanceState, StopLevel
from emergency_stop.integrations.run import SERVICES, account_names
from emergency_stop.testing.brokers import ApacheKafka
from tests.integration.sdk_office import Office, until

ACCOUNTS = 20
RUN = "import sys; from emergency_stop.config import Settings; from emergency_stop.integrations.run import run_service"
RUN += "; import logging; logging.basicConfig(level=logging.INFO)"
RUN += f"; sys.exit(run_service(Settings.from_env(), sys.argv[1], {ACCOUNTS}, 200.0))"


class Process:
    """One instance; ``name`` is its instance id. Its log is kept for a failed test."""

    def __init__(self, service: str, name: str, brokers: str, folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        settings = Settings(brokers=brokers, instance_id=name, health_monitoring_interval_ms=200)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ESTOP_")}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", RUN, service], env=environment | settings.as_env(), stdout=log, stderr=log
            )

    def end(self, how: signal.Signals) -> int:
        self._process.send_signal(how)
        return self._process.wait(60)


@pytest.fixture
async def office(broker: str) -> AsyncIterator[Office]:
    async with Office(broker, "sessionManager") as opened:
        yield opened


def test_there_is_a_reference_service_for_each_of_the_guide() -> None:
    assert tuple(sorted(SERVICES)) == tuple(sorted(Settings().services))


@pytest.mark.needs("broker")
async def test_killed_and_restarted_under_a_hold_it_does_nothing_for_the_held_account(
    office: Office, tmp_path: Path
) -> None:
    """Commands of the stop are long gone when the second instance starts: the hold alone must keep it quiet.

    hold      ───────held───────────────────────────running──
    first     [====]  kill -9
    second                   [others act, held one not][all]
    """
    held, *others = account_names(ACCOUNTS)
    first = Process(office.service, "first", office.brokers, tmp_path)
    try:
        await until(lambda: office.acts(held, "first"), "the first instance acts")
        await office.hold(f"account:{held}", 1, level=StopLevel.IMMEDIATE)
        await office.answered(await office.command(f"account:{held}", 1), AckState.STOPPED)
    finally:
        first.end(signal.SIGKILL)
    second = Process(office.service, "second", office.brokers, tmp_path)
    try:
        await until(lambda: all(len(office.acts(other, "second")) > 2 for other in others), "all others act again")
        assert office.acts(held, "second") == []
        await office.hold(f"account:{held}", 2, level=None)
        resumed = await office.command(f"account:{held}", 2, Action.RESUME)
        await until(lambda: AckState.RESUMED in office.answers(resumed, "second"), "resumed")
        await until(lambda: office.acts(held, "second"), "it acts for the account again")
    finally:
        assert second.end(signal.SIGTERM) == 0
    await until(lambda: office.state_of("second") is InstanceState.LEFT, "LEFT announced")
    assert office.state_of("first") is InstanceState.UP, "who is killed cannot say goodbye"


@pytest.mark.needs("java", "maven")
async def test_a_broker_that_is_killed_and_comes_back_neither_loses_nor_delays_a_stop(tmp_path: Path) -> None:
    with ApacheKafka(tmp_path, heap_mb=256, short_lived=True) as kafka:
        async with Office(kafka.bootstrap, "behavioralEngine") as office:
            service = Process(office.service, "one", kafka.bootstrap, tmp_path)
            try:
                await until(lambda: len(office.acts()) > 20, "it acts")
                kafka.kill()
                kafka.start()
                seen = len(office.acts())
                await until(lambda: len(office.acts()) > seen + 20, "it acts again")
                await office.hold("global", 1, level=StopLevel.IMMEDIATE)
                proof = await office.answered(await office.command("global", 1), AckState.STOPPED)
            finally:
                service.end(signal.SIGTERM)
            await until(lambda: office.state_of("one") is InstanceState.LEFT, "LEFT announced")
            assert max(act.performed_at for act in office.acts()) <= proof.acked_at
            numbers = [act.sequence for act in office.acts()]
            assert len(numbers) == len(set(numbers)), "a retried record must not appear twice"


@pytest.mark.needs("java", "maven")
async def test_who_is_told_to_end_ends_without_a_broker_too(tmp_path: Path) -> None:
    """A producer that numbers its records tries for ever: so would a process that waited for it."""
    with ApacheKafka(tmp_path, heap_mb=256, short_lived=True) as kafka:
        publisher = KafkaPublisher(kafka.bootstrap, client_id="test")
        await publisher.start()
        async with Office(kafka.bootstrap, "behavioralEngine") as office:
            service = Process(office.service, "one", kafka.bootstrap, tmp_path)
            await until(lambda: len(office.acts()) > 20, "it acts")
            kafka.kill()
            publishing = asyncio.ensure_future(publisher.publish(ACTIVITY, b"k", b"v"))
            assert await asyncio.to_thread(service.end, signal.SIGTERM) == 1, "it could not say goodbye"
            await publisher.stop()
            with pytest.raises(KafkaConnectionError, match="stopped before a broker took the record"):
                await publishing
