"""A maintenance stop: planned, begun at its time, proven by saved states, and ended by people only."""

from __future__ import annotations

from typing import Any

import pytest

from emergency_stop.coordinate.lifecycle import Admit, Tick
from emergency_stop.coordinate.partition import WATCH_MS, Coordinator
from emergency_stop.coordinate.state import ScopeState, World
from emergency_stop.coordinate.step import step
from emergency_stop.domain.values import AckState, EmergencyState, InstanceState, StopLevel
from tests.unit.coordinate.scenario import (
    SCOPE,
    ack,
    after,
    audits,
    command_to,
    commands,
    emergencies,
    holds,
    instance,
    opened,
    request,
    resume,
    world,
)

D, F = AckState.STOPPED, AckState.FAILED
LATER = 500_000
PLAN = request(level=StopLevel.MAINTENANCE, starts_at=LATER)
NOW = request(level=StopLevel.MAINTENANCE)


def alive(at: int) -> World:
    return world(instance("x", heartbeat_at=at), instance("y", heartbeat_at=at))


class TestPlans:
    def test_what_is_planned_holds_nothing_until_its_time(self) -> None:
        """Asked at 0 ──── scheduled ──── 500 000: hold, epoch 1 ──── a slot: commands"""
        state, effects = step(ScopeState(SCOPE), PLAN, 0, world())
        (emergency,) = emergencies(effects)
        assert (emergency.state, emergency.starts_at, emergency.epoch) == (EmergencyState.SCHEDULED, LATER, 0)
        assert (holds(effects), commands(effects), audits(effects)) == ([], [], ["stop_scheduled"])
        assert (state.epoch, state.in_force) == (0, ())
        assert step(state, Tick(SCOPE), LATER - 1, world()) == (state, [])

        state, effects = step(state, Tick(SCOPE), LATER, world())
        (hold,) = holds(effects)
        assert (hold.epoch, hold.level) == (1, StopLevel.MAINTENANCE)
        (emergency,) = emergencies(effects)
        assert (emergency.state, emergency.started_at) == (EmergencyState.STOPPING, LATER)
        _, effects = step(state, Admit(SCOPE, emergency.emergency_id), LATER, world())
        assert {(c.level, c.deadline_at) for c in commands(effects)} == {(StopLevel.MAINTENANCE, LATER + 60_000)}

    def test_time_to_stop_runs_from_its_beginning(self) -> None:
        state = after(ScopeState(SCOPE), [PLAN])
        state = after(state, [Tick(SCOPE)], at=LATER)
        state = after(state, [Admit(SCOPE, state.cases[0].emergency_id)], at=LATER)
        case = state.cases[0]
        state = after(
            state, [ack(command_to(case, s), D, at=LATER + 70, saved_state="s3") for s in "xy"], at=LATER + 80
        )
        assert (state.cases[0].phase.value, state.cases[0].time_to_stop_ms) == ("stopped", 70)

    def test_it_wakes_the_coordinator_at_its_time_and_not_every_second_before(self) -> None:
        core = Coordinator(10, 3_600_000)
        core.apply(PLAN, 0, world())
        core.take_dirty()
        core.take_effects()
        records = dict(core.take_dirty())
        assert core.next_deadline() == LATER
        successor = Coordinator(10, 3_600_000)
        successor.restore((key, value) for key, value in records.items() if value is not None)
        successor.tick(1, world())
        assert successor.next_deadline() == LATER
        successor.tick(LATER, world())
        assert successor.state(SCOPE).in_force
        assert successor.next_deadline() == LATER + WATCH_MS

    def test_it_is_called_off_by_its_name_without_an_epoch_and_by_one_person(self) -> None:
        plan = request(scope="global", level=StopLevel.MAINTENANCE, starts_at=LATER)
        state = after(ScopeState("global"), [plan])
        state, effects = step(state, resume("r2", None, state.cases[0].emergency_id, "global"), 5, world())
        assert [e.state for e in emergencies(effects)] == [EmergencyState.RESOLVED]
        assert audits(effects) == ["stop_called_off"]
        assert step(state, Tick("global"), LATER, world()) == (state, [])

    def test_a_resume_of_what_holds_the_scope_leaves_the_plan(self) -> None:
        state = after(opened(request("r0")), [PLAN])
        state, _ = step(state, resume("r2", 1), 5, world())
        assert [case.phase.value for case in state.cases] == ["recovering", "scheduled"]

    def test_a_plan_that_has_begun_is_not_called_off_by_a_name_alone(self) -> None:
        state = after(ScopeState(SCOPE), [PLAN])
        state = after(state, [Tick(SCOPE)], at=LATER)
        _, effects = step(state, resume("r2", None, state.cases[0].emergency_id), LATER + 1, world())
        assert audits(effects) == ["resume_refused"]

    @pytest.mark.parametrize(
        ("changes", "note"),
        [
            ({"level": StopLevel.GRACEFUL, "starts_at": LATER}, "only a maintenance stop can be planned"),
            ({"level": StopLevel.MAINTENANCE, "starts_at": 5}, ""),
        ],
        ids=["another level", "its time is over"],
    )
    def test_what_cannot_be_planned_stops_at_once(self, changes: dict[str, Any], note: str) -> None:
        """A stop is not lost to its form."""
        _, effects = step(ScopeState(SCOPE), request(**changes), 10, world())
        assert len(holds(effects)) == 1
        assert note in emergencies(effects)[0].reason


