"""A recovery, phase by phase; the times are those of ``recovering.QUICK``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from emergency_stop.coordinate.lifecycle import Admit
from emergency_stop.coordinate.publication import publishable
from emergency_stop.coordinate.recovery_procedures import Gate
from emergency_stop.coordinate.snapshot import read_scope, scope_key, scope_record
from emergency_stop.coordinate.tables import Phase
from emergency_stop.domain.messages import AuditRecord, ConditionQuestion, Emergency, Hold, Recovery, Share
from emergency_stop.domain.values import (
    AckState,
    Action,
    ClearRule,
    ConditionState,
    EmergencyState,
    HoldState,
    InstanceState,
    RecoveryOutcome,
    RecoveryPhase,
    StopLevel,
)
from tests.unit.coordinate.recovering import POLICY, Scene
from tests.unit.coordinate.scenario import (
    SCOPE,
    ack,
    audits,
    command_to,
    commands,
    emergencies,
    hit,
    holds,
    instance,
    request,
    resume,
)

UNDER_WAY, ROLLED_BACK = RecoveryOutcome.UNDER_WAY, RecoveryOutcome.ROLLED_BACK


def failed_in(scene: Scene, phase: RecoveryPhase, why: str) -> None:
    assert (scene.told.outcome, scene.told.phase) == (ROLLED_BACK, phase)
    assert why in scene.told.detail
    assert scene.told.shares == ()


class TestBeginning:
    def test_it_is_on_record_with_its_procedure_and_reasons(self) -> None:
        scene = Scene()
        effects = scene.recovers(procedure="quick")
        assert audits(effects)[0] == "recovery_started"
        assert emergencies(effects)[0].state is EmergencyState.RECOVERING
        first = next(effect for effect in effects if isinstance(effect, Recovery))
        assert (first.procedure, first.started_by, first.attempt, first.outcome) == ("quick", "ann", 1, UNDER_WAY)
        assert first.reasons == ("named by ann", "asked for: looks wrong")
        assert holds(effects) == [], "nothing runs yet"

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"procedure": "quik"}, "procedure 'quik' is unknown (did you mean 'quick'?)"),
            ({"emergency_id": "e9"}, "emergency e9 does not hold this scope"),
            ({"epoch": 0}, "a newer stop has epoch 1"),
        ],
    )
    def test_refusals(self, changes: dict[str, Any], why: str) -> None:
        scene = Scene()
        (note,) = scene.recovers(**changes)
        assert isinstance(note, AuditRecord)
        assert note.action == "recovery_refused"
        assert why in note.reason
        assert scene.case.recovery is None

    @pytest.mark.parametrize("changes", [{"latched": True}, {"phase": Phase.STOPPING}, {"phase": Phase.QUEUED}])
    def test_what_is_latched_or_not_stopped_yet_is_refused(self, changes: dict[str, Any]) -> None:
        scene = Scene()
        scene.state = replace(scene.state, cases=(replace(scene.case, **changes),))
        assert audits(scene.recovers()) == ["recovery_refused"]

    def test_the_newest_emergency_of_a_scope_recovers_first(self) -> None:
        scene = Scene()
        scene.hears(hit("h2", trigger_id="t2"))
        older, newer = scene.state.cases
        (note,) = scene.recovers(emergency_id=older.emergency_id)
        assert isinstance(note, AuditRecord)
        assert f"emergency {newer.emergency_id} holds the scope since a later epoch, 2" in note.reason

    def test_one_recovery_at_a_time(self) -> None:
        scene = Scene()
        scene.recovers()
        assert audits(scene.recovers("another")) == ["recovery_refused"]

    def test_the_same_request_again_changes_nothing(self) -> None:
        scene = Scene()
        scene.recovers()
        assert scene.recovers() == []


class TestValidation:
    def test_so_many_checks_in_a_row(self) -> None:
        """First check ─1 s─ second check: validated"""
        scene = Scene()
        scene.recovers()
        assert (scene.told.phase, scene.told.checks_passed) == (RecoveryPhase.VALIDATION, 1)
        scene.waits(900)
        assert scene.told.checks_passed == 1
        scene.waits(100)
        assert scene.told.phase is RecoveryPhase.PREPARATION

    @pytest.mark.parametrize(
        ("harm", "why"),
        [
            (lambda s: s.changes("x", healthy=False, problem="no proxies"), "x/1 is not healthy: no proxies"),
            (lambda s: s.loses("y"), "y/1: heartbeat lost"),
            (lambda s: s.changes("y", state=InstanceState.LEFT), "y: no instance of it is alive"),
            (lambda s: s.changes("x", depends_on=("database",)), "database: no instance of it is alive"),
            (lambda s: s.instances.append(replace(instance("z"), healthy=False)), "z/1 is not healthy"),
            (lambda s: s.instances.append(instance("z")), "z is not one of the configured services"),
            (lambda s: s.wide.update({"global": hold_of_everything()}), "global is held at epoch 7"),
            (lambda s: s.wide.update({"service:x": replace(hold_of_everything(), scope="service:x")}), "service:x is"),
        ],
    )
    def test_a_doubt_sets_the_count_back_and_lasting_doubt_fails(self, harm: Callable[[Scene], None], why: str) -> None:
        scene = Scene()
        scene.recovers()
        harm(scene)
        scene.now += 1_000
        scene.hears_tick()
        assert (scene.told.checks_passed, scene.told.outcome) == (0, UNDER_WAY)
        assert why in scene.told.detail
        for _ in range(4):
            scene.now += 1_000
            scene.hears_tick()
        failed_in(scene, RecoveryPhase.VALIDATION, f"not beyond doubt within 5000 ms: {why}")
        assert (scene.case.phase, scene.state.epoch) == ("stopped", 1), "nothing ran, so nothing was stopped anew"

    def test_an_instance_that_never_proved_its_stop_is_a_doubt(self) -> None:
        scene = Scene()
        scene.hears(ack(command_to(scene.case, "x"), AckState.FAILED, at=2, reason="stuck"))
        scene.recovers()
        assert "x/1 never proved its stop: stuck" in scene.told.detail
        scene.waits(5_000)
        assert scene.case.phase == "partial"
        assert scene.told.outcome is ROLLED_BACK

    def test_a_trigger_s_condition_must_be_seen_clear_at_every_check(self) -> None:
        scene = Scene(hit())
        scene.recovers()
        assert scene.question().trigger_id == "t1"
        assert scene.told.checks_passed == 0
        scene.detector(ConditionState.CLEAR)
        assert scene.told.checks_passed == 1
        scene.waits(1_000)
        scene.detector(ConditionState.CLEAR)
        assert scene.told.phase is RecoveryPhase.PREPARATION

    @pytest.mark.parametrize("state", [ConditionState.HOLDS, ConditionState.UNKNOWN, None])
    def test_no_other_answer_passes_nor_none(self, state: ConditionState | None) -> None:
        scene = Scene(hit())
        scene.recovers()
        scene.detector(ConditionState.CLEAR)
        scene.waits(1_000)
        if state is not None:
            scene.detector(state)
        scene.waits(1_000)
        assert scene.told.checks_passed == 0
        scene.waits(4_000)
        assert scene.told.outcome is ROLLED_BACK

    def test_an_answer_to_an_earlier_question_says_nothing(self) -> None:
        scene = Scene(hit())
        scene.recovers()
        first = scene.question()
        scene.waits(1_000)
        late = scene.question()
        assert late.question_id != first.question_id
        before = scene.state
        scene.effects.append(first)
        scene.detector(ConditionState.CLEAR)
        assert scene.state is before


class TestPreparation:
    def test_every_service_is_probed_with_no_share(self) -> None:
        scene = Scene().validated()
        assert [(one.service, one.share_percent, one.epoch) for one in scene.sent(Action.PROBE)] == [
            ("x", 0, 1),
            ("y", 0, 1),
        ]
        assert scene.state.epoch == 1

    def test_a_refusal_fails_it(self) -> None:
        scene = Scene().validated()
        scene.answers(AckState.READY, "x")
        scene.hears(ack(scene.sent(Action.PROBE)[1], AckState.REFUSED, reason="no session"))
        failed_in(scene, RecoveryPhase.PREPARATION, "y/1 refuses: no session")
        assert (scene.case.phase, scene.state.epoch) == ("stopped", 1)

    def test_silence_fails_it(self) -> None:
        scene = Scene().validated()
        scene.answers(AckState.READY, "x")
        scene.waits(3_000)
        failed_in(scene, RecoveryPhase.PREPARATION, "no answer to the probe in time from y/1")

    def test_having_received_a_probe_is_no_answer_and_a_refusal_is_not_taken_back(self) -> None:
        scene = Scene().validated()
        scene.answers(AckState.RECEIVED)
        assert scene.told.phase is RecoveryPhase.PREPARATION
        scene.answers(AckState.STOPPED, "x")
        failed_in(scene, RecoveryPhase.PREPARATION, "x/1 refuses: answered stopped to a probe")
        before = scene.state
        scene.answers(AckState.READY, "x")
        assert scene.state is before

    def test_one_that_left_need_not_answer_while_another_lives(self) -> None:
        scene = Scene()
        scene.instances.append(instance("x", "2"))
        scene.validated()
        scene.answers(AckState.READY)
        before = len(holds(scene.effects))
        scene.instances[-1] = replace(scene.instances[-1], state=InstanceState.LEFT)
        scene.waits(100)
        assert (before, scene.told.shares) == (0, (Share("x", 10),))


class TestGradualRestore:
    def test_each_step_is_a_new_epoch_that_admits_more_dependencies_first(self) -> None:
        scene = Scene().eased(4)
        eased = [hold for hold in holds(scene.effects) if hold.state is HoldState.HELD]
        assert [(hold.epoch, hold.causes[0].epoch, hold.causes[0].shares) for hold in eased] == [
            (2, 1, (Share("x", 10),)),
            (3, 1, (Share("x", 100),)),
            (4, 1, (Share("x", 100), Share("y", 10))),
            (5, 1, (Share("x", 100), Share("y", 100))),
        ]
        probes = scene.sent(Action.PROBE)[2:]
        assert [(one.service, one.share_percent, one.epoch) for one in probes] == [
            ("x", 10, 2),
            ("x", 100, 3),
            ("y", 10, 4),
            ("y", 100, 5),
        ]

    def test_what_eases_is_on_record_before_it_is_published(self) -> None:
        scene = Scene().prepared()
        order = [type(effect) for effect in publishable(scene.effects)]
        first = next(number for number, effect in enumerate(scene.effects) if isinstance(effect, Hold))
        assert scene.effects[first].causes[0].shares  # type: ignore[union-attr]  # a hold
        assert "recovery_eased" in audits(scene.effects[:first])
        assert order.index(Hold) > order.index(AuditRecord), "it shuts nothing, so it does not go first"

    def test_a_share_is_watched_for_its_whole_soak(self) -> None:
        scene = Scene().prepared()
        scene.answers(AckState.READY, "x")
        scene.waits(1_900)
        assert scene.told.shares == (Share("x", 10),)
        scene.waits(100)
        assert scene.told.shares == (Share("x", 100),)

    @pytest.mark.parametrize(
        ("harm", "why"),
        [
            (lambda s: s.answers(AckState.REFUSED, "x"), "x/1 refuses"),
            (lambda s: s.waits(3_000), "no answer to the probe in time from x/1"),
            (lambda s: s.changes("y", healthy=False), "y/1 is not healthy: it does not say why"),
            (lambda s: s.changes("x", started_at=5), "x/1 was started anew meanwhile"),
            (lambda s: s.changes("x", actions=20, failed_actions=4), "4 of 20 actions failed, more than 10 %"),
            (lambda s: s.wide.update({"global": hold_of_everything()}), "global is held"),
        ],
    )
    def test_a_failure_stops_it_anew(self, harm: Callable[[Scene], None], why: str) -> None:
        scene = Scene().prepared()
        before = len(scene.effects)
        harm(scene)
        scene.waits(1_000)
        failed_in(scene, RecoveryPhase.GRADUAL_RESTORE, why)
        effects = scene.effects[before:]
        hold = holds(effects)[-1]
        assert (hold.epoch, hold.causes[0].epoch, hold.causes[0].shares) == (3, 3, ())
        assert [(one.service, one.action, one.level, one.epoch) for one in commands(effects)] == [
            ("x", Action.STOP, StopLevel.GRACEFUL, 3),
            ("y", Action.STOP, StopLevel.GRACEFUL, 3),
        ]
        assert (scene.case.phase, scene.state.stop_epoch) == ("stopping", 3)

    def test_few_failures_tell_nothing(self) -> None:
        scene = Scene().prepared()
        scene.answers(AckState.READY, "x")
        scene.changes("x", actions=2, failed_actions=2)
        scene.waits(1_000)
        assert scene.told.outcome is UNDER_WAY

    def test_what_was_rolled_back_must_prove_its_stop_again(self) -> None:
        scene = Scene().prepared()
        late = command_to(scene.case, "y")
        scene.answers(AckState.REFUSED, "x")
        before = scene.state
        scene.hears(ack(late, AckState.STOPPED, at=99_999))
        assert scene.state is before, "a proof of the former stop proves nothing"
        for service in "xy":
            scene.hears(ack(command_to(scene.case, service), AckState.STOPPED, at=scene.now + 40))
        assert (scene.case.phase, scene.case.success, scene.case.time_to_stop_ms) == ("stopped", True, 40)

    def test_the_gate_of_a_procedure_may_ask_for_the_condition_again(self) -> None:
        (quick,) = POLICY.procedures
        strict = replace(quick, gates=(Gate.CONDITION,))
        scene = Scene(hit(), replace(POLICY, procedures=(strict,)))
        scene.recovers()
        for _ in range(2):
            scene.detector(ConditionState.CLEAR)
            scene.waits(1_000)
        scene.answers(AckState.READY)
        scene.answers(AckState.READY, "x")
        scene.waits(2_500)
        assert scene.told.shares == (Share("x", 10),), "the gate waits for the answer"
        scene.detector(ConditionState.CLEAR)
        scene.waits(1_000)
        assert scene.told.shares == (Share("x", 100),)
        scene.answers(AckState.READY, "x")
        scene.waits(3_000)
        failed_in(scene, RecoveryPhase.GRADUAL_RESTORE, "no detector answered how t1 stands")

    def test_what_another_emergency_holds_is_not_admitted_and_the_newest_recovers_first(self) -> None:
        scene = Scene(hit())
        scene.hears(request("narrow", services=("y",)))
        scene.hears(Admit(SCOPE, scene.state.cases[1].emergency_id))
        scene.hears(ack(command_to(scene.state.cases[1], "y"), AckState.STOPPED))
        scene.recovers()
        scene.waits(1_000)
        scene.answers(AckState.READY, "y")
        assert scene.told.emergency_id == scene.state.cases[1].emergency_id
        assert scene.told.outcome is RecoveryOutcome.COMPLETED
        assert scene.told.detail == "other emergencies hold all its services still"
        hold = holds(scene.effects)[-1]
        assert (hold.state, [cause.emergency_id for cause in hold.causes]) == (
            HoldState.HELD,
            [scene.case.emergency_id],
        )
        assert scene.sent(Action.RESUME) == []
        assert scene.validated(by="next").told.phase is RecoveryPhase.PREPARATION


class TestFullRestoreAndMonitoring:
    def test_the_hold_is_lifted_every_instance_confirms_and_it_is_watched(self) -> None:
        scene = Scene().eased(4)
        lifted = holds(scene.effects)[-1]
        assert (lifted.state, lifted.epoch, lifted.causes) == (HoldState.RUNNING, 6, ())
        assert [one.service for one in scene.sent(Action.RESUME)] == ["x", "y"]
        assert scene.told.phase is RecoveryPhase.FULL_RESTORE
        for command in scene.sent(Action.RESUME):
            scene.hears(ack(command, AckState.RESUMED))
        assert (scene.told.phase, scene.case.phase) == (RecoveryPhase.MONITORING, "recovering")
        scene.waits(9_900)
        assert scene.told.outcome is UNDER_WAY
        scene.waits(100)
        assert (scene.told.outcome, scene.told.ended_at) == (RecoveryOutcome.COMPLETED, scene.now)
        assert [e for e in scene.effects if isinstance(e, Emergency)][-1].state is EmergencyState.RESOLVED

    @pytest.mark.parametrize("said", [AckState.REFUSED, None])
    def test_a_resume_that_is_not_confirmed_rolls_back(self, said: AckState | None) -> None:
        scene = Scene().eased(4)
        to_x, to_y = scene.sent(Action.RESUME)
        scene.hears(ack(to_x, AckState.RESUMED))
        if said is not None:
            scene.hears(ack(to_y, said, reason="no session"))
        scene.waits(3_000)
        failed_in(scene, RecoveryPhase.FULL_RESTORE, "y/1")
        assert (holds(scene.effects)[-1].state, scene.case.phase) == (HoldState.HELD, "stopping")

    @pytest.mark.parametrize(
        ("harm", "why"),
        [
            (lambda s: s.hears(hit("h9")), "trigger t1 fired again: 12 < 30"),
            (lambda s: s.changes("x", healthy=False, problem="banned"), "x/1 is not healthy: banned"),
            (lambda s: s.loses("y"), "y/1: heartbeat lost"),
            (lambda s: s.changes("y", actions=10, failed_actions=9), "9 of 10 actions failed"),
        ],
    )
    def test_what_comes_back_while_it_is_watched_rolls_back(self, harm: Callable[[Scene], None], why: str) -> None:
        scene = Scene(hit()).resumed()
        harm(scene)
        scene.now += 1_000
        scene.hears_tick()
        failed_in(scene, RecoveryPhase.MONITORING, why)
        hold = holds(scene.effects)[-1]
        assert (hold.state, hold.epoch, hold.level) == (HoldState.HELD, 7, StopLevel.GRACEFUL)
        assert scene.case.phase == "stopping"

    def test_a_restart_in_good_order_while_it_is_watched_is_no_matter(self) -> None:
        scene = Scene().resumed()
        scene.changes("x", started_at=scene.now, actions=0)
        scene.waits(10_000)
        assert scene.told.outcome is RecoveryOutcome.COMPLETED


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

    def test_it_is_asked_about_ever_more_rarely(self) -> None:
        scene = Scene(hit(clear_rule=self.CLEARS))
        scene.waits(15_000)
        questions = [effect.asked_at for effect in scene.effects if isinstance(effect, ConditionQuestion)]
        assert [b - a for a, b in pairwise(questions)] == [1_000, 2_000, 4_000]

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


def hold_of_everything() -> Hold:
    return Hold("global", 7, HoldState.HELD, StopLevel.GRACEFUL, (), "all of it", 0)
