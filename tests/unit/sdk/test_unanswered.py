"""A hold that nobody can read yet, because the registry is away, is no lost stop, and no open gate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Ack, Command, Hold
from emergency_stop.domain.values import Action
from emergency_stop.sdk import StopGuard
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry, SchemaUnansweredError
from tests.unit.sdk.scenario import SERVICE, command, held, running
from tests.unit.wire.unanswering import Unanswering, newly_written

CODEC = Codec(LocalRegistry())
WITHIN_S = 10.0


class Guarded:
    """A guard that was never started, fed by hand; answers go nowhere."""

    def __init__(self, record: str = "Hold") -> None:
        self.registry = Unanswering(record)
        self.guard = StopGuard(SERVICE, "127.0.0.1:9", registry=self.registry)
        self.guard._gate.open()
        self.guard._outgoing.deliver = self._deliver  # type: ignore[method-assign]  # no broker to send to

    async def _deliver(self, ack: Ack) -> None:
        """Nobody listens."""

    def reads(self, hold: Hold, *, unanswered: bool = False) -> None:
        value = CODEC.encode(hold, topics.HOLDS)
        value = newly_written(value) if unanswered else value
        self.guard._incoming.on_hold(TailRecord(hold.scope.encode(), value, 0, 0, 0))

    def hears(self, ordered: Command, *, unanswered: bool = False) -> None:
        value = CODEC.encode(ordered, topics.commands_topic(SERVICE))
        value = newly_written(value) if unanswered else value
        self.guard._incoming.on_command(TailRecord(ordered.scope.encode(), value, 0, 0, 0))

    def is_shut(self, account_id: str = "a") -> bool:
        return self.guard.stopped_by(account_id) is not None

    @property
    def waiting(self) -> int:
        return len(self.guard._incoming.unanswered)

    async def all_read(self) -> None:
        """The registry is back; wait until whatever waited was read."""
        self.registry.answers = True
        trying = self.guard._incoming.unanswered.trying
        assert trying is not None
        await asyncio.wait_for(trying, WITHIN_S)


@pytest.fixture
async def guarded(monkeypatch: pytest.MonkeyPatch) -> Guarded:
    monkeypatch.setattr("emergency_stop.sdk.unanswered.RETRY_MS", 1)
    return Guarded()


async def test_it_holds_until_the_registry_is_back_and_is_taken_over_then(guarded: Guarded) -> None:
    guarded.reads(running(epoch=3), unanswered=True)
    assert guarded.is_shut(), "it may be a stop"
    await until(lambda: guarded.registry.asked > 3)
    assert (guarded.is_shut(), guarded.waiting) == (True, 1)
    await guarded.all_read()
    assert (guarded.is_shut(), guarded.waiting) == (False, 0)


async def test_a_stop_is_not_lost_by_it(guarded: Guarded) -> None:
    guarded.reads(held(epoch=3), unanswered=True)
    await guarded.all_read()
    shut = guarded.guard.stopped_by("a")
    assert shut is not None
    assert (shut.epoch, shut.reason) == (3, "held at 3"), "the hold itself, not the doubt"


async def test_no_stop_of_another_scope_waits_for_it(guarded: Guarded) -> None:
    guarded.reads(running(), unanswered=True)
    guarded.reads(held("account:b"))
    assert (guarded.is_shut("a"), guarded.is_shut("b"), guarded.is_shut("c")) == (True, True, False)


async def test_a_newer_hold_of_its_scope_decides_without_it(guarded: Guarded) -> None:
    guarded.reads(running(epoch=2), unanswered=True)
    guarded.reads(held(epoch=3))
    assert guarded.waiting == 0
    await guarded.all_read()
    shut = guarded.guard.stopped_by("a")
    assert shut is not None
    assert shut.epoch == 3


async def test_no_resume_opens_what_may_be_held(guarded: Guarded) -> None:
    guarded.reads(held(epoch=5), unanswered=True)
    guarded.hears(command(Action.RESUME, epoch=4))
    assert guarded.is_shut()
    await guarded.all_read()
    assert guarded.is_shut()


async def test_a_command_that_nobody_can_read_yet_is_asked_for_again_by_its_tail() -> None:
    guarded = Guarded("Command")
    with pytest.raises(SchemaUnansweredError):
        guarded.hears(command(), unanswered=True)
    stats = guarded.guard.stats
    assert (stats.commands, stats.unreadable) == (0, 0), "it was not taken"
    guarded.registry.answers = True
    guarded.hears(command(), unanswered=True)
    assert (guarded.guard.stats.commands, guarded.is_shut()) == (1, True)


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not is_true():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.001)
