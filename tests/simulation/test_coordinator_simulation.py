"""What must hold in every run, whatever is repeated, reordered, lost by services, or cut off by a crash.

A failing run prints its seed; ``Simulation(seed, …).run(…)`` repeats it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from emergency_stop.coordinate.partition import Coordinator
from emergency_stop.coordinate.state import World
from emergency_stop.coordinate.tables import RefusedMessageError
from emergency_stop.domain.ids import emergency_id, hit_cause, request_cause
from emergency_stop.domain.messages import Hit, Hold, Request
from emergency_stop.domain.values import LEVEL_SEVERITY, Action, EmergencyState, HoldState
from tests.simulation.coordinator_world import RETENTION_MS, SCOPES, Input, Simulation

STEPS = 150
RUNS = [(seed, crash_share) for seed in range(12) for crash_share in (0.0, 0.2)]


@pytest.fixture(params=RUNS, ids=lambda run: f"seed {run[0]}, crashes {run[1]}")
def finished(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    seed, crash_share = request.param
    simulation = Simulation(seed, crash_share=crash_share)
    simulation.run(STEPS)
    return iter([simulation])


def _content(hold: Hold) -> tuple[object, ...]:
    return hold.state, hold.level, hold.causes


def test_every_run_keeps_the_promises(finished: Iterator[Simulation]) -> None:
    run = next(finished)
    _no_stop_is_lost(run)
    _every_scope_is_as_its_newest_hold_says(run)
    for scope in SCOPES:
        _holds_of_a_scope_are_in_order(run, scope)
    _every_stop_ended(run)


def _no_stop_is_lost(run: Simulation) -> None:
    """Every cause has its emergency, or joined one that stopped as much; every emergency was held."""
    held = {cause.emergency_id for hold in run.published.holds for cause in hold.causes}
    assert set(run.published.emergencies) <= held
    for message in run.log:
        if isinstance(message, Hit) and emergency_id(hit_cause(message.hit_id)) not in held:
            triggers = {e.trigger_id for e in run.published.emergencies.values() if e.scope == message.scope}
            assert message.trigger_id in triggers
        elif isinstance(message, Request) and message.action is Action.STOP:
            assert emergency_id(request_cause(message.request_id)) in held


def _every_scope_is_as_its_newest_hold_says(run: Simulation) -> None:
    for scope in SCOPES:
        state, hold = run.core.state(scope), run.published.newest_hold(scope)
        assert (hold.state if hold else HoldState.RUNNING) is (HoldState.HELD if state.in_force else HoldState.RUNNING)
        assert {c.emergency_id for c in hold.causes} == {c.emergency_id for c in state.in_force} if hold else True


def _holds_of_a_scope_are_in_order(run: Simulation, scope: str) -> None:
    """Epochs grow; one that is published again after a crash is the same; none is milder than its causes."""
    seen: dict[int, Hold] = {}
    for hold in run.published.holds:
        if hold.scope != scope:
            continue
        assert hold.epoch > max(seen, default=0) or _content(seen[hold.epoch]) == _content(hold)
        seen[hold.epoch] = hold
        severities = [LEVEL_SEVERITY[cause.level] for cause in hold.causes]
        assert (LEVEL_SEVERITY[hold.level] if hold.level else 0) == max(severities, default=0)
        assert (hold.state is HoldState.HELD) == bool(hold.causes)


def _every_stop_ended(run: Simulation) -> None:
    """With the services alive and time enough, nothing is left waiting."""
    assert run.core.queue_length == 0
    open_states = {e.state for e in run.published.emergencies.values()}
    assert open_states <= {EmergencyState.STOPPED, EmergencyState.PARTIAL, EmergencyState.RESOLVED}
    for emergency in run.published.emergencies.values():
        if emergency.state is EmergencyState.PARTIAL:
            assert all(i.reason for i in emergency.instances if i.state != "stopped")


@pytest.mark.parametrize("seed", range(6))
def test_a_restart_after_any_input_changes_nothing(seed: int) -> None:
    """From the records after any input, with the inputs before it delivered again, the end is the same."""
    run = Simulation(seed, crash_share=0.0)
    run.run(60)
    calm, shaken = Coordinator(2, RETENTION_MS), Coordinator(2, RETENTION_MS)
    records: dict[bytes, bytes | None] = {}
    for number, message in enumerate(run.log):
        deliver(calm, message, number, run.world())
        for again in run.log[max(0, number - 3) : number + 1]:
            deliver(shaken, again, number, run.world())
        records |= dict(shaken.take_dirty())
        shaken = Coordinator(2, RETENTION_MS)
        shaken.restore((key, value) for key, value in records.items() if value is not None)
    for scope in SCOPES:
        assert shaken.state(scope) == calm.state(scope)


def deliver(core: Coordinator, message: Input, at: int, where: World) -> None:
    with contextlib.suppress(RefusedMessageError):
        core.apply(message, at, where)
