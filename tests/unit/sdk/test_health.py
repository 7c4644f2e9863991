"""What a service says of itself: asked within a limit, announced with every heartbeat, and at once for a probe."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from emergency_stop.domain import topics
from emergency_stop.domain.messages import ServiceInstance
from emergency_stop.domain.texts import fit
from emergency_stop.domain.values import Action, InstanceState
from emergency_stop.sdk import StopGuard, Stopped
from emergency_stop.sdk.health import PROBLEM_LENGTH_MAX, Health
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.unit.sdk.scenario import command, held


async def well() -> str:
    return ""


async def hangs() -> str:
    await asyncio.Event().wait()
    return ""


def raises() -> str:
    raise ConnectionError("no database")


async def gives_up() -> str:
    raise TimeoutError("its own time-out")


async def cancels_its_own_worker() -> str:
    worker = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    worker.cancel()
    await worker
    return ""


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        (None, ""),
        (well, ""),
        (lambda: "the queue is full", "the queue is full"),
        (raises, "the health check raised ConnectionError: no database"),
        (gives_up, "the health check raised TimeoutError: its own time-out"),
        (cancels_its_own_worker, "the health check raised CancelledError"),
        (hangs, "the health check has not answered within 20 ms"),
        (
            lambda: None,
            "the health check returned None; it must return a text, empty where nothing ails the service",
        ),
        (lambda: "x" * 10_000, fit("x" * 10_000, PROBLEM_LENGTH_MAX)),
        (lambda: "no file \udcff", "no file \\udcff"),
    ],
)
async def test_whatever_is_no_answer_is_a_problem(check: Callable[[], Any] | None, problem: str) -> None:
    health = Health(check, limit_ms=20)
    assert await health.ask() == problem
    assert health.problem == problem


class Announced:
    """A guard without a broker: what it would publish is kept."""

    def __init__(self, health: Callable[[], str] | None = None) -> None:
        self.guard = StopGuard("sessionManager", "127.0.0.1:9", health=health)
        self.guard._gate.loop = asyncio.get_running_loop()
        self.guard._gate.open()
        self.guard._publisher.publish = self._keep  # type: ignore[assignment,method-assign]  # no broker to send to
        self.instances: list[ServiceInstance] = []
        self._codec = Codec(LocalRegistry())

    async def _keep(self, topic: str, key: bytes, value: bytes) -> None:
        if topic == topics.SERVICES:
            self.instances.append(self._codec.decode(ServiceInstance, value))


async def test_a_probe_announces_at_once_what_has_changed_and_only_that() -> None:
    problems = iter(["", "hot", "hot", ""])
    announced = Announced(lambda: next(problems))
    probe = command(Action.PROBE, share_percent=10)
    for _ in range(4):
        await announced.guard._outgoing.handle(probe)
    assert [(told.healthy, told.problem) for told in announced.instances] == [(False, "hot"), (True, "")]


async def test_actions_are_counted_and_announced_and_failures_are_the_works_own() -> None:
    """A stop and a cancellation are nobody's failure."""
    announced = Announced()
    guard = announced.guard

    async def act(error: BaseException | None) -> None:
        async with guard.permit("a"):
            if error is not None:
                raise error

    outcomes: list[BaseException | None] = [None, None, OSError("broken"), asyncio.CancelledError(), ValueError("bad")]
    for error in outcomes:
        task = asyncio.create_task(act(error))
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is error
    guard._gate.apply_hold(held("account:b"), trusted=True)
    with pytest.raises(Stopped), guard.permit("a"), guard.permit("b"):
        pass
    open_permit = guard.open_permit("a", lambda: True)
    open_permit.begin()
    open_permit.end(ConnectionError("reset"))
    await guard._presence.announce(InstanceState.UP)
    told = announced.instances[-1]
    assert (told.actions, told.failed_actions) == (7, 3)
    assert (guard.stats.permitted, guard.stats.failed_actions) == (7, 3)
