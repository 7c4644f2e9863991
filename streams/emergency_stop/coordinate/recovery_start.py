"""How a recovery begins: asked for by a person, or by itself once the condition was seen clear."""

from __future__ import annotations

from typing import Final

from emergency_stop.coordinate.authority import approve, doubt, latch_refusal, people_needed, supporters
from emergency_stop.coordinate.lifecycle import Change, recovers_by_itself, to_wire_emergency
from emergency_stop.coordinate.recovery_choice import UnknownProcedureError, choose, history_of
from emergency_stop.coordinate.recovery_phases import advance
from emergency_stop.coordinate.recovery_procedures import Procedure
from emergency_stop.coordinate.recovery_questions import asked_anew, heard
from emergency_stop.coordinate.recovery_records import changed, recovery_note, to_wire_recovery
from emergency_stop.coordinate.recovery_state import RecoveryState
from emergency_stop.coordinate.resume import refuse
from emergency_stop.coordinate.state import Case, Effect, ScopeState, World
from emergency_stop.coordinate.tables import EMERGENCY, RECOVERY, EmergencyEvent, Phase
from emergency_stop.domain.frozen import replace
from emergency_stop.domain.ids import derived_id, request_cause
from emergency_stop.domain.messages import ConditionAnswer, Request
from emergency_stop.domain.values import ConditionState

#: While a condition does not clear, it is asked about ever more rarely, but so often at least.
CONDITION_INTERVAL_MS_MAX: Final = 60_000
_REFUSED: Final = "recovery_refused"


def recover(state: ScopeState, request: Request, now_ms: int, world: World) -> Change:
    """Begin the recovery that a person asks for: of the named emergency, or of the newest that holds the scope."""
    case, refusal = _named(state, request)
    if not refusal and request.epoch is None and people_needed(state.scope, world.policy) > 1:
        refusal = doubt(state, request)
    if case is None or refusal:
        return refuse(state, request, refusal, now_ms, action=_REFUSED)
    history, procedures = history_of(state), world.policy.procedures
    try:
        procedure, reasons = choose(case, history, procedures, request.procedure, request.requested_by)
    except UnknownProcedureError as error:
        return refuse(state, request, str(error), now_ms, action=_REFUSED)
    people = supporters(state, request, now_ms, world.policy)
    if len(people) < people_needed(state.scope, world.policy):
        return approve(state, request, now_ms, world.policy)
    state = replace(state, approvals=()).with_seen(request_cause(request.request_id), now_ms)
    asked = f"asked for: {request.reason}" + "".join(f", with {one.approved_by}" for one in people[:-1])
    return start(state, case, procedure, (*reasons, asked), request.requested_by, now_ms, world)


def _epoch(case: Case) -> int:
    return case.epoch


def _named(state: ScopeState, request: Request) -> tuple[Case | None, str]:
    """(the emergency that is to recover, why it may not)."""
    in_force = [case for case in state.in_force if request.emergency_id in (None, case.emergency_id)]
    if not in_force:
        what = f"emergency {request.emergency_id}" if request.emergency_id else "nothing"
        return None, f"{what} holds this scope" if request.emergency_id is None else f"{what} does not hold this scope"
    case, newest = max(in_force, key=_epoch), max(state.in_force, key=_epoch)
    if request.epoch is not None and request.epoch < state.stop_epoch:
        return case, f"epoch {request.epoch} was named, but a newer stop has epoch {state.stop_epoch}; look at it first"
    under_way = next((other for other in state.cases if other.recovering is not None), None)
    if under_way is not None:
        return case, f"a recovery of emergency {under_way.emergency_id} is under way already; wait for its end"
    if newest is not case:
        return (
            case,
            f"emergency {newest.emergency_id} holds the scope since a later epoch, {newest.epoch}: recover it first",
        )
    if case.latched:
        return case, latch_refusal([case])
    if case.phase not in (Phase.STOPPED, Phase.PARTIAL):
        return case, f"emergency {case.emergency_id} is {case.phase.value}; wait until it is stopped or partial"
    return case, ""


