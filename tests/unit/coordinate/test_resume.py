"""A resume is accepted only beyond doubt, and lifts only what it names."""

from __future__ import annotations

import pytest

from emergency_stop.coordinate.lifecycle import Admit, Tick
from emergency_stop.coordinate.state import ScopeState
from emergency_stop.coordinate.step import step
from emergency_stop.domain.messages import AuditRecord, Hold
from emergency_stop.domain.values import AckState, Action, EmergencyState, HoldState, StopLevel
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


def stopped() -> ScopeState:
    """Epoch 1, held by one graceful emergency that x and y have proven."""
    state = opened(hit())
    return after(state, [ack(command_to(state.cases[0], service), AckState.STOPPED) for service in "xy"])


def test_an_accepted_resume_lifts_the_hold_and_tells_every_service() -> None:
    state, effects = step(stopped(), resume("r1", epoch=1), 50, world())
    (hold,) = holds(effects)
    assert (hold.state, hold.epoch, hold.level, hold.causes) == (HoldState.RUNNING, 2, None, ())
    assert hold.reason == "resumed by ann: looks wrong"
    assert [(c.service, c.action, c.epoch) for c in commands(effects)] == [
        ("x", Action.RESUME, 2),
        ("y", Action.RESUME, 2),
    ]
    assert isinstance(effects[0], AuditRecord), "what is not on record must not run again"
    assert isinstance(effects[1], Hold)
    assert emergencies(effects)[0].state is EmergencyState.RECOVERING
    assert state.cases[0].success is True, "how the stop went stays on record"


def test_it_is_resolved_when_every_instance_confirms() -> None:
    state = after(stopped(), [resume("r1", epoch=1)])
    state = after(state, [ack(command_to(state.cases[0], "x"), AckState.RESUMED)])
    assert state.cases[0].phase.value == "recovering"
    state, effects = step(state, ack(command_to(state.cases[0], "y"), AckState.RESUMED), 60, world())
    assert emergencies(effects)[0].state is EmergencyState.RESOLVED


@pytest.mark.parametrize("said", [None, AckState.REFUSED])
def test_one_that_does_not_confirm_is_named_at_the_deadline(said: AckState | None) -> None:
    state = after(stopped(), [resume("r1", epoch=1)], at=100)
    case = state.cases[0]
    state = after(state, [ack(command_to(case, "x"), AckState.RESUMED)], at=101)
    if said is not None:
        state = after(state, [ack(command_to(case, "y"), said, reason="bad signature")], at=101)
    state, effects = step(state, Tick(SCOPE), 5_100, world())
    assert state.cases[0].phase.value == "resolved"
    (note,) = (e for e in effects if isinstance(e, AuditRecord))
    assert note.reason == f"not confirmed by y/1: {'bad signature' if said else 'asked to resume, no answer yet'}"


@pytest.mark.parametrize(
    # epoch named   emergency       why it is refused; the scope is at epoch 2, its newest stop too
    ("epoch", "emergency_id", "why"),
    [
        (None, None, "no epoch named; name the one you see, now 2"),
        (1, None, "epoch 1 was named, but a newer stop has epoch 2; look at it first"),
        (3, None, "epoch 3 was named, but the scope has only reached 2"),
        (2, "e9", "emergency e9 does not hold this scope"),
    ],
)
def test_refusals(epoch: int | None, emergency_id: str | None, why: str) -> None:
    state = after(stopped(), [hit("h2", trigger_id="t2")])
    refused, effects = step(state, resume("r1", epoch, emergency_id), 60, world())
    assert audits(effects) == ["resume_refused"]
    assert [e.reason for e in effects if isinstance(e, AuditRecord)] == [f"resume (looks wrong): {why}"]
    assert (refused.epoch, refused.cases) == (state.epoch, state.cases)


def test_nothing_to_resume() -> None:
    _, effects = step(ScopeState(SCOPE), resume("r1", epoch=0), 60, world())
    assert audits(effects) == ["resume_refused"]


def test_a_refused_resume_never_succeeds_later() -> None:
    """Resume "epoch 1" refused (nothing holds) ──── stop, epoch 1 ──── the same resume again: still nothing"""
    state = after(ScopeState(SCOPE), [resume("r1", epoch=1), hit()])
    assert step(state, resume("r1", epoch=1), 60, world()) == (state, [])