class TestSavedState:
    @pytest.mark.parametrize("saved", [None, ""])
    def test_stopped_without_a_saved_state_is_a_failure(self, saved: str | None) -> None:
        state = opened(NOW)
        state = after(state, [ack(command_to(state.cases[0], "x"), D, saved_state=saved)])
        target = state.cases[0].targets[0]
        assert target.standing.value == "failed"
        assert target.reason == "claims stopped without a saved state, which a maintenance stop needs"

    def test_with_it_the_stop_is_proven_and_names_it(self) -> None:
        state = opened(NOW)
        state = after(state, [ack(command_to(state.cases[0], s), D, saved_state=f"file:{s}") for s in "xy"])
        assert state.cases[0].phase.value == "stopped"
        assert [t.reason for t in state.cases[0].targets] == ["saved state: file:x", "saved state: file:y"]

    def test_one_that_leaves_without_telling_it_leaves_the_stop_unproven(self) -> None:
        state = opened(NOW)
        state = after(state, [ack(command_to(state.cases[0], "x"), D, saved_state="file:x")])
        gone = [instance(s, heartbeat_at=20, state=InstanceState.LEFT) for s in "xy"]
        state = after(state, [Tick(SCOPE)], at=30, where=world(*gone))
        assert [(t.service, t.standing.value) for t in state.cases[0].targets] == [("x", "stopped"), ("y", "failed")]

    def test_other_levels_need_none(self) -> None:
        state = opened(request(level=StopLevel.GRACEFUL))
        state = after(state, [ack(command_to(state.cases[0], s), D) for s in "xy"])
        assert state.cases[0].phase.value == "stopped"


def test_its_deadline_asks_again_and_never_cuts_off_what_saves_its_state() -> None:
    """0 maintenance ──── 60 000 again, same level, same epoch ──── 120 000 partial"""
    state = opened(NOW)
    state, effects = step(state, Tick(SCOPE), 60_000, alive(60_000))
    assert holds(effects) == []
    assert {(c.level, c.attempt, c.epoch, c.deadline_at) for c in commands(effects)} == {
        (StopLevel.MAINTENANCE, 2, 1, 120_000)
    }
    state, effects = step(state, Tick(SCOPE), 120_000, alive(120_000))
    (emergency,) = emergencies(effects)
    assert (emergency.state, emergency.level) == (EmergencyState.PARTIAL, StopLevel.MAINTENANCE)
    assert state.in_force, "it is held all the same"


class TestServiceSpecific:
    @pytest.mark.parametrize(
        # carries               level in force              deadline
        ("carries", "level", "deadline_at"),
        [
            (None, StopLevel.SERVICE_SPECIFIC, 60_000),
            (StopLevel.GRACEFUL, StopLevel.SERVICE_SPECIFIC, 60_000),
            (StopLevel.IMMEDIATE, StopLevel.IMMEDIATE, 5_000),
        ],
    )
    def test_its_deadline_is_that_of_the_level_it_carries(
        self, carries: StopLevel | None, level: StopLevel, deadline_at: int
    ) -> None:
        asked = request(level=StopLevel.SERVICE_SPECIFIC, services=("y",), carries=carries)
        state, effects = step(ScopeState(SCOPE), asked, 0, world())
        (emergency,) = emergencies(effects)
        assert (emergency.level, emergency.asked_level) == (level, StopLevel.SERVICE_SPECIFIC)
        assert emergency.reason == "looks wrong"
        _, effects = step(state, Admit(SCOPE, emergency.emergency_id), 0, world())
        assert [(c.service, c.level, c.deadline_at) for c in commands(effects)] == [("y", level, deadline_at)]

    @pytest.mark.parametrize(
        ("changes", "note"),
        [
            ({"services": ()}, "no service was named: all are stopped"),
            ({"services": ("all",)}, "no service was named: all are stopped"),
            ({"services": ("y",), "carries": StopLevel.CASCADING}, "cannot carry cascading: stopped gracefully"),
        ],
    )
    def test_what_is_not_as_it_should_be_stops_all_the_same_and_says_so(
        self, changes: dict[str, Any], note: str
    ) -> None:
        _, effects = step(ScopeState(SCOPE), request(level=StopLevel.SERVICE_SPECIFIC, **changes), 0, world())
        assert len(holds(effects)) == 1
        assert note in holds(effects)[0].reason
