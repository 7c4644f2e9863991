"""Latches, and holds that one person alone cannot lift."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emergency_stop.coordinate.snapshot import read_scope, scope_key, scope_record
from emergency_stop.coordinate.state import Effect, ScopeState
from emergency_stop.coordinate.step import step
from emergency_stop.coordinate.tables import Phase
from emergency_stop.domain.messages import AuditRecord, Request
from emergency_stop.domain.values import AckState, Action, ClearRule, HoldState
from tests.unit.coordinate.scenario import (
    POLICY,
    SCOPE,
    ack,
    after,
    audits,
    command_to,
    emergencies,
    hit,
    holds,
    opened,
    request,
    resume,
    world,
)

EXPIRY_MS = POLICY.approval_expiry_ms


def reasons(effects: list[Effect]) -> str:
    return " ".join(e.reason for e in effects if isinstance(e, AuditRecord))


class TestLatches:
    """Cause cleared, reset, and start are three steps."""

    def reset(self, epoch: int | None = 1, emergency_id: str | None = None, request_id: str = "s1") -> Request:
        return request(request_id, Action.RESET, epoch=epoch, emergency_id=emergency_id)

    def latched(self) -> ScopeState:
        return opened(hit(clear_rule=ClearRule.AFTER_OPERATOR_RESET))

    @pytest.mark.parametrize("rule", list(ClearRule))
    def test_a_hit_latches_where_its_trigger_says_so(self, rule: ClearRule) -> None:
        state, effects = step(ScopeState(SCOPE), hit(clear_rule=rule), 0, world())
        assert state.cases[0].latched is emergencies(effects)[0].latched is (rule is ClearRule.AFTER_OPERATOR_RESET)

    def test_nothing_lifts_it_before_a_reset_and_the_refusal_says_what_to_do(self) -> None:
        state, effects = step(self.latched(), resume("r1", 1), 5, world())
        assert audits(effects) == ["resume_refused"]
        assert "reset it (estop reset EMERGENCY)" in reasons(effects)
        assert state.in_force

    def test_a_reset_is_on_record_lifts_nothing_and_lets_a_resume_through(self) -> None:
        state, effects = step(self.latched(), self.reset(), 5, world())
        assert audits(effects) == ["reset"]
        assert holds(effects) == []
        assert [e.latched for e in emergencies(effects)] == [False]
        assert state.epoch == 1
        _, effects = step(state, resume("r1", 1), 6, world())
        assert holds(effects)[0].state is HoldState.RUNNING

    @pytest.mark.parametrize(
        ("epoch", "emergency_id", "why"),
        [
            (None, None, "no epoch named"),
            (0, None, "a newer stop has epoch 1"),
            (2, None, "has only reached 1"),
            (1, "e9", "does not hold this scope"),
        ],
    )
    def test_a_reset_names_what_it_resets(self, epoch: int | None, emergency_id: str | None, why: str) -> None:
        state, effects = step(self.latched(), self.reset(epoch, emergency_id), 5, world())
        assert audits(effects) == ["reset_refused"]
        assert why in reasons(effects)
        assert state.cases[0].latched

    def test_a_hit_after_the_reset_latches_anew(self) -> None:
        """The cause is not gone: whoever resumes must look again."""
        state = after(self.latched(), [self.reset()])
        state, effects = step(state, hit("h2", clear_rule=ClearRule.AFTER_OPERATOR_RESET), 6, world())
        assert audits(effects) == ["hit_joined"]
        assert [e.latched for e in emergencies(effects)] == [True]
        assert audits(step(state, resume("r1", 1), 7, world())[1]) == ["resume_refused"]

    def test_a_second_reset_finds_nothing(self) -> None:
        state = after(self.latched(), [self.reset()])
        assert audits(step(state, self.reset(request_id="s2"), 6, world())[1]) == ["reset_refused"]

    def test_others_of_the_scope_may_be_lifted_by_name(self) -> None:
        state = after(self.latched(), [request("r0")])
        other = state.cases[1]
        assert audits(step(state, resume("r1", 2), 6, world())[1]) == ["resume_refused"]
        assert audits(step(state, resume("r2", 2, other.emergency_id), 6, world())[1]) == ["resumed"]


class TestTwoPeople:
    """A hold of everything is lifted by two."""

    def ask(self, by: str, epoch: int = 1, emergency_id: str | None = None, action: Action = Action.RESUME) -> Request:
        return request(
            f"{by}-{action.value}-{epoch}-{emergency_id}", action, "global", requested_by=by, epoch=epoch,
            emergency_id=emergency_id,
        )  # fmt: skip

    def held(self) -> ScopeState:
        return opened(request("r0", scope="global"))

    def test_the_first_word_is_kept_and_the_second_lifts_the_hold(self) -> None:
        state, effects = step(self.held(), self.ask("ann"), 100, world())
        assert (audits(effects), holds(effects)) == (["resume_approved"], [])
        assert "1 of 2 people" in reasons(effects)
        assert state.in_force
        state, effects = step(state, self.ask("ben"), 200, world())
        assert holds(effects)[0].state is HoldState.RUNNING
        assert isinstance(effects[0], AuditRecord)
        assert effects[0].reason == "looks wrong, with ann"
        assert state.approvals == ()

    @pytest.mark.parametrize("again", ["ann", " Ann ", "ANN"])
    def test_the_same_person_twice_is_one(self, again: str) -> None:
        state = after(self.held(), [self.ask("ann")], at=100)
        state, effects = step(state, replace(self.ask(again), request_id="other"), 200, world())
        assert audits(effects) == ["resume_approved"]
        assert len(state.approvals) == 1

    @pytest.mark.parametrize(
        # the second word comes         ends the hold
        ("after_ms", "lifted"),
        [(EXPIRY_MS - 1, True), (EXPIRY_MS, False)],
    )
    def test_a_word_expires(self, after_ms: int, *, lifted: bool) -> None:
        state = after(self.held(), [self.ask("ann")], at=100)
        _, effects = step(state, self.ask("ben"), 100 + after_ms, world())
        assert bool(holds(effects)) is lifted

    def test_a_newer_stop_voids_it(self) -> None:
        state = after(self.held(), [self.ask("ann"), request("r9", scope="global")])
        state, effects = step(state, self.ask("ben", epoch=2), 5, world())
        assert audits(effects) == ["resume_approved"]
        _, effects = step(state, self.ask("ann", epoch=2), 6, world())
        assert audits(effects) == ["resumed"]

    def test_nobody_approves_of_more_than_was_asked(self) -> None:
        state = after(self.held(), [request("r9", scope="global")])
        one = state.cases[0].emergency_id
        state = after(state, [self.ask("ann", 2, one)])
        state, effects = step(state, self.ask("ben", 2), 5, world())
        assert audits(effects) == ["resume_approved"]
        _, effects = step(state, self.ask("ben", 2, one), 6, world())
        assert audits(effects) == ["resumed"]
        assert len(holds(effects)[0].causes) == 1

    def test_it_survives_a_restart(self) -> None:
        state = after(self.held(), [self.ask("ann")], at=100)
        again, _ = read_scope(scope_key("global"), scope_record(state))
        assert again == state
        assert holds(step(again, self.ask("ben"), 200, world())[1])

    def test_a_repeated_request_is_no_second_word(self) -> None:
        state = after(self.held(), [self.ask("ann")], at=100)
        assert step(state, self.ask("ann"), 200, world()) == (state, [])

    @pytest.mark.parametrize(("scope", "needed"), [("service:x", 1), ("account:a", 1)])
    def test_narrower_holds_need_one(self, scope: str, needed: int) -> None:
        state = opened(request("r0", scope=scope))
        assert len(holds(step(state, resume("r1", 1, scope=scope), 5, world())[1])) == needed

    @pytest.mark.parametrize("people", [1, 3])
    def test_how_many_is_a_setting(self, people: int) -> None:
        where = world(policy=replace(POLICY, global_resume_people=people))
        state, lifted = self.held(), list[bool]()
        for name in ("ann", "ben", "cyd")[:people]:
            state, effects = step(state, self.ask(name), 5, where)
            lifted.append(bool(holds(effects)))
        assert lifted == [*(False for _ in range(people - 1)), True]

    def test_anyone_may_stop_alone(self) -> None:
        assert len(holds(step(ScopeState("global"), request("r0", scope="global"), 0, world())[1])) == 1

    def test_what_is_latched_needs_its_reset_first(self) -> None:
        state = opened(hit(scope="global", account_id=None, clear_rule=ClearRule.AFTER_OPERATOR_RESET))
        state, effects = step(state, self.ask("ann"), 5, world())
        assert audits(effects) == ["resume_refused"]
        assert state.approvals == ()

    def test_a_recovery_of_everything_needs_two_as_well_and_its_own_words(self) -> None:
        state = self.held()
        state = after(state, [ack(command_to(state.cases[0], s), AckState.STOPPED) for s in "xy"])
        state = after(state, [self.ask("ann")], at=100)
        state, effects = step(state, self.ask("ben", action=Action.RECOVER), 200, world())
        assert audits(effects) == ["recover_approved"], "a word for a resume is none for a recovery"
        state, effects = step(state, self.ask("ann", action=Action.RECOVER), 300, world())
        assert state.cases[0].phase is Phase.RESTORING
        assert any("with ben" in reason for reason in state.cases[0].recovery.reasons)  # type: ignore[union-attr]
        assert state.approvals == ()

    def test_a_recovery_of_everything_names_its_epoch(self) -> None:
        state = self.held()
        state = after(state, [ack(command_to(state.cases[0], s), AckState.STOPPED) for s in "xy"])
        asked = replace(self.ask("ann", action=Action.RECOVER), epoch=None)
        _, effects = step(state, asked, 200, world())
        assert audits(effects) == ["recovery_refused"]
        assert "no epoch named" in reasons(effects)

    def test_what_is_latched_does_not_recover_before_its_reset(self) -> None:
        state = opened(hit(clear_rule=ClearRule.AFTER_OPERATOR_RESET))
        state = after(state, [ack(command_to(state.cases[0], s), AckState.STOPPED) for s in "xy"])
        _, effects = step(state, request("r1", Action.RECOVER, epoch=1), 5, world())
        assert audits(effects) == ["recovery_refused"]
        assert "estop reset EMERGENCY" in reasons(effects)
        state = after(state, [request("s1", Action.RESET, epoch=1)])
        state, _ = step(state, request("r2", Action.RECOVER, epoch=1), 6, world())
        assert state.cases[0].phase is Phase.RESTORING