def start(
    state: ScopeState, case: Case, procedure: Procedure, reasons: tuple[str, ...], by: str, now_ms: int, world: World
) -> Change:
    """Begin a recovery of a case that is stopped or partial, and look at once."""
    attempt = case.recoveries + 1
    recovery = RecoveryState(
        recovery_id=derived_id("recovery", case.emergency_id, attempt),
        attempt=attempt,
        procedure=procedure,
        reasons=reasons,
        stage=RECOVERY.initial,
        phase=RECOVERY.initial,
        started_by=by,
        started_at=now_ms,
        deadline_at=now_ms + procedure.validation_timeout_ms,
        look_at=now_ms,
        detail=f"{procedure.name}: {'; '.join(reasons)}",
    )
    case = replace(
        case, phase=EMERGENCY.next(case.phase, EmergencyEvent.RECOVER), recovery=recovery, recoveries=attempt,
        recover_at=None, asked=None, times_asked=0,
    )  # fmt: skip
    state = state.with_case(case)
    note = recovery_note(case, "started", by, now_ms, state)
    state, more = advance(state, case.emergency_id, now_ms, world)
    return state, [note, to_wire_emergency(case), to_wire_recovery(case), *more]


def pass_recovery_time(state: ScopeState, now_ms: int, world: World) -> Change:
    """What passing time means for recoveries under way and to come."""
    effects: list[Effect] = []
    for case in state.cases:
        if case.recovering is not None:
            state, more = advance(state, case.emergency_id, now_ms, world)
            effects += more
        elif case.phase is Phase.STOPPED and case.recover_at is not None and now_ms >= case.recover_at:
            state, more = _ask(state, case, now_ms, world)
            effects += more
    return state, effects


def _may_begin(case: Case, world: World) -> bool:
    """Whether no person need ask. What takes several people to undo never begins by itself."""
    alone = people_needed(case.scope, world.policy) == 1
    return world.policy.automatic_recovery and recovers_by_itself(case) and alone


def _ask(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    """Ask whether the condition of a stopped emergency has cleared, and when to ask again."""
    if not _may_begin(case, world):
        return state.with_case(replace(case, recover_at=None, asked=None)), []
    wait_ms = min(world.policy.condition_interval_ms * 2**case.times_asked, CONDITION_INTERVAL_MS_MAX)
    wait_ms = max(wait_ms, world.policy.condition_interval_ms)
    if world.stops_wait:
        return state.with_case(replace(case, recover_at=now_ms + wait_ms)), []
    asked, question = asked_anew(case, case.emergency_id, now_ms)
    # bounded: beyond so many doublings the interval is at its longest anyway
    times = min(case.times_asked + 1, 16)
    case = replace(case, asked=asked, recover_at=now_ms + wait_ms, times_asked=times)
    return state.with_case(case), [question]


def hear_answer(state: ScopeState, answer: ConditionAnswer, now_ms: int, world: World) -> Change:
    """A detector's answer, to a recovery under way or about one that may begin. A stale one changes nothing."""
    case = state.case(answer.emergency_id)
    if case is None:
        return state, []
    if case.recovering is not None:
        asked = heard(case.recovering.asked, answer)
        if asked is case.recovering.asked:
            return state, []
        return advance(state.with_case(changed(case, asked=asked)), case.emergency_id, now_ms, world)
    asked = heard(case.asked, answer)
    if asked is case.asked or case.phase is not Phase.STOPPED:
        return state, []
    case = replace(case, asked=None)
    idle = all(other.recovering is None for other in state.cases)
    is_newest = max(state.in_force, key=_epoch).emergency_id == case.emergency_id
    may_begin = _may_begin(case, world) and idle and is_newest and not world.stops_wait
    if answer.state is not ConditionState.CLEAR or not may_begin:
        return state.with_case(case), []
    try:
        procedure, reasons = choose(case, history_of(state), world.policy.procedures)
    except UnknownProcedureError:
        return state.with_case(replace(case, recover_at=None)), []
    reasons = (*reasons, f"the condition is clear: {answer.detail}")
    return start(state, case, procedure, reasons, world.policy.issued_by, now_ms, world)
