"""From a cause to a proven stop, and what happens where the proof does not come."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from emergency_stop.coordinate.instances import UnknownAckError
from emergency_stop.coordinate.lifecycle import Admit, Tick
from emergency_stop.coordinate.state import ScopeState
from emergency_stop.coordinate.step import UnknownEmergencyError, step
from emergency_stop.coordinate.tables import IllegalTransitionError
from emergency_stop.domain.ids import emergency_id, hit_cause, request_cause
from emergency_stop.domain.values import AckState, EmergencyState, HoldState, InstanceState, Mode, StopLevel
from tests.unit.coordinate.scenario import (
    POLICY,
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
    world,
)

R, S, D, F = AckState.RECEIVED, AckState.STOPPING, AckState.STOPPED, AckState.FAILED


def test_a_hit_holds_its_scope_at_once() -> None:
    state, effects = step(ScopeState(SCOPE), hit(), 5, world())
    (hold,) = holds(effects)
    assert (hold.state, hold.epoch, hold.level) == (HoldState.HELD, 1, StopLevel.GRACEFUL)
    assert [cause.emergency_id for cause in hold.causes] == [emergency_id(hit_cause("h1"))]
    assert effects[0] is hold, "the hold is what stops, so it goes first"
    assert commands(effects) == [], "commands wait for a slot"
    assert audits(effects) == ["emergency_opened"]
    (emergency,) = emergencies(effects)
    assert (emergency.state, emergency.correlation_id) == (EmergencyState.STOPPING, "corr-h1")
    assert state.epoch == 1


def test_admission_commands_every_target_service() -> None:
    state, _ = step(ScopeState(SCOPE), hit(), 5, world())
    state, effects = step(state, Admit(SCOPE, state.cases[0].emergency_id), 7, world())
    assert [(c.service, c.epoch, c.attempt, c.deadline_at, c.correlation_id) for c in commands(effects)] == [
        ("x", 1, 1, 60_007, "corr-h1"),
        ("y", 1, 1, 60_007, "corr-h1"),
    ]
    assert {c.issued_by for c in commands(effects)} == {"coordinator-test"}
    with pytest.raises(IllegalTransitionError):
        step(state, Admit(SCOPE, state.cases[0].emergency_id), 8, world())


@pytest.mark.parametrize(
    # level                     deadline  services asked for and commanded
    ("level", "deadline_at", "asked", "commanded"),
    [
        (StopLevel.IMMEDIATE, 5_000, ("all",), ["x", "y"]),
        (StopLevel.GRACEFUL, 60_000, ("all",), ["x", "y"]),
        (StopLevel.GRACEFUL, 60_000, (), ["x", "y"]),
        (StopLevel.SERVICE_SPECIFIC, 60_000, ("y",), ["y"]),
        (StopLevel.CASCADING, 60_000, ("all",), ["x", "y"]),
        (StopLevel.MAINTENANCE, 60_000, ("x",), ["x"]),
    ],
)
def test_levels(level: StopLevel, deadline_at: int, asked: tuple[str, ...], commanded: list[str]) -> None:
    """Services that do not depend on each other are one tier of a cascading stop."""
    state, effects = step(ScopeState(SCOPE), hit(level=level, target_services=asked), 0, world())
    (emergency,) = emergencies(effects)
    assert (emergency.level, emergency.asked_level, emergency.reason) == (level, level, "12 < 30")
    _, effects = step(state, Admit(SCOPE, state.cases[0].emergency_id), 0, world())
    assert [(c.service, c.level, c.deadline_at) for c in commands(effects)] == [
        (service, level, deadline_at) for service in commanded
    ]


@pytest.mark.parametrize(
    # what x and y say, in order                        state of the emergency
    ("said", "expected"),
    [
        ([("x", R), ("y", R)], "stopping"),
        ([("x", R), ("x", S), ("x", D)], "stopping"),
        ([("x", D), ("y", D)], "stopped"),
        ([("x", R), ("y", R), ("y", S), ("y", D), ("x", D)], "stopped"),
        ([("x", D), ("x", R), ("x", S), ("y", D)], "stopped"),
        ([("x", D), ("x", D), ("x", D)], "stopping"),
        ([("x", D), ("y", F)], "stopping"),
        ([("x", D), ("y", AckState.REFUSED)], "stopping"),
    ],
)
def test_a_service_is_stopped_when_it_says_so_and_not_before(said: list[tuple[str, AckState]], expected: str) -> None:
    state = opened(hit())
    for service, what in said:
        state, _ = step(state, ack(command_to(state.cases[0], service), what), 9, world())
    assert state.cases[0].phase.value == expected


def test_time_to_stop_runs_from_the_event_to_the_last_proof() -> None:
    """Event 100 ──── hit handled 130 ──── x stopped 150 ──── y stopped 190 ──── acks read 250"""
    state = opened(hit(occurred_at=100), at=130)
    case = state.cases[0]
    state = after(state, [ack(command_to(case, "x"), D, at=150)], at=250)
    state, effects = step(state, ack(command_to(case, "y"), D, at=190), 250, world())
    (emergency,) = emergencies(effects)
    assert (emergency.state, emergency.success) == (EmergencyState.STOPPED, True)
    assert (emergency.time_to_stop_ms, emergency.completed_at) == (90, 250)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"in_flight": 2}, "claims stopped with 2 operations in flight"),
        ({"epoch": 0}, "claims stopped at epoch 0, but the stop is epoch 1"),
    ],
)
def test_a_false_proof_is_a_failure(changes: dict[str, Any], reason: str) -> None:
    state = opened(hit())
    state = after(state, [ack(command_to(state.cases[0], "x"), D, **changes)])
    target = state.cases[0].targets[0]
    assert (target.standing.value, target.reason) == ("failed", reason)


def test_silence_escalates_then_ends_partial_with_reasons() -> None:
    """0 graceful ──── 60 000 immediate, new epoch, only to y ──── 65 000 partial"""
    state = opened(hit())
    state = after(state, [ack(command_to(state.cases[0], "x"), D), ack(command_to(state.cases[0], "y"), R)])
    where = world(instance("x", heartbeat_at=60_000), instance("y", heartbeat_at=60_000))
    state, effects = step(state, Tick(SCOPE), 59_999, where)
    assert effects == []
    state, effects = step(state, Tick(SCOPE), 60_000, where)
    (hold,) = holds(effects)
    assert (hold.level, hold.epoch) == (StopLevel.IMMEDIATE, 2)
    assert [(c.service, c.attempt, c.level, c.deadline_at) for c in commands(effects)] == [
        ("y", 2, StopLevel.IMMEDIATE, 65_000)
    ]
    assert audits(effects) == ["stop_escalated"]
    state, effects = step(state, Tick(SCOPE), 65_000, where)
    (emergency,) = emergencies(effects)
    assert (emergency.state, emergency.success, emergency.time_to_stop_ms) == (EmergencyState.PARTIAL, False, None)
    assert {(i.service, i.state, i.reason) for i in emergency.instances} == {
        ("x", AckState.STOPPED, ""),
        ("y", AckState.UNKNOWN, "received, but no proof of the stop by the deadline"),
    }


def test_an_immediate_stop_is_sent_again_at_the_same_epoch() -> None:
    state = opened(hit(level=StopLevel.IMMEDIATE))
    _, effects = step(state, Tick(SCOPE), 5_000, world())
    assert holds(effects) == [], "the hold did not change"
    assert [(c.service, c.attempt, c.epoch, c.deadline_at) for c in commands(effects)] == [
        ("x", 2, 1, 10_000),
        ("y", 2, 1, 10_000),
    ]


def test_a_failure_that_the_second_attempt_mends_is_a_success() -> None:
    state = opened(hit(level=StopLevel.IMMEDIATE))
    first = state.cases[0]
    state = after(state, [ack(command_to(first, "x"), D), ack(command_to(first, "y"), F)])
    state = after(state, [Tick(SCOPE)], at=5_000)
    state = after(state, [ack(command_to(state.cases[0], "y"), D, at=5_100)], at=5_101)
    assert (state.cases[0].phase.value, state.cases[0].success) == ("stopped", True)


def test_a_proof_after_the_end_is_recorded_and_still_no_success() -> None:
    state = opened(hit(level=StopLevel.IMMEDIATE))
    case = state.cases[0]
    state = after(state, [ack(command_to(case, "x"), D), Tick(SCOPE)], at=5_000)
    state = after(state, [Tick(SCOPE)], at=10_000)
    assert state.cases[0].phase.value == "partial"
    state, effects = step(state, ack(command_to(case, "y"), D, at=12_000), 12_001, world())
    (emergency,) = emergencies(effects)
    assert (emergency.state, emergency.success, emergency.time_to_stop_ms) == (EmergencyState.STOPPED, False, 12_000)


def test_an_instance_that_takes_its_proof_back_makes_the_stop_partial() -> None:
    state = opened(hit())
    case = state.cases[0]
    state = after(state, [ack(command_to(case, s), D, at=10) for s in "xy"])
    state, effects = step(state, ack(command_to(case, "x"), F, at=11, reason="one was left"), 12, world())
    (emergency,) = emergencies(effects)
    assert (emergency.state, emergency.success) == (EmergencyState.PARTIAL, False)


@pytest.mark.parametrize("reverse", [False, True])
def test_of_two_verdicts_the_later_counts_in_whatever_order_they_come(*, reverse: bool) -> None:
    state = opened(hit())
    command = command_to(state.cases[0], "x")
    verdicts = [ack(command, F, at=10), ack(command, D, at=11)]
    state = after(state, reversed(verdicts) if reverse else verdicts)
    assert state.cases[0].targets[0].standing.value == "stopped"


class TestInstances:
    """Who must prove the stop."""

    def test_a_service_never_seen_is_unknown(self) -> None:
        state = opened(hit(), where=world(instance("x")))
        case = state.cases[0]
        state = after(state, [ack(command_to(case, "x"), D)])
        assert state.cases[0].phase.value == "stopping"
        state = after(state, [Tick(SCOPE)], at=60_000, where=world(instance("x", heartbeat_at=60_000)))
        state = after(state, [Tick(SCOPE)], at=65_000, where=world(instance("x", heartbeat_at=60_000)))
        missing = [t for t in state.cases[0].targets if t.service == "y"]
        assert [(t.instance_id, t.standing.value, t.reason) for t in missing] == [
            ("", "unknown", "no instance of it was ever seen alive")
        ]

    def test_a_misspelt_service_gets_no_command_and_a_hint(self) -> None:
        where = world(known=("sessionManager",))
        state, _ = step(ScopeState(SCOPE), request(services=("sesionManager",)), 0, where)
        state, effects = step(state, Admit(SCOPE, state.cases[0].emergency_id), 0, where)
        assert commands(effects) == []
        assert "did you mean sessionManager?" in state.cases[0].targets[0].reason

    def test_instances_that_left_in_good_order_count_as_stopped(self) -> None:
        where = world(instance("x", state=InstanceState.LEFT), instance("y", state=InstanceState.LEFT))
        state = opened(hit(), where=where)
        assert (state.cases[0].phase.value, state.cases[0].success) == ("stopped", True)

    def test_one_that_leaves_during_the_stop_counts_as_stopped(self) -> None:
        state = opened(hit())
        state = after(state, [ack(command_to(state.cases[0], "x"), D, at=10)])
        left = world(instance("x"), instance("y", heartbeat_at=20, state=InstanceState.LEFT))
        state = after(state, [Tick(SCOPE)], at=30, where=left)
        assert (state.cases[0].phase.value, state.cases[0].time_to_stop_ms) == ("stopped", 20)

    def test_one_that_loses_its_heartbeat_is_unknown_but_may_still_prove_it(self) -> None:
        state = opened(hit())
        case = state.cases[0]
        lost = world(instance("x", heartbeat_at=29_000), instance("y"))
        state = after(state, [Tick(SCOPE)], at=30_001, where=lost)
        assert [(t.standing.value, t.reason) for t in state.cases[0].targets if t.service == "y"] == [
            ("unknown", "heartbeat lost")
        ]
        state = after(state, [ack(command_to(case, s), D) for s in "xy"])
        assert state.cases[0].phase.value == "stopped"

    def test_one_that_comes_up_during_the_stop_is_commanded_too(self) -> None:
        state = opened(hit())
        case = state.cases[0]
        more = world(instance("x"), instance("y"), instance("y", "2"))
        state, effects = step(state, Tick(SCOPE), 10, more)
        assert [c.command_id for c in commands(effects)] == [command_to(case, "y").command_id]
        state = after(state, [ack(command_to(case, s), D) for s in "xy"])
        assert state.cases[0].phase.value == "stopping"
        state = after(state, [ack(command_to(case, "y"), D, "2")])
        assert state.cases[0].phase.value == "stopped"

    @pytest.mark.parametrize("said", [[], [AckState.RECEIVED], [AckState.STOPPING]], ids=["nothing", "got it", "began"])
    def test_one_that_starts_anew_under_its_name_is_commanded_again_and_once(self, said: list[AckState]) -> None:
        """::

        y/1      command ── said ── kill -9 ── up ── command ── stopped
        at       0          10                 500   501
        """
        state = opened(hit())
        case = state.cases[0]
        state = after(state, [ack(command_to(case, "y"), answer, at=10) for answer in said])
        anew = world(instance("x"), instance("y", started_at=500, heartbeat_at=501))
        state, effects = step(state, Tick(SCOPE), 501, anew)
        assert [c.command_id for c in commands(effects)] == [command_to(case, "y").command_id]
        assert "started anew" in next(t.reason for t in state.cases[0].targets if t.service == "y")
        assert commands(step(state, Tick(SCOPE), 1_501, anew)[1]) == []
        state = after(state, [ack(command_to(case, s), D) for s in "xy"])
        assert state.cases[0].phase.value == "stopped"

    def test_one_that_was_given_up_on_waits_for_its_hold_s_record_too(self) -> None:
        unread = dataclasses.replace(world(), is_published=lambda *_: False)
        state = opened(hit(), where=unread)
        for at in (60_001, 65_002):
            state = after(state, [Tick(SCOPE)], at=at, where=unread)
        assert state.cases[0].phase.value == "partial"
        state = after(state, [ack(command_to(state.cases[0], s), D, at=65_003) for s in "xy"], where=unread)
        assert state.cases[0].phase.value == "partial"
        state = after(state, [Tick(SCOPE)], at=65_004)
        assert (state.cases[0].phase.value, state.cases[0].success) == ("stopped", False)

    def test_what_one_proved_binds_nobody_who_starts_anew_under_its_name(self) -> None:
        """Its successor may have read the holds before this stop's was there, and its old proof may come late::

        y/1      command ── stopped ── kill -9 ── up ── command ── stopped
        at       0          10                    500   501        510
        """
        state = opened(hit())
        case = state.cases[0]
        old = ack(command_to(case, "y"), D, at=10)
        state = after(state, [old])
        anew = world(instance("x", heartbeat_at=501), instance("y", started_at=500, heartbeat_at=501))
        state, effects = step(state, Tick(SCOPE), 501, anew)
        assert [c.command_id for c in commands(effects)] == [command_to(case, "y").command_id]
        state = after(state, [ack(command_to(case, "x"), D, at=502), old], at=505, where=anew)
        assert state.cases[0].phase.value == "stopping"
        state = after(state, [ack(command_to(case, "y"), D, at=510)], at=510, where=anew)
        assert state.cases[0].phase.value == "stopped"

    def test_no_clocks_need_agree_to_tell_one_process_from_the_next(self) -> None:
        """The id goes on to a machine whose clock is behind: it was started before its predecessor's proof."""
        before = world(instance("x", started_at=8_000), instance("y", started_at=9_000))
        state = opened(hit(), 9_500, before)
        case = state.cases[0]
        old = ack(command_to(case, "y"), D, at=10_000, started_at=9_000)
        state = after(state, [old], at=10_000, where=before)
        anew = world(instance("x", started_at=8_000), instance("y", started_at=500))
        state, effects = step(state, Tick(SCOPE), 10_001, anew)
        assert [c.service for c in commands(effects)] == ["y"]
        proof = ack(command_to(case, "x"), D, at=10_002, started_at=8_000)
        state = after(state, [proof, old], at=10_003, where=anew)
        assert state.cases[0].phase.value == "stopping"
        state = after(state, [ack(command_to(case, "y"), D, at=600, started_at=500)], at=10_004, where=anew)
        assert state.cases[0].phase.value == "stopped"

    def test_what_a_process_says_before_it_is_announced_is_asked_for_again(self) -> None:
        """Its proof alone must not be lost to the word of its start, nor its start be taken for its predecessor's."""
        before = world(instance("x", started_at=1), instance("y", started_at=2))
        state = opened(hit(), 10, before)
        case = state.cases[0]
        proofs = {s: ack(command_to(case, s), D, at=20, started_at=at) for s, at in (("x", 1), ("y", 15))}
        told = ack(command_to(case, "y"), AckState.RECEIVED, at=19, started_at=15)
        assert step(state, told, 20, before) == (state, [])
        state, effects = step(after(state, [proofs["x"]], where=before), proofs["y"], 21, before)
        assert [c.service for c in commands(effects)] == ["y"], "the one that is announced is asked"
        state, effects = step(state, told, 22, before)
        announced = world(instance("x", started_at=1), instance("y", started_at=15))
        state, effects = step(state, Tick(SCOPE), 23, announced)
        assert [c.service for c in commands(effects)] == ["y"], "the one that is announced now is asked"
        assert after(state, [proofs["y"]], where=announced).cases[0].phase.value == "stopped"

    def test_one_that_left_and_starts_anew_under_its_name_owes_a_proof(self) -> None:
        gone = world(instance("x"), instance("y", heartbeat_at=5, state=InstanceState.LEFT))
        state = opened(hit(), where=gone)
        back = world(instance("x"), instance("y", started_at=500, heartbeat_at=501))
        state = after(state, [ack(command_to(state.cases[0], "x"), D, at=10)], at=501, where=back)
        assert state.cases[0].phase.value == "stopping"
        state = after(state, [ack(command_to(state.cases[0], "y"), D, at=510)], at=510, where=back)
        assert state.cases[0].phase.value == "stopped"

    def test_one_that_left_started_anew_and_was_lost_is_unknown(self) -> None:
        gone = world(instance("x", heartbeat_at=90_000), instance("y", heartbeat_at=5, state=InstanceState.LEFT))
        state = opened(hit(), where=gone)
        lost = world(instance("x", heartbeat_at=90_000), instance("y", started_at=500, heartbeat_at=600))
        state = after(state, [ack(command_to(state.cases[0], "x"), D, at=10)], at=90_001, where=lost)
        assert state.cases[0].phase.value == "stopping"
        assert [(t.standing.value, t.reason) for t in state.cases[0].targets if t.service == "y"] == [
            ("unknown", "heartbeat lost")
        ]

    def test_a_stop_is_claimed_only_once_its_hold_is_on_record(self) -> None:
        """Whoever starts before that reads nothing of it. However long it takes, there is nothing to escalate."""
        unread = dataclasses.replace(world(), is_published=lambda *_: False)
        state = opened(hit(), where=unread)
        case = state.cases[0]
        state = after(state, [ack(command_to(case, s), D) for s in "xy"], where=unread)
        assert state.cases[0].phase.value == "stopping"
        late = case.deadline_at + 1
        there = world(instance("x", heartbeat_at=late), instance("y", heartbeat_at=late))
        state, effects = step(state, Tick(SCOPE), late, dataclasses.replace(there, is_published=unread.is_published))
        assert (state.cases[0].phase.value, effects) == ("stopping", [])
        state, effects = step(state, Tick(SCOPE), late, there)
        assert (state.cases[0].phase.value, state.cases[0].success) == ("stopped", True)

    def test_one_that_was_lost_and_comes_back_under_its_name_is_commanded_again(self) -> None:
        lost = world(instance("x", heartbeat_at=29_000), instance("y"))
        state = after(opened(hit()), [Tick(SCOPE)], at=30_001, where=lost)
        back = world(instance("x", heartbeat_at=29_000), instance("y", started_at=31_000, heartbeat_at=31_001))
        _, effects = step(state, Tick(SCOPE), 31_001, back)
        assert [c.service for c in commands(effects)] == ["y"]

    def test_one_that_came_up_unnoticed_is_asked_before_anything_is_claimed(self) -> None:
        state = opened(hit(), where=world(instance("x"), known=("x",)))
        case = state.cases[0]
        more = world(instance("x"), instance("x", "2"), known=("x",))
        state, effects = step(state, ack(command_to(case, "x"), D), 10, more)
        assert [c.command_id for c in commands(effects)] == [command_to(case, "x").command_id]
        assert state.cases[0].phase.value == "stopping"
        state = after(state, [ack(command_to(case, "x"), D, "2")], where=more)
        assert state.cases[0].phase.value == "stopped"

    def test_one_that_came_up_and_was_lost_unnoticed_leaves_the_stop_unproven(self) -> None:
        """It may be cut off and act all the same."""
        state = opened(hit(), where=world(instance("x"), known=("x",)))
        late = POLICY.heartbeat_lost_ms + 10
        more = world(instance("x", heartbeat_at=late), instance("x", "2"), known=("x",))
        state, effects = step(state, ack(command_to(state.cases[0], "x"), D), late, more)
        assert commands(effects) == []
        assert [(t.instance_id, t.standing.value) for t in state.cases[0].targets] == [
            ("1", "stopped"),
            ("2", "unknown"),
        ]
        assert state.cases[0].phase.value == "stopping"

    def test_an_answer_may_come_before_the_announcement(self) -> None:
        where = world(instance("x"))
        state = opened(hit(), where=where)
        case = state.cases[0]
        state = after(state, [ack(command_to(case, "x"), D), ack(command_to(case, "y"), D, "7")], where=where)
        assert state.cases[0].phase.value == "stopped"

    def test_a_stop_of_a_service_concerns_that_service_alone(self) -> None:
        state = opened(request(scope="service:y"))
        assert [target.service for target in state.cases[0].targets] == ["y"]


