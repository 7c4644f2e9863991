"""What runs again, share by share, and what stops it again; the times are those of ``recovering.QUICK``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from emergency_stop.coordinate.lifecycle import Admit
from emergency_stop.coordinate.publication import publishable
from emergency_stop.coordinate.recovery_procedures import Gate
from emergency_stop.domain.messages import AuditRecord, Emergency, Hold, Share
from emergency_stop.domain.values import (
    AckState,
    Action,
    ConditionState,
    EmergencyState,
    HoldState,
    RecoveryOutcome,
    RecoveryPhase,
    StopLevel,
)
from tests.unit.coordinate.recovering import POLICY, Scene, failed_in, hold_of_everything
from tests.unit.coordinate.scenario import (
    SCOPE,
    ack,
    audits,
    command_to,
    commands,
    hit,
    holds,
    request,
)

UNDER_WAY = RecoveryOutcome.UNDER_WAY


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
