"""An operator's resume: accepted only beyond doubt.

It names the epoch that its author saw. A stop newer than that was not seen, so the resume is refused;
one older than the newest stop can therefore never overtake it, however late it arrives.
"""

from __future__ import annotations

from dataclasses import replace

from emergency_stop.coordinate.audit import decision
from emergency_stop.coordinate.holds import changed_hold
from emergency_stop.coordinate.instances import ask_to_resume
from emergency_stop.coordinate.lifecycle import Change, commands, settle, to_wire_emergency
from emergency_stop.coordinate.recovery_rollback import overtaken
from emergency_stop.coordinate.state import Case, Effect, Order, ScopeState, World
from emergency_stop.coordinate.tables import EMERGENCY, EmergencyEvent, HoldEvent
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
    refusal = _refusal(state, request)
    if refusal:
        return refuse(state, request, refusal, now_ms, action="resume_refused")
    cleared = [case for case in state.in_force if request.emergency_id in (None, case.emergency_id)]
    before, effects = state, list[Effect]()
    state = replace(state, epoch=world.next_epoch(state)).with_seen(request_cause(request.request_id), now_ms)
    still_held = held_services([case for case in before.in_force if case not in cleared], world)
    for case in cleared:
        case, told = overtaken(case, f"resumed by {request.requested_by} at once", now_ms, world)  # noqa: PLW2901  # the same emergency, its recovery ended
        effects += told
        state, more = clear(state, case, still_held, now_ms, world)
        effects += more
    event = HoldEvent.CAUSE_CLEARED if state.in_force else HoldEvent.LAST_CAUSE_CLEARED
    reason = f"resumed by {request.requested_by}: {request.reason}"
    hold = changed_hold(before, state, event, reason, now_ms)
    note = decision(
        at=now_ms, actor=request.requested_by, action="resumed", subject=state.scope, reason=request.reason,
        correlation_id=request.correlation_id, cause=request_cause(request.request_id), before=before, after=state,
    )  # fmt: skip
    return state, [note, hold, *effects]


def _refusal(state: ScopeState, request: Request) -> str:
    """Why not; empty where nothing stands against it."""
    if request.epoch is None:
        return f"no epoch named; name the one you see, now {state.epoch}"
    if not state.in_force:
        return "nothing holds this scope"
    if request.epoch < state.stop_epoch:
        return f"epoch {request.epoch} was named, but a newer stop has epoch {state.stop_epoch}; look at it first"
    if request.epoch > state.epoch:
        return f"epoch {request.epoch} was named, but the scope has only reached {state.epoch}"
    if request.emergency_id is not None and request.emergency_id not in {c.emergency_id for c in state.in_force}:
        return f"emergency {request.emergency_id} does not hold this scope"
    return ""


def held_services(cases: list[Case], world: World) -> frozenset[str]:
    return frozenset(name for case in cases for name in world.services.named(case.services, Scope.parse(case.scope)))


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
    state, settled = settle(state, case, now_ms)
    return state, [*commands(case, order, freed, world), to_wire_emergency(case), *settled]
