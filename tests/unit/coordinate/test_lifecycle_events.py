"""The guide's events, told of an emergency as its record grows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emergency_stop.coordinate.lifecycle_events import EMERGENCIES_MAX, HITS_MAX, LifecycleTeller
from emergency_stop.coordinate.state import Effect, ScopeState
from emergency_stop.coordinate.step import step
from emergency_stop.domain.messages import Emergency, InstanceStop, Lifecycle, Recovery
from emergency_stop.domain.values import (
    AckState,
    EmergencyState,
    LifecycleKind,
    Mode,
    RecoveryOutcome,
    RecoveryPhase,
    StopLevel,
    TriggerType,
)
from tests.unit.coordinate.scenario import emergencies, hit, request, world

KIND = LifecycleKind


def opened(scope: str = "account:a", request_id: str = "r1") -> Emergency:
    _, effects = step(ScopeState(scope), request(request_id, scope=scope), 1_000, world())
    return emergencies(effects)[0]


def instance(service: str, state: AckState, at: int = 1_400, instance_id: str = "1") -> InstanceStop:
    return InstanceStop(service, instance_id, state, "said so", 0, at)


def at_end(state: EmergencyState, *instances: InstanceStop, at: int = 1_500, success: bool = True) -> Emergency:
    return replace(opened(), state=state, instances=instances, completed_at=at, success=success)


def told(*effects: Effect, teller: LifecycleTeller | None = None) -> list[Lifecycle]:
    teller = teller or LifecycleTeller()
    return [event for effect in effects for event in teller.of_effect(effect)]


def test_an_emergency_is_told_from_its_start_to_its_end_each_event_once() -> None:
    x, y = instance("x", AckState.STOPPED, 1_300), instance("y", AckState.STOPPED, 1_400)
    under_way = opened()
    growing = [
        under_way,
        replace(under_way, instances=(x, instance("y", AckState.RECEIVED))),
        at_end(EmergencyState.STOPPED, x, y),
        at_end(EmergencyState.STOPPED, x, y),
    ]
    events = told(*growing)
    assert [(one.event, one.at, one.service, one.success, one.duration_ms) for one in events] == [
        (KIND.EMERGENCY_STARTED, 1_000, None, None, None),
        (KIND.SERVICE_STOP_ATTEMPTED, 1_300, "x", True, 300),
        (KIND.SERVICE_STOP_ATTEMPTED, 1_400, "y", True, 400),
        (KIND.EMERGENCY_COMPLETED, 1_500, None, True, 500),
    ]
    assert {one.emergency_id for one in events} == {under_way.emergency_id}
    assert {one.correlation_id for one in events} == {"corr-r1"}
    assert {(one.scope, one.account_id, one.trigger_type) for one in events} == {
        ("account:a", "a", TriggerType.MANUAL_TRIGGER)
    }


def test_told_again_after_a_crash_it_has_the_same_ids() -> None:
    effects = [opened(), at_end(EmergencyState.STOPPED, instance("x", AckState.STOPPED))]
    assert told(*effects) == told(*effects)
    assert len({one.event_id for one in told(*effects)}) == 3


def test_silence_is_a_failed_attempt_only_once_the_deadlines_are_over() -> None:
    silent, failed = instance("x", AckState.UNKNOWN, instance_id=""), instance("y", AckState.FAILED)
    teller = LifecycleTeller()
    before = told(replace(opened(), instances=(silent, failed)), teller=teller)
    assert [(one.event, one.service, one.success) for one in before[1:]] == [(KIND.SERVICE_STOP_ATTEMPTED, "y", False)]
    partial = at_end(EmergencyState.PARTIAL, silent, failed, success=False)
    assert [(one.event, one.service, one.success) for one in told(partial, teller=teller)] == [
        (KIND.SERVICE_STOP_ATTEMPTED, "x", False),
        (KIND.EMERGENCY_COMPLETED, None, False),
    ]


def test_a_late_proof_completes_it_once_more_and_is_no_success() -> None:
    teller, late = LifecycleTeller(), instance("x", AckState.STOPPED, 9_000)
    told(at_end(EmergencyState.PARTIAL, instance("x", AckState.UNKNOWN), success=False), teller=teller)
    events = told(at_end(EmergencyState.STOPPED, late, at=9_000, success=False), teller=teller)
    assert [(one.event, one.success) for one in events] == [
        (KIND.SERVICE_STOP_ATTEMPTED, True),
        (KIND.EMERGENCY_COMPLETED, False),
    ]


@pytest.mark.parametrize("state", [EmergencyState.SCHEDULED, EmergencyState.RECOVERING, EmergencyState.RESOLVED])
def test_nothing_is_told_of_an_emergency_that_waits_or_is_being_undone(state: EmergencyState) -> None:
    assert told(replace(opened(), state=state)) == []


def test_nothing_is_told_of_a_drill() -> None:
    done = at_end(EmergencyState.STOPPED, instance("x", AckState.STOPPED))
    assert told(replace(opened(), drill=True), replace(done, drill=True)) == []


@pytest.mark.parametrize("mode", list(Mode))
def test_a_hit_is_told_whatever_its_mode(mode: Mode) -> None:
    teller, fired = LifecycleTeller(), hit(mode=mode, detected_at=7)
    (event,) = teller.of_hit(fired)
    assert (event.event, event.trigger_id, event.at, event.success) == (KIND.TRIGGER_EVALUATED, "t1", 7, True)
    assert (event.correlation_id, event.level) == ("corr-h1", StopLevel.GRACEFUL)
    assert mode.value in event.reason
    assert teller.of_hit(fired) == [], "the other lane's"
    assert LifecycleTeller().of_hit(fired) == [event]


@pytest.mark.parametrize("outcome", list(RecoveryOutcome))
def test_a_recovery_is_told_when_it_ended(outcome: RecoveryOutcome) -> None:
    recovery = Recovery(
        "rec1", "e1", "account:a", "corr", 2, "gradual_recovery", (), RecoveryPhase.MONITORING, outcome, "ann",
        1_000, 2_000, 3, (), "quiet", ended_at=1_700,
    )  # fmt: skip
    events = told(recovery, replace(recovery, ended_at=1_700))
    if outcome is RecoveryOutcome.UNDER_WAY:
        assert events == []
        return
    assert {one.event_id for one in events} == {events[0].event_id}
    first = events[0]
    assert (first.event, first.at, first.duration_ms, first.account_id) == (KIND.RECOVERY_COMPLETED, 1_700, 700, "a")
    assert first.success == (outcome is RecoveryOutcome.COMPLETED)


def test_memory_is_bounded_and_what_is_over_is_forgotten() -> None:
    teller, one = LifecycleTeller(), opened()
    for number in range(EMERGENCIES_MAX + 10):
        teller.of_effect(replace(one, emergency_id=f"e{number}"))
    for number in range(HITS_MAX + 10):
        teller.of_hit(hit(f"h{number}"))
    assert (len(teller._told), len(teller._hits)) == (EMERGENCIES_MAX, HITS_MAX)
    teller.of_effect(replace(one, emergency_id=f"e{EMERGENCIES_MAX}", state=EmergencyState.RESOLVED))
    assert len(teller._told) == EMERGENCIES_MAX - 1
