"""An operator's resume: accepted only beyond doubt.

It names the epoch that its author saw. A stop newer than that was not seen, so the resume is refused;
one older than the newest stop can therefore never overtake it, however late it arrives. What is latched must
be reset first, and what holds everything is lifted by several people (``coordinate.authority``).
"""

from __future__ import annotations

from emergency_stop.coordinate.audit import decision
from emergency_stop.coordinate.authority import approve, doubt, latch_refusal, named_cases, people_needed, supporters
from emergency_stop.coordinate.holds import changed_hold
from emergency_stop.coordinate.instances import ask_to_resume
from emergency_stop.coordinate.lifecycle import Change, commands, settle, to_wire_emergency
from emergency_stop.coordinate.plans import cancel, planned_by_name
from emergency_stop.coordinate.recovery_rollback import overtaken
from emergency_stop.coordinate.state import Case, Effect, Order, ScopeState, World
from emergency_stop.coordinate.tables import EMERGENCY, EmergencyEvent, HoldEvent
from emergency_stop.domain.frozen import replace
from emergency_stop.domain.ids import request_cause
from emergency_stop.domain.messages import Request
from emergency_stop.domain.values import Action, Scope


def refuse(state: ScopeState, request: Request, reason: str, now_ms: int, action: str = "request_refused") -> Change:
    """Put on record that nothing was done. The request is remembered, so that it cannot succeed later."""
    note = decision(
        at=now_ms, actor=request.requested_by, action=action, subject=state.scope,
        reason=f"{request.action.value} ({request.reason}): {reason}", correlation_id=request.correlation_id,
        cause=request_cause(request.request_id), before=state,
    )  # fmt: skip
    return state.with_seen(request_cause(request.request_id), now_ms), [note]


def resume(state: ScopeState, request: Request, now_ms: int, world: World) -> Change:
    """Clear the named emergency's hold, or all of the scope's, and tell the services that may run again."""
    plan = planned_by_name(state, request)
    if plan is not None:
        return cancel(state, plan, request, now_ms)
    refusal = _refusal(state, request)
    if refusal:
        return refuse(state, request, refusal, now_ms, action="resume_refused")
    people = supporters(state, request, now_ms, world.policy)
    if len(people) < people_needed(state.scope, world.policy):
        return approve(state, request, now_ms, world.policy)
    cleared = named_cases(state, request)
    before, effects = state, list[Effect]()
    state = replace(state, epoch=world.next_epoch(state), approvals=())
    state = state.with_seen(request_cause(request.request_id), now_ms)
    still_held = held_services([case for case in before.in_force if case not in cleared], world)
    for case in cleared:
        case, told = overtaken(case, f"resumed by {request.requested_by} at once", now_ms, world)  # noqa: PLW2901  # the same emergency, its recovery ended
        effects += told
        state, more = clear(state, case, still_held, now_ms, world)
        effects += more
    event = HoldEvent.CAUSE_CLEARED if state.in_force else HoldEvent.LAST_CAUSE_CLEARED
    reason = f"resumed by {request.requested_by}: {request.reason}"
    hold = changed_hold(before, state, event, reason, now_ms)
    with_others = "".join(f", with {one.approved_by}" for one in people[:-1])
    note = decision(
        at=now_ms, actor=request.requested_by, action="resumed", subject=state.scope,
        reason=f"{request.reason}{with_others}",
        correlation_id=request.correlation_id, cause=request_cause(request.request_id), before=before, after=state,
    )  # fmt: skip
    return state, [note, hold, *effects]


def _refusal(state: ScopeState, request: Request) -> str:
    """Why not; empty where nothing stands against it."""
    return doubt(state, request) or latch_refusal(named_cases(state, request))


def held_services(cases: list[Case], world: World) -> frozenset[str]:
    return frozenset(
        name for case in cases for name in world.services.named(case.held_services, Scope.parse(case.scope))
    )


def clear(state: ScopeState, case: Case, still_held: frozenset[str], now_ms: int, world: World) -> Change:
    """One emergency whose hold is lifted; services that other emergencies hold get no resume."""
    freed = held_services([case], world) - still_held
    if not freed:
        phase = EMERGENCY.next(case.phase, EmergencyEvent.RELEASE)
        case = replace(case, phase=phase, resolved_at=now_ms)
        return state.with_case(case), [to_wire_emergency(case)]
    deadline_at = now_ms + world.policy.immediate_stop_timeout_ms
    order = Order(Action.RESUME, 1, state.epoch, case.level, now_ms, deadline_at)
    case = replace(
        case,
        phase=EMERGENCY.next(case.phase, EmergencyEvent.RESUME),
        orders=(*case.orders, order),
        targets=ask_to_resume(case, freed, world, now_ms),
    )
    state, settled = settle(state, case, now_ms, world)
    return state, [*commands(case, order, freed, world), to_wire_emergency(case), *settled]