def test_an_escalation_is_a_newer_stop() -> None:
    state = opened(hit())
    state = after(state, [Tick(SCOPE)], at=60_000)
    _, effects = step(state, resume("r1", epoch=1), 60_001, world())
    assert audits(effects) == ["resume_refused"]


class TestSeveralCauses:
    def test_naming_one_leaves_the_other_in_force(self) -> None:
        state = after(stopped(), [request("r0")], at=5)
        first, second = state.cases
        state, effects = step(state, resume("r1", 2, first.emergency_id), 60, world())
        (hold,) = holds(effects)
        assert (hold.state, hold.level, hold.epoch) == (HoldState.HELD, StopLevel.IMMEDIATE, 3)
        assert [cause.emergency_id for cause in hold.causes] == [second.emergency_id]
        assert commands(effects) == [], "every service is still held"
        assert [e.state for e in emergencies(effects)] == [EmergencyState.RESOLVED]
        _, effects = step(state, resume("r2", 3), 61, world())
        assert holds(effects)[0].state is HoldState.RUNNING

    def test_only_services_that_nothing_else_holds_are_told(self) -> None:
        state = after(opened(request("r0", services=("x",))), [hit()], at=5)
        narrow, wide = state.cases
        _, effects = step(state, resume("r1", 2, wide.emergency_id), 60, world())
        assert [c.service for c in commands(effects)] == ["y"]
        assert holds(effects)[0].causes[0].services == narrow.services == ("x",)

    def test_naming_none_lifts_all(self) -> None:
        state = after(stopped(), [request("r0")], at=5)
        state, effects = step(state, resume("r1", 2), 60, world())
        assert holds(effects)[0].state is HoldState.RUNNING
        assert {case.phase.value for case in state.cases} == {"recovering"}


def test_resumed_as_an_answer_to_the_stop_confirms_no_resume() -> None:
    asked = after(stopped(), [resume("r1", epoch=1)], at=50)
    wrong = ack(command_to(asked.cases[0], "x", order=0), AckState.RESUMED)
    with pytest.raises(ValueError, match="command in state 'stop' has no transition for 'resumed'"):
        step(asked, wrong, 60, world())


def test_a_new_stop_ends_a_resume_under_way() -> None:
    state = after(stopped(), [resume("r1", epoch=1)], at=50)
    late = ack(command_to(state.cases[0], "x"), AckState.RESUMED)
    state, effects = step(state, hit("h2"), 60, world())
    assert [e.state for e in emergencies(effects)] == [EmergencyState.RESOLVED, EmergencyState.STOPPING]
    assert (holds(effects)[0].state, holds(effects)[0].epoch) == (HoldState.HELD, 3)
    assert step(state, late, 61, world()) == (state, [])


def test_a_queued_stop_can_be_resumed_and_is_never_commanded_after() -> None:
    state = after(ScopeState(SCOPE), [hit()])
    state, effects = step(state, resume("r1", epoch=1), 50, world())
    assert {c.action for c in commands(effects)} == {Action.RESUME}
    with pytest.raises(ValueError, match="no transition for 'admit'"):
        step(state, Admit(SCOPE, state.cases[0].emergency_id), 51, world())


def test_acknowledgements_of_the_stop_may_cross_the_resume() -> None:
    state = opened(hit())
    crossing = ack(command_to(state.cases[0], "x"), AckState.STOPPED)
    state = after(state, [resume("r1", epoch=1)], at=50)
    assert step(state, crossing, 51, world()) == (state, [])


def test_instances_that_are_gone_need_not_confirm() -> None:
    where = world(instance("x", heartbeat_at=90_000), instance("y"))
    state = after(stopped(), [resume("r1", epoch=1)], at=90_000, where=where)
    state = after(state, [ack(command_to(state.cases[0], "x"), AckState.RESUMED)], at=90_001, where=where)
    assert state.cases[0].phase.value == "resolved"


def test_other_actions_are_refused_on_record() -> None:
    state, effects = step(stopped(), request("r1", Action.PROBE), 60, world())
    assert audits(effects) == ["request_refused"]
    assert state.cases == stopped().cases
