"""Stops that are planned: on record with their time, in force from then on, and until then easy to call off."""

from __future__ import annotations

from emergency_stop.coordinate.audit import decision
from emergency_stop.coordinate.lifecycle import Change, to_wire_emergency
from emergency_stop.coordinate.opening import open_over
from emergency_stop.coordinate.state import Case, Effect, ScopeState, World
from emergency_stop.coordinate.tables import EMERGENCY, EmergencyEvent, Phase
from emergency_stop.domain.frozen import replace
from emergency_stop.domain.ids import request_cause
from emergency_stop.domain.messages import Request

#: Plans that one scope keeps; a further one is refused, because nothing is in force yet that could be lost.
PLANS_MAX = 16


def plans(state: ScopeState) -> tuple[Case, ...]:
    return tuple(case for case in state.cases if case.phase is Phase.SCHEDULED)


def schedule(state: ScopeState, case: Case, actor: str, now_ms: int) -> Change:
    """Put ``case``, whose ``starts_at`` is still to come, on record. It holds nothing and has no epoch."""
    case = replace(case, phase=Phase.SCHEDULED)
    state = state.with_case(case).with_seen(case.cause, now_ms)
    note = decision(
        at=now_ms, actor=actor, action="stop_scheduled", subject=case.emergency_id, reason=case.reason,
        correlation_id=case.correlation_id, cause=case.cause, details={"starts_at": case.starts_at},
    )  # fmt: skip
    return state, [to_wire_emergency(case), note]


def begin_due(state: ScopeState, now_ms: int, world: World) -> Change:
    """Begin every plan whose time has come; late, where nobody was there in time."""
    effects: list[Effect] = []
    for case in plans(state):
        if (case.starts_at or 0) <= now_ms:
            phase = EMERGENCY.next(case.phase, EmergencyEvent.BEGIN)
            begun = replace(case, phase=phase, occurred_at=case.starts_at or now_ms, started_at=now_ms)
            state, more = open_over(state, begun, world.policy.issued_by, now_ms, world)
            effects += more
    return state, effects


def planned_by_name(state: ScopeState, request: Request) -> Case | None:
    """The plan that ``request`` names; a plan is never called off unnamed."""
    case = state.case(request.emergency_id) if request.emergency_id is not None else None
    return case if case is not None and case.phase is Phase.SCHEDULED else None


def cancel(state: ScopeState, case: Case, request: Request, now_ms: int) -> Change:
    """Call a plan off. It lifts no hold, so it needs neither an epoch nor a second person."""
    case = replace(case, phase=EMERGENCY.next(case.phase, EmergencyEvent.CANCEL), resolved_at=now_ms)
    cause = request_cause(request.request_id)
    state = state.with_case(case).with_seen(cause, now_ms)
    note = decision(
        at=now_ms, actor=request.requested_by, action="stop_called_off", subject=case.emergency_id,
        reason=request.reason, correlation_id=request.correlation_id, cause=cause,
    )  # fmt: skip
    return state, [note, to_wire_emergency(case)]
