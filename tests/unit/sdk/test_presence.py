"""Heartbeats go on, whatever is wrong with one of them; and what could never be announced is refused at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from emergency_stop.domain import topics
from emergency_stop.domain.messages import ServiceInstance
from emergency_stop.domain.values import DEPENDS_ON_MAX
from emergency_stop.sdk import StopGuard, Stopped
from emergency_stop.sdk.background import watched
from emergency_stop.sdk.guard import GuardStartError
from emergency_stop.sdk.presence import Instance
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.registry_http import RegistryError
from tests.unit.wire.falling_silent import FallingSilent

WITHIN_S = 10.0
NOBODY = "127.0.0.1:9"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110  # whatever a test waits for
            await asyncio.sleep(0.005)


class Beating:
    """A guard that is open and heartbeats without a broker: what it would publish is kept."""

    def __init__(self, health: Callable[[], Any]) -> None:
        self.guard = StopGuard("sessionManager", NOBODY, health=health, without_lease="ignore")
        self.guard._gate.loop = asyncio.get_running_loop()
        self.guard._gate.open()
        self.guard._publisher.publish = self._publish  # type: ignore[assignment,method-assign]  # no broker to send to
        self.errors: list[Exception] = []
        self.heard: list[ServiceInstance] = []
        self.task = watched(self.guard._presence.beat(), "the heartbeat", self.guard._fail)

    async def _publish(self, topic: str, key: bytes, value: bytes) -> None:
        assert topic == topics.SERVICES
        if self.errors:
            raise self.errors.pop(0)
        self.heard.append(Codec(LocalRegistry()).decode(ServiceInstance, value))

    async def beats(self) -> None:
        before = len(self.heard) + len(self.errors)
        self.guard._presence.beat_now.set()
        await until(lambda: self.task.done() or len(self.heard) + len(self.errors) != before)


async def test_a_heartbeat_that_fails_in_whatever_way_is_followed_by_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    beating = Beating(lambda: "")
    beating.errors += [RuntimeError("a bug"), RegistryError("no answer")]
    for _ in range(3):
        await beating.beats()
    assert len(beating.heard) == 1
    assert caplog.text.count("heartbeat failed") == 2
    assert not beating.task.done()
    beating.task.cancel()


async def test_a_problem_that_utf_8_cannot_carry_is_announced() -> None:
    beating = Beating(lambda: "no file \udcff")
    await beating.beats()
    assert [(one.healthy, one.problem) for one in beating.heard] == [(False, "no file \\udcff")]
    beating.task.cancel()


async def test_where_heartbeats_have_ended_nothing_is_permitted_any_more() -> None:
    beating = Beating(lambda: "")

    async def ask() -> str:
        raise asyncio.CancelledError

    with beating.guard.permit("a"):
        pass
    beating.guard._health.ask = ask  # type: ignore[method-assign]  # a bug that nobody has found yet
    beating.guard._heartbeat = beating.task
    await beating.beats()
    await until(lambda: beating.guard._failed)
    with pytest.raises(Stopped, match="the heartbeat ended unexpectedly"), beating.guard.permit("a"):
        pass
    assert "restart the service" in beating.guard.not_ready_because()


async def test_a_guard_says_that_it_waits_for_the_registry() -> None:
    guard = StopGuard("sessionManager", NOBODY, registry=FallingSilent(is_away=True))
    with pytest.raises(GuardStartError, match=r"the schema of estop\.services: the registry does not answer"):
        await guard.start(within_ms=200)
    assert guard.stopped_by("a") is not None


async def test_a_guard_asks_the_registry_for_all_that_it_writes_and_reads_before_its_first_connection() -> None:
    registry = FallingSilent()
    guard = StopGuard("sessionManager", NOBODY, registry=registry)
    await guard._schemas.ready()
    asked = {one[1] for one in registry.asked if len(one) == 2}
    assert asked == {topics.SERVICES, topics.ACKS, topics.HOLDS, topics.LEASES, "estop.commands.sessionManager"}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"version": "x" * 257}, "version='x.*' cannot be announced; allowed: at most 256 characters that UTF-8"),
        ({"version": "\udcff"}, "version="),
        ({"instance_id": "x" * 257}, "instance_id="),
        ({"service": "x" * 235}, "service=.* at most 234 characters"),
        ({"depends_on": ("y", "x" * 235)}, "depends_on="),
        ({"depends_on": ("y",) * (DEPENDS_ON_MAX + 1)}, "depends_on has 257 services; allowed: at most 256"),
    ],
)
def test_what_cannot_be_announced_is_refused_with_what_is_allowed(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Instance(**{"service": "x", "instance_id": "1", **fields})


def test_what_is_as_long_as_may_be_is_taken() -> None:
    one = Instance("x" * 234, "1" * 256, ("y",) * DEPENDS_ON_MAX, "v" * 256)
    assert len(one.key) == 491
