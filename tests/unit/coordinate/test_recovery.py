"""How a recovery begins, is validated and prepared; the times are those of ``recovering.QUICK``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from emergency_stop.coordinate.tables import Phase
from emergency_stop.domain.messages import AuditRecord, Recovery, Share
from emergency_stop.domain.values import (
    AckState,
    Action,
    ConditionState,
    EmergencyState,
    InstanceState,
    RecoveryOutcome,
    RecoveryPhase,
)
from tests.unit.coordinate.recovering import Scene, failed_in, hold_of_everything
from tests.unit.coordinate.scenario import (
    ack,
    audits,
    command_to,
    emergencies,
    hit,
    holds,
    instance,
)

UNDER_WAY = RecoveryOutcome.UNDER_WAY


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
        assert scene.told.outcome is RecoveryOutcome.ROLLED_BACK

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
        assert scene.told.outcome is RecoveryOutcome.ROLLED_BACK

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
