"""A coordinator that restarts after any input ends like one that never does."""

from __future__ import annotations

import contextlib

import pytest

from emergency_stop.coordinate.partition import Coordinator
from emergency_stop.coordinate.state import Effect, World
from emergency_stop.coordinate.tables import RefusedMessageError
from tests.simulation.coordination import Input, KeepingCoordinator
from tests.simulation.weather import POLICY, UNDOING_EVERY
from tests.simulation.world import Parts, SimulatedWorld

#: Inputs that are delivered again, beside the newest.
AGAIN = 3
#: Without recoveries: what they do depends on when, not only on what, so a repeated input may do it sooner.
SEEDS = [seed for seed in range(20_260_101, 20_260_120) if seed % UNDOING_EVERY]


def played(seed: int) -> tuple[list[tuple[Input, World]], list[str]]:
    """What the coordinators of a schedule read, in order, each with what they saw; and the scopes."""
    read: list[tuple[Input, World]] = []

    class Recording(KeepingCoordinator):
        def apply(self, message: Input, now_ms: int, world: World) -> list[Effect]:
            read.append((message, world))
            return super().apply(message, now_ms, world)

    world = SimulatedWorld(seed, Parts(Recording))
    assert world.run() == []
    return read, [*dict.fromkeys(world.scopes)]


def deliver(core: Coordinator, message: Input, at: int, where: World) -> None:
    with contextlib.suppress(RefusedMessageError):
        core.apply(message, at, where)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_restart_after_any_input_changes_nothing(seed: int) -> None:
    """From the records after any input, with the inputs before it delivered again, the end is the same."""
    read, scopes = played(seed)
    calm, shaken = (Coordinator(POLICY.max_concurrent_stops, POLICY.retention_ms) for _ in range(2))
    records: dict[bytes, bytes | None] = {}
    for number, (message, where) in enumerate(read):
        deliver(calm, message, number, where)
        for again, _ in read[max(0, number - AGAIN) : number + 1]:
            deliver(shaken, again, number, where)
        records |= dict(shaken.take_dirty())
        shaken = Coordinator(POLICY.max_concurrent_stops, POLICY.retention_ms)
        shaken.restore((key, value) for key, value in records.items() if value is not None)
    assert any(calm.state(scope).cases for scope in scopes)
    for scope in scopes:
        assert shaken.state(scope) == calm.state(scope)
