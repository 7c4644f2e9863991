"""A drill proves the whole path, is never in force, and disturbs nothing that is."""

from __future__ import annotations

from typing import Any

import pytest

from emergency_stop.coordinate.lifecycle import Tick
from emergency_stop.coordinate.partition import Coordinator
from emergency_stop.coordinate.snapshot import read_scope, scope_key, scope_record
from emergency_stop.coordinate.state import ScopeState, World
from emergency_stop.coordinate.step import step
from emergency_stop.domain.messages import Command, Request
from emergency_stop.domain.values import AckState, Action, EmergencyState, StopLevel
from tests.unit.coordinate.scenario import (
    SCOPE,
    ack,
    after,
    audits,
    command_to,
    commands,
    emergencies,
    hit,
    holds,
    instance,
    opened,
    request,
    resume,
    world,
)

D, F = AckState.STOPPED, AckState.FAILED


def drill(request_id: str = "d1", level: StopLevel = StopLevel.GRACEFUL, **changes: Any) -> Request:
    return request(request_id, Action.DRILL, level=level, **changes)


def command_to_drill(state: ScopeState, service: str) -> Command:
    return command_to(state.cases[-1], service)


def alive(at: int) -> World:
    return world(instance("x", heartbeat_at=at), instance("y", heartbeat_at=at))


def drilled(message: Request | None = None) -> ScopeState:
    return after(ScopeState(SCOPE), [message or drill()], at=0)


def test_it_commands_every_target_and_holds_nothing() -> None:
    state, effects = step(ScopeState(SCOPE), drill(), 5, world())
    assert holds(effects) == []
    assert [(c.service, c.action, c.level, c.epoch, c.deadline_at) for c in commands(effects)] == [
        ("x", Action.DRILL, StopLevel.GRACEFUL, 0, 60_005),
        ("y", Action.DRILL, StopLevel.GRACEFUL, 0, 60_005),
    ]
    (emergency,) = emergencies(effects)
    assert (emergency.drill, emergency.state) == (True, EmergencyState.STOPPING)
    assert audits(effects) == ["drill_opened"]
    assert (state.in_force, state.epoch, state.stop_epoch) == ((), 0, 0)
    assert step(state, drill(), 6, world()) == (state, [])


def test_answered_by_all_it_is_a_success_and_over() -> None:
    """Work in flight does not matter: nothing was to be stopped."""
    state = drilled()
    state = after(state, [ack(command_to_drill(state, "x"), D, at=20, in_flight=7)])
    state, effects = step(state, ack(command_to_drill(state, "y"), D, at=30, in_flight=2), 31, world())
    assert [(e.state, e.success, e.time_to_stop_ms) for e in emergencies(effects)] == [
        (EmergencyState.STOPPED, True, 30),
        (EmergencyState.RESOLVED, True, 30),
    ]
    assert holds(effects) == []
    assert audits(effects) == ["drill_stopped", "emergency_resolved"]


def test_silence_repeats_it_at_its_level_and_ends_it_partial() -> None:
    state = drilled()
    state = after(state, [ack(command_to_drill(state, "x"), D)])
    state, effects = step(state, Tick(SCOPE), 60_000, alive(60_000))
    assert holds(effects) == []
    assert [(c.service, c.action, c.level, c.attempt) for c in commands(effects)] == [
        ("y", Action.DRILL, StopLevel.GRACEFUL, 2)
    ]
    assert audits(effects) == ["drill_repeated"]
    state, effects = step(state, Tick(SCOPE), 120_000, alive(120_000))
    assert [(e.state, e.success) for e in emergencies(effects)] == [
        (EmergencyState.PARTIAL, False),
        (EmergencyState.RESOLVED, False),
    ]
    assert state.epoch == 0


@pytest.mark.parametrize("said", [AckState.REFUSED, AckState.FAILED])
def test_a_service_that_cannot_drill_fails_it(said: AckState) -> None:
    state = drilled()
    state = after(state, [ack(command_to_drill(state, "x"), said, reason="not available")])
    assert [(t.standing.value, t.reason) for t in state.cases[0].targets if t.service == "x"] == [
        ("failed", "not available")
    ]


@pytest.mark.parametrize("level", list(StopLevel))
def test_every_level_can_be_drilled(level: StopLevel) -> None:
    """Also one for maintenance: there is no state to save where nothing stops."""
    state = drilled(drill(level=level))
    state = after(state, [ack(command_to_drill(state, s), D) for s in "xy"])
    assert (state.cases[0].phase.value, state.cases[0].success) == ("resolved", True)


def test_it_disturbs_no_stop_of_its_scope_and_no_stop_ends_it() -> None:
    """::

    stop   ──── held, epoch 1 ──────────────── resumed by epoch 1
    drill        ──── begun ── answered, over
    """
    state = opened(hit())
    state = after(state, [drill()], at=5)
    stop, exercise = state.cases
    assert (state.epoch, exercise.epoch, state.in_force) == (1, 1, (stop,))
    state = after(state, [ack(command_to(stop, s), D) for s in "xy"])
    assert [case.phase.value for case in state.cases] == ["stopped", "stopping"]
    state = after(state, [hit("h2", trigger_id="t2")], at=6)
    state = after(state, [ack(command_to(exercise, s), D) for s in "xy"], at=7)
    assert [case.phase.value for case in state.cases] == ["stopped", "resolved", "queued"]
    assert len(state.in_force) == 2
    _, effects = step(state, resume("r1", 2), 8, world())
    assert audits(effects) == ["resumed"]


def test_a_hit_never_joins_a_drill() -> None:
    _, effects = step(drilled(), hit(), 5, world())
    assert len(holds(effects)) == 1


def test_it_takes_no_slot_and_waits_for_none() -> None:
    core = Coordinator(1, 3_600_000)
    core.apply(drill("d1", scope="account:1"), 0, world())
    core.apply(drill("d2", scope="account:2"), 0, world())
    core.apply(hit("h1", "account:3"), 0, world())
    core.apply(drill("d3", scope="account:4"), 0, world())
    core.take_dirty()
    sent = {(c.scope, c.action) for c in commands(core.take_effects())}
    assert sent == {
        ("account:1", Action.DRILL), ("account:2", Action.DRILL), ("account:3", Action.STOP),
        ("account:4", Action.DRILL),
    }  # fmt: skip
    assert core.queue_length == 0
    assert set(core.census()) == {("stopping", "graceful")}


def test_one_at_a_time_in_a_scope() -> None:
    state, effects = step(drilled(), drill("d2"), 5, world())
    assert audits(effects) == ["request_refused"]
    assert len(state.cases) == 1


def test_it_goes_on_after_a_restart() -> None:
    state = drilled()
    state = after(state, [ack(command_to_drill(state, "x"), D)])
    again, _ = read_scope(scope_key(SCOPE), scope_record(state))
    assert again == state
    again = after(again, [ack(command_to_drill(again, "y"), D)])
    assert again.cases[0].success is True
