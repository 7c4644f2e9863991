"""A recovery as time passes and answers come: validation, preparation, restore, monitoring.

Theory of operation. Messages only put on record what was said: an answer to a probe, to a question, a confirmation of
the resume. ``advance`` then draws what follows at a moment, one transition after the other, until nothing more does. So
the order of messages does not matter, and passing time is nothing but another reason to look. Whoever calls it must do
so at ``RecoveryState.due_at`` at the latest. A phase that ran out of time, and a look that finds a doubt, fail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from emergency_stop.coordinate.bounds import listed
from emergency_stop.coordinate.dependencies import tiers
from emergency_stop.coordinate.lifecycle import Change
from emergency_stop.coordinate.recovery_checks import began_anew, doubt, targets_of
from emergency_stop.coordinate.recovery_probes import named, probed, refused, unanswered
from emergency_stop.coordinate.recovery_questions import answer_of, asked_anew
from emergency_stop.coordinate.recovery_records import changed, moved, recovery_note, to_wire_recovery, under_way
from emergency_stop.coordinate.recovery_restore import begin_step, confirm, monitor, restore, watch_step
from emergency_stop.coordinate.recovery_rollback import fail
from emergency_stop.coordinate.recovery_state import planned
from emergency_stop.coordinate.resume import held_services
from emergency_stop.coordinate.state import Case, Effect, ScopeState, World
from emergency_stop.coordinate.tables import RecoveryEvent, Stage
from emergency_stop.domain.values import ConditionState

Look = Callable[[ScopeState, Case, int, World], Change]


def advance(state: ScopeState, emergency_id: str, now_ms: int, world: World) -> Change:
    """Everything that follows now for the recovery of an emergency; nothing where none is under way."""
    effects: list[Effect] = []
    while True:
        case = state.case(emergency_id)
        if case is None or case.recovering is None:
            return state, effects
        after, more = _LOOKS[case.recovering.stage](state, case, now_ms, world)
        effects += more
        if after is state:
            return state, effects
        state = after


def _validate(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    recovery = under_way(case)
    if recovery.checks_passed >= recovery.procedure.checks:
        return _prepare(state, case, now_ms, world)
    if now_ms >= recovery.deadline_at:
        limit = recovery.procedure.validation_timeout_ms
        return fail(state, case, f"not beyond doubt within {limit} ms: {recovery.detail}", now_ms, world)
    if recovery.asked is not None and recovery.asked.state is not None:
        return _conclude(state, case, now_ms, world)
    if now_ms >= recovery.look_at:
        return _check(state, case, now_ms, world)
    return state, []


def _check(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    """One look at all that the coordinator knows itself; where nothing speaks against it, a detector is asked."""
    recovery = under_way(case)
    passed = 0 if recovery.asked is not None else recovery.checks_passed  # nobody answered the last question
    why = doubt(state, case, world, now_ms)
    case = changed(case, asked=None, look_at=now_ms + recovery.procedure.interval_ms, checks_passed=passed)
    if why:
        return _checked(state, case, 0, why)
    if case.trigger_id is None:
        return _checked(state, case, passed + 1, "every check passed so far")
    unheard = f"no detector answered how {case.trigger_id} stands" if recovery.asked is not None else recovery.detail
    asked, question = asked_anew(case, recovery.recovery_id, now_ms)
    case = changed(case, asked=asked, detail=unheard)
    return state.with_case(case), [question, *([to_wire_recovery(case)] if recovery.asked else [])]


def _conclude(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    """The detector has answered; what else is known must still hold at this moment."""
    recovery = under_way(case)
    condition, said = answer_of(recovery.asked)
    case = changed(case, asked=None)
    if condition is not ConditionState.CLEAR:
        return _checked(state, case, 0, said)
    why = doubt(state, case, world, now_ms)
    return _checked(state, case, 0 if why else recovery.checks_passed + 1, why or said)


def _checked(state: ScopeState, case: Case, passed: int, detail: str) -> Change:
    case = changed(case, checks_passed=passed, detail=detail)
    return state.with_case(case), [to_wire_recovery(case)]


def _prepare(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    """Every service prepares, and admits nothing yet."""
    limit = under_way(case).procedure.preparation_timeout_ms
    deadline_at, services = now_ms + limit, targets_of(case, world)
    case = moved(
        case, RecoveryEvent.VALIDATED, now_ms, deadline_at=deadline_at, look_at=deadline_at, asked=None,
        detail=f"waits until {listed(services)} are prepared",
    )  # fmt: skip
    case, sent = probed(state, case, services, 0, deadline_at, now_ms, world)
    note = recovery_note(case, Stage.PREPARATION.value, world.policy.issued_by, now_ms)
    return state.with_case(case), [note, to_wire_recovery(case), *sent]


def _await_prepared(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    recovery = under_way(case)
    owing = unanswered(recovery.probes, world, now_ms)
    why = refused(recovery.probes) or began_anew(recovery, world, now_ms) or doubt(state, case, world, now_ms)
    if why:
        return fail(state, case, why, now_ms, world)
    if owing and now_ms >= recovery.deadline_at:
        return fail(state, case, f"no answer to the probe in time from {named(owing)}", now_ms, world)
    if owing:
        return state, []
    others = [other for other in state.in_force if other is not case]
    free = [service for service in targets_of(case, world) if service not in held_services(others, world)]
    plan = planned(tiers(free, world.services.depends_on(world.policy.dependencies)), recovery.procedure.shares)
    case = changed(case, plan=plan)
    if not plan:
        return restore(state, case, now_ms, world)
    return begin_step(state, case, now_ms, world)


_LOOKS: Final[Mapping[Stage, Look]] = {
    Stage.VALIDATION: _validate,
    Stage.PREPARATION: _await_prepared,
    Stage.GRADUAL_RESTORE: watch_step,
    Stage.FULL_RESTORE: confirm,
    Stage.MONITORING: monitor,
}
