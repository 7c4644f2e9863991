"""A coordinator has asked the registry before its first stop, and a signal ends it while it waits."""

from __future__ import annotations

import asyncio

import pytest

from emergency_stop.apps.coordinator_telling import TOLD
from emergency_stop.apps.coordinator_topics import Layout, coordinator_schemas
from emergency_stop.apps.process import unless_stopped
from emergency_stop.config import Settings
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Command
from emergency_stop.domain.values import AckState
from emergency_stop.wire.codec import Codec
from tests.unit.apps.test_coordinator_core import SERVICES, Bench
from tests.unit.coordinate.scenario import ack, hit, request
from tests.unit.wire.falling_silent import FallingSilent

WITHIN_S = 10.0
LAYOUT = Layout(partitions=4, telemetry=4, questions=4, told=frozenset(TOLD))


async def test_from_a_hit_to_its_proof_and_a_refusal_nothing_is_asked_of_the_registry() -> None:
    bench, registry = Bench(partitions=1), FallingSilent()
    stop, refused = bench.value(hit()), bench.value(request("r1", scope="account-1"))
    written = bench.codec
    await coordinator_schemas(registry, Settings(services=SERVICES), LAYOUT).ready()
    registry.is_away = True
    asked = len(registry.asked)
    bench.codec = Codec(registry)
    bench.core = bench.make()
    sent = bench.hear(topics.HITS, stop)
    commands = bench.read(Command, sent, topics.COMMANDS_PREFIX)
    acks = [written.encode(ack(command, AckState.STOPPED), topics.ACKS) for command in commands]
    sent += bench.hear(topics.ACKS, *acks)
    sent += bench.hear(topics.REQUESTS, refused)
    assert {record.topic for record in sent} == {
        topics.HOLDS, topics.AUDIT, topics.EMERGENCIES, topics.NOTICES, topics.LIFECYCLE, "estop.commands.x",
        "estop.commands.y",
    }  # fmt: skip
    assert len(registry.asked) == asked


async def test_it_waits_for_every_topic_that_a_stop_writes_and_not_for_what_people_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("emergency_stop.adapters.schemas_ready.RETRY_MS", 1)
    needed = {topics.HOLDS, topics.AUDIT, topics.EMERGENCIES, topics.RECOVERIES, topics.LEASES, topics.HITS}
    needed |= {topics.QUESTIONS, *map(topics.commands_topic, SERVICES)}
    waited_for = set()
    for spec in topics.all_topics(SERVICES):
        registry = FallingSilent(unregistered=[spec.name])
        waiting = asyncio.create_task(coordinator_schemas(registry, Settings(services=SERVICES), LAYOUT).ready())
        async with asyncio.timeout(WITHIN_S):
            # asked again: it is waited for
            while not waiting.done() and registry.asked.count((spec.record or "", spec.name)) < 2:  # noqa: ASYNC110  # until then
                await asyncio.sleep(0.001)
        if not waiting.done():
            waited_for.add(spec.name)
        waiting.cancel()
        await asyncio.wait({waiting})
    assert waited_for == needed


async def test_a_signal_ends_the_wait() -> None:
    stop = asyncio.Event()
    schemas = coordinator_schemas(FallingSilent(is_away=True), Settings(), LAYOUT)
    serving = asyncio.create_task(unless_stopped(schemas.ready(), stop))
    await asyncio.sleep(0)
    assert not serving.done()
    stop.set()
    assert await asyncio.wait_for(serving, WITHIN_S) is False


async def test_work_that_ends_first_goes_on_and_one_that_fails_says_so() -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    async def fails() -> None:
        raise OSError("broken")

    assert await unless_stopped(work(), asyncio.Event()) is True
    with pytest.raises(OSError, match="broken"):
        await unless_stopped(fails(), asyncio.Event())
