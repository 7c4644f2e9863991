"""What goes out of a guard: every stop gets its answer, whatever the service's handler and the registry do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from emergency_stop.domain import topics
from emergency_stop.domain.messages import Ack, Command
from emergency_stop.domain.texts import TEXT_LENGTH_MAX
from emergency_stop.domain.values import AckState
from emergency_stop.sdk.handlers import Handlers, StopHandler
from emergency_stop.sdk.outgoing import Outgoing
from emergency_stop.sdk.permit import PermitGate
from emergency_stop.sdk.stops import Stops
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry, Registry
from tests.unit.sdk.scenario import SERVICE, command
from tests.unit.wire.falling_silent import FallingSilent

WITHIN_S = 10.0
READ = Codec(LocalRegistry())


class Sent:
    """An ``Outgoing`` without a broker: what it would publish is kept."""

    def __init__(self, on_stop: StopHandler | None = None, registry: Registry | None = None) -> None:
        gate = PermitGate(SERVICE, lambda: 0)
        gate.open()
        self.stops = Stops(gate, "i1", 60_000, lambda: None)
        self.acks: list[Ack] = []
        self.failures: list[str] = []
        #: Raised by the next ``publish``, one each.
        self.errors: list[Exception] = []
        publisher: Any = self  # as much of one as it needs
        codec = Codec(registry or LocalRegistry())
        failed = self.failures.append
        self.outgoing = Outgoing(SERVICE, self.stops, Handlers(on_stop), publisher, codec, lambda: 0, failed)

    async def publish(self, topic: str, key: bytes, value: bytes) -> None:
        assert (topic, key) == (topics.ACKS, b"account:a")
        if self.errors:
            raise self.errors.pop(0)
        self.acks.append(READ.decode(Ack, value))

    def hears(self, ordered: Command) -> None:
        self.outgoing.perform(self.stops.on_command(ordered, trusted=True, note="", now_ms=0))

    @property
    def states(self) -> list[AckState]:
        return [ack.state for ack in self.acks]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emergency_stop.sdk.outgoing.RETRY_MS", 5)


@pytest.fixture
async def sents() -> AsyncIterator[list[Sent]]:
    made: list[Sent] = []
    yield made
    for sent in made:
        sent.outgoing.cancel()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110  # whatever a test waits for
            await asyncio.sleep(0.005)


async def cancels_its_own_worker(_: str) -> bool:
    worker = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    worker.cancel()
    return await worker


async def test_a_stop_whose_handler_raises_a_cancellation_of_its_own_is_answered(sents: list[Sent]) -> None:
    sent = Sent(cancels_its_own_worker)
    sents.append(sent)
    sent.hears(command())
    await until(lambda: AckState.FAILED in sent.states)
    assert sent.states == [AckState.RECEIVED, AckState.STOPPING, AckState.FAILED]
    assert sent.acks[-1].reason == "the service's stop handler raised CancelledError"
    assert sent.stops.active == 0
    assert sent.failures == []


async def test_answers_wait_for_a_registry_that_is_away(sents: list[Sent]) -> None:
    registry = FallingSilent(is_away=True)
    sent = Sent(lambda _: True, registry)
    sents.append(sent)
    sent.hears(command())
    await until(lambda: len(registry.asked) > 5)
    assert sent.acks == []
    registry.is_away = False
    await until(lambda: AckState.STOPPED in sent.states)
    assert set(sent.states) == {AckState.RECEIVED, AckState.STOPPING, AckState.STOPPED}
    assert sent.failures == []


async def test_what_the_handler_raises_reaches_the_coordinator_though_utf_8_cannot_carry_it(
    sents: list[Sent], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # a report of this test must be sent as well

    def raises(_: str) -> bool:
        raise OSError("no file \udcff" + "!" * 10_000)

    sent = Sent(raises)
    sents.append(sent)
    sent.hears(command())
    await until(lambda: AckState.FAILED in sent.states)
    assert "no file \\udcff!!!" in sent.acks[-1].reason
    assert len(sent.acks[-1].reason) == TEXT_LENGTH_MAX


async def test_an_answer_that_cannot_be_sent_is_logged_and_ends_nothing_else(
    sents: list[Sent], caplog: pytest.LogCaptureFixture
) -> None:
    sent = Sent(lambda _: True)
    sents.append(sent)
    sent.errors.append(RuntimeError("a bug"))
    sent.hears(command())
    await until(lambda: AckState.STOPPED in sent.states)
    assert len(sent.states) == 2
    assert "cannot be sent; to its coordinator the instance stays silent" in caplog.text
    assert sent.failures == []
