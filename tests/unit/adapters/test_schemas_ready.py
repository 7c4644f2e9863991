"""Whoever stops has asked the registry for all that it needs before it begins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from emergency_stop.adapters.schemas_ready import SchemasReady
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Hold
from emergency_stop.domain.values import HoldState
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.registry_http import RegistryError
from tests.unit.wire.falling_silent import FallingSilent

WITHIN_S = 10.0
RUNNING = Hold("global", 1, HoldState.RUNNING, None, (), "resumed", 0)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("emergency_stop.adapters.schemas_ready.RETRY_MS", 5)
    # the command line wants less of it, and shares the process
    caplog.set_level(logging.INFO, logger="emergency_stop.adapters.schemas_ready")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110  # whatever a test waits for
            await asyncio.sleep(0.005)


async def test_it_waits_until_the_registry_answers_and_says_once_for_what(caplog: pytest.LogCaptureFixture) -> None:
    registry = FallingSilent(is_away=True)
    schemas = SchemasReady(registry, [topics.HOLDS_SPEC])
    waiting = asyncio.create_task(schemas.ready())
    await until(lambda: len(registry.asked) > 2)
    assert not waiting.done()
    assert schemas.waits_for == "the schema of estop.holds: the registry does not answer"
    registry.is_away = False
    await asyncio.wait_for(waiting, WITHIN_S)
    assert schemas.waits_for == ""
    assert caplog.text.count("waiting for the schema of estop.holds") == 1


async def test_from_then_on_nothing_is_asked() -> None:
    registry = FallingSilent()
    await SchemasReady(registry, [topics.HOLDS_SPEC]).ready()
    registry.is_away = True
    codec = Codec(registry)
    assert codec.decode(Hold, codec.encode(RUNNING, topics.HOLDS)) == RUNNING
    with pytest.raises(RegistryError):
        codec.encode(RUNNING, "another.topic")


async def test_what_is_written_must_be_registered() -> None:
    registry = FallingSilent(unregistered=[topics.ACKS])
    schemas = SchemasReady(registry, [topics.ACKS_SPEC])
    waiting = asyncio.create_task(schemas.ready())
    await until(lambda: "register the committed schemas first" in schemas.waits_for)
    registry.unregistered.clear()
    await asyncio.wait_for(waiting, WITHIN_S)


async def test_what_is_only_read_need_not_be(caplog: pytest.LogCaptureFixture) -> None:
    registry = FallingSilent(unregistered=[topics.LEASES])
    schemas = SchemasReady(registry, [], [topics.LEASES_SPEC, topics.HOLDS_SPEC])
    await asyncio.wait_for(schemas.ready(), WITHIN_S)
    assert "the schema of estop.leases is asked for when it is needed" in caplog.text
    assert ("Hold", topics.HOLDS) in registry.asked


async def test_whoever_is_told_to_end_does() -> None:
    waiting = asyncio.create_task(SchemasReady(FallingSilent(is_away=True), [topics.HOLDS_SPEC]).ready())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting}, timeout=WITHIN_S)
    assert waiting.cancelled()


async def test_topics_without_a_record_of_ours_and_committed_schemas_ask_nobody() -> None:
    registry = FallingSilent(is_away=True)
    await SchemasReady(registry, [topics.TopicSpec(topics.DEAD_LETTER, None)]).ready()
    assert registry.asked == []
    await SchemasReady(LocalRegistry(), topics.CONTROL).ready()