class TestRepeatedAndForeign:
    """A message seen again, or that does not fit, changes nothing."""

    @pytest.mark.parametrize("message", [hit(), request()])
    def test_the_same_cause_again(self, message: object) -> None:
        state = opened(message)  # type: ignore[arg-type]
        assert step(state, message, 99, world()) == (state, [])  # type: ignore[arg-type]

    def test_a_further_hit_of_the_trigger_joins(self) -> None:
        state = opened(hit())
        joined, effects = step(state, hit("h2"), 5, world())
        assert joined.cases == state.cases
        assert audits(effects) == ["hit_joined"]
        assert step(joined, hit("h2"), 6, world()) == (joined, [])

    @pytest.mark.parametrize(
        "changes",
        [{"level": StopLevel.IMMEDIATE}, {"target_services": ("y",)}, {"trigger_id": "t2"}],
        ids=["more severe", "other services", "other trigger"],
    )
    def test_a_hit_that_stops_more_is_a_further_cause(self, changes: dict[str, Any]) -> None:
        state = opened(hit(target_services=("x",)))
        state, effects = step(state, hit("h2", **changes), 5, world())
        (hold,) = holds(effects)
        assert (len(hold.causes), hold.epoch) == (2, 2)

    def test_every_request_has_its_own_emergency(self) -> None:
        """Whoever asked computed its id and will look for it."""
        state = after(opened(request("r1")), [request("r2")])
        assert [c.emergency_id for c in state.cases] == [emergency_id(request_cause(r)) for r in ("r1", "r2")]

    @pytest.mark.parametrize("mode", [Mode.WARN, Mode.SHADOW])
    def test_other_modes_are_recorded_only(self, mode: Mode) -> None:
        state, effects = step(ScopeState(SCOPE), hit(mode=mode), 5, world())
        assert state == ScopeState(SCOPE)
        assert [type(effect).__name__ for effect in effects] == ["AuditRecord"]

    def test_with_automatic_stops_off_only_people_stop(self) -> None:
        where = world(policy=dataclasses.replace(POLICY, automatic_stops=False))
        assert audits(step(ScopeState(SCOPE), hit(), 5, where)[1]) == ["hit_shadow"]
        assert holds(step(ScopeState(SCOPE), request(), 5, where)[1])[0].state is HoldState.HELD

    def test_foreign_acknowledgements_raise(self) -> None:
        state = opened(hit())
        good = ack(command_to(state.cases[0], "x"), D)
        with pytest.raises(UnknownEmergencyError):
            step(state, dataclasses.replace(good, emergency_id="e9"), 1, world())
        with pytest.raises(UnknownAckError):
            step(state, dataclasses.replace(good, command_id="c9"), 1, world())
        with pytest.raises(UnknownAckError):
            step(state, dataclasses.replace(good, service="y"), 1, world())
        with pytest.raises(IllegalTransitionError):
            step(state, dataclasses.replace(good, state=AckState.RESUMED), 1, world())
