"""What else ends a recovery, what begins one, and what of it survives."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from emergency_stop.coordinate.snapshot import read_scope, scope_key, scope_record
from emergency_stop.domain.messages import AuditRecord, ConditionQuestion
from emergency_stop.domain.values import (
    AckState,
    Action,
    ClearRule,
    ConditionState,
    HoldState,
    RecoveryOutcome,
    RecoveryPhase,
    StopLevel,
)
from tests.unit.coordinate.recovering import POLICY, Scene, failed_in
from tests.unit.coordinate.scenario import (
    SCOPE,
    ack,
    audits,
    emergencies,
    hit,
    holds,
    request,
    resume,
)

UNDER_WAY = RecoveryOutcome.UNDER_WAY


class TestOvertaken:
    def test_a_hit_of_the_cause_fails_a_recovery_that_admitted_nothing(self) -> None:
        scene = Scene(hit())
        scene.recovers()
        effects = scene.hears(hit("h2"))
        failed_in(scene, RecoveryPhase.VALIDATION, "trigger t1 fired again")
        assert (scene.case.phase, len(scene.state.cases), holds(effects)) == ("stopped", 1, [])
        assert "hit_joined" in audits(effects)

    def test_a_graver_hit_of_the_cause_opens_its_own_emergency_as_well(self) -> None:
        scene = Scene(hit()).resumed()
        scene.hears(hit("h2", level=StopLevel.IMMEDIATE))
        assert [case.phase for case in scene.state.cases] == ["stopping", "queued"]
        hold = holds(scene.effects)[-1]
        assert (hold.level, [cause.epoch for cause in hold.causes]) == (StopLevel.IMMEDIATE, [7, 8])

    @pytest.mark.parametrize("steps", [0, 2])
    def test_a_newer_stop_shuts_what_is_half_open(self, steps: int) -> None:
        scene = Scene().eased(steps)
        effects = scene.hears(request("newer", services=("y",)))
        assert scene.told.outcome is RecoveryOutcome.ABANDONED
        hold = holds(effects)[-1]
        assert [cause.shares for cause in hold.causes] == [(), ()]
        assert hold.causes[0].epoch > 1, "its services owe their proof anew"
        assert (scene.case.failed_recoveries, scene.case.phase) == (0, "stopping")

    def test_a_newer_stop_leaves_what_never_ran_as_it_is(self) -> None:
        scene = Scene().validated()
        scene.hears(request("newer"))
        assert (scene.told.outcome, scene.case.phase) == (RecoveryOutcome.ABANDONED, "stopped")
        assert scene.case.epoch == 1

    def test_a_newer_stop_ends_the_watch(self) -> None:
        scene = Scene().resumed()
        scene.hears(request("newer"))
        assert (scene.told.outcome, scene.case.phase) == (RecoveryOutcome.ABANDONED, "resolved")
        assert holds(scene.effects)[-1].state is HoldState.HELD

    def test_a_person_s_resume_overtakes_it(self) -> None:
        scene = Scene().eased(1)
        scene.hears(resume("now", epoch=1))
        assert scene.told.outcome is RecoveryOutcome.ABANDONED
        assert (scene.case.phase, holds(scene.effects)[-1].state) == ("recovering", HoldState.RUNNING)
        for command in scene.sent(Action.RESUME):
            scene.hears(ack(command, AckState.RESUMED))
        assert scene.case.phase == "resolved"


class TestFailures:
    def test_the_third_latches(self) -> None:
        scene = Scene()
        for attempt in range(1, 4):
            assert not scene.case.latched
            scene.hears(request(f"recover{attempt}", Action.RECOVER))
            assert scene.told.attempt == attempt
            scene.waits(1_000)
            scene.answers(AckState.REFUSED, "x")
        assert (scene.case.latched, scene.case.failed_recoveries) == (True, 3)
        assert "it must be reset before the next" in scene.told.detail
        assert audits(scene.hears(request("recover4", Action.RECOVER))) == ["recovery_refused"]
        assert emergencies(scene.effects)[-1].latched

    def test_after_a_reset_there_are_three_more(self) -> None:
        scene = Scene(hit(clear_rule=ClearRule.WHEN_CONDITION_CLEARS))
        scene.state = replace(scene.state, cases=(replace(scene.case, failed_recoveries=2),))
        scene.recovers()
        scene.hears(hit("h2"))
        assert (scene.case.latched, scene.case.recover_at) == (True, None)
        scene.hears(request("reset", Action.RESET, epoch=scene.state.epoch))
        assert (scene.case.latched, scene.case.recover_at) == (False, scene.now), "it may recover by itself again"
        scene.recovers("again")
        scene.hears(hit("h3"))
        assert (scene.case.latched, scene.case.failed_recoveries) == (False, 4)

    def test_a_second_attempt_has_commands_of_its_own(self) -> None:
        scene = Scene().validated()
        scene.answers(AckState.REFUSED, "x")
        scene.hears(request("again", Action.RECOVER))
        scene.waits(1_000)
        ids = [command.command_id for command in scene.sent(Action.PROBE)]
        assert len(ids) == len(set(ids)) == 4


class TestByItself:
    CLEARS = ClearRule.WHEN_CONDITION_CLEARS

    def test_it_begins_when_the_condition_is_seen_clear(self) -> None:
        scene = Scene(hit(clear_rule=self.CLEARS))
        scene.waits(100)
        scene.detector(ConditionState.HOLDS)
        assert scene.case.recovery is None
        scene.waits(1_000)
        scene.detector(ConditionState.CLEAR)
        assert (scene.told.started_by, scene.told.outcome) == ("coordinator-test", UNDER_WAY)
        assert scene.told.reasons[-1] == "the condition is clear: as seen"

    @pytest.mark.parametrize("rule", [ClearRule.AFTER_OPERATOR_RESET, ClearRule.NEVER_AUTOMATICALLY])
    def test_only_where_the_rule_says_so(self, rule: ClearRule) -> None:
        scene = Scene(hit(clear_rule=rule))
        scene.waits(5_000)
        assert not [effect for effect in scene.effects if isinstance(effect, ConditionQuestion)]

    def test_not_where_the_setting_forbids_it(self) -> None:
        scene = Scene(hit(clear_rule=self.CLEARS), replace(POLICY, automatic_recovery=False))
        scene.waits(5_000)
        assert not [effect for effect in scene.effects if isinstance(effect, ConditionQuestion)]

    @pytest.mark.parametrize("people", [1, 2])
    def test_what_takes_two_people_to_undo_never_begins_by_itself(self, people: int) -> None:
        cause = hit(scope="global", account_id=None, clear_rule=self.CLEARS)
        scene = Scene(cause, replace(POLICY, global_resume_people=people))
        scene.waits(5_000)
        asked = any(isinstance(effect, ConditionQuestion) for effect in scene.effects)
        assert asked == (people == 1)

    def test_it_is_asked_about_ever_more_rarely(self) -> None:
        scene = Scene(hit(clear_rule=self.CLEARS))
        scene.waits(15_000)
        questions = [effect.asked_at for effect in scene.effects if isinstance(effect, ConditionQuestion)]
        assert [b - a for a, b in pairwise(questions)] == [1_000, 2_000, 4_000]

    def test_not_while_stops_wait_for_their_turn(self) -> None:
        scene = Scene(hit(clear_rule=self.CLEARS))
        scene.stops_wait = True
        scene.waits(5_000)
        assert not [effect for effect in scene.effects if isinstance(effect, ConditionQuestion)]
        scene.stops_wait = False
        scene.waits(1_000)
        scene.stops_wait = True
        scene.detector(ConditionState.CLEAR)
        assert scene.case.recovery is None, "the answer came while stops waited again"
        scene.stops_wait = False
        scene.waits(2_000)
        scene.detector(ConditionState.CLEAR)
        assert scene.told.outcome is UNDER_WAY

    def test_not_before_a_newer_emergency_of_the_scope(self) -> None:
        scene = Scene(hit(clear_rule=self.CLEARS))
        scene.waits(100)
        scene.hears(hit("h2", trigger_id="t2"))
        scene.detector(ConditionState.CLEAR)
        assert scene.case.recovery is None

    def test_what_a_newer_stop_ended_begins_again_by_itself(self) -> None:
        scene = Scene(hit(clear_rule=self.CLEARS))
        scene.recovers()
        scene.hears(request("newer"))
        assert (scene.told.outcome, scene.case.phase) == (RecoveryOutcome.ABANDONED, "stopped")
        assert scene.case.recover_at == scene.now

    def test_after_a_failure_it_waits_ever_longer(self) -> None:
        scene = Scene(hit(clear_rule=self.CLEARS))
        for wait_ms in (60_000, 120_000):
            scene.waits(wait_ms, until=lambda: scene.case.asked is not None)
            scene.detector(ConditionState.CLEAR)
            scene.hears(hit(f"h{wait_ms}"))
            assert scene.case.recover_at == scene.now + wait_ms
        assert scene.case.phase == "stopped"


def test_a_recovery_survives_a_restart_at_every_moment() -> None:
    """What is on record is all that there is: the state goes through bytes after every change."""
    scene = Scene(hit())
    step = scene.hears

    def through_bytes(message: object) -> object:
        effects = step(message)
        record = scope_record(scene.state, effects)
        assert read_scope(scope_key(SCOPE), record) == (scene.state, effects)
        scene.state = read_scope(scope_key(SCOPE), record)[0]
        return effects

    scene.hears = through_bytes  # type: ignore[method-assign,assignment]  # the same, by way of bytes
    scene.resumed()
    scene.waits(10_000)
    assert scene.told.outcome is RecoveryOutcome.COMPLETED


def test_what_is_audited_carries_the_emergency_s_correlation() -> None:
    scene = Scene(hit()).resumed()
    notes = [effect for effect in scene.effects if isinstance(effect, AuditRecord)]
    assert {note.correlation_id for note in notes} == {"corr-h1"}
    assert [note.action for note in notes] == [
        "recovery_started",
        "recovery_preparation",
        *["recovery_eased"] * 4,
        "recovery_full_restore",
        "recovery_monitoring",
    ]
    assert len({note.audit_id for note in notes}) == len(notes)
    assert json.loads(notes[-2].after)["hold"] == "running"
