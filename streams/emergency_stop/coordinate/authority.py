"""Who may undo a hold: latches that somebody must reset first, and holds that one person alone cannot lift.

Theory of operation. Cause cleared, reset, and start are three steps. A latched emergency is undone by nobody before a
person has reset it; a reset lifts nothing. What holds everything is undone when enough different people have asked for
the same thing: the first words are approvals, kept with the scope, and the last one carries it out. An approval is
bound to the epoch that its author saw: a newer stop voids it, and so does its age. Who somebody is, is told by the
request; names that differ only in case or in white space are one.
"""

from __future__ import annotations

from collections.abc import Iterable

from emergency_stop.coordinate.audit import decision
from emergency_stop.coordinate.bounds import listed
from emergency_stop.coordinate.lifecycle import Change, recovers_by_itself, to_wire_emergency
from emergency_stop.coordinate.state import APPROVALS_MAX, Approval, Case, Effect, Policy, ScopeState
from emergency_stop.coordinate.tables import Phase
from emergency_stop.domain.frozen import replace
from emergency_stop.domain.ids import request_cause
from emergency_stop.domain.messages import Request
from emergency_stop.domain.values import Scope, ScopeKind


def named_cases(state: ScopeState, request: Request) -> tuple[Case, ...]:
    """The emergencies in force that ``request`` is about: the one it names, or all of the scope."""
    return tuple(case for case in state.in_force if request.emergency_id in (None, case.emergency_id))


def doubt(state: ScopeState, request: Request) -> str:
    """Why a request to undo something does not name what there is; empty where it does."""
    if request.epoch is None:
        return f"no epoch named; name the one you see, now {state.epoch}"
    if not state.in_force:
        return "nothing holds this scope"
    if request.epoch < state.stop_epoch:
        return f"epoch {request.epoch} was named, but a newer stop has epoch {state.stop_epoch}; look at it first"
    if request.epoch > state.epoch:
        return f"epoch {request.epoch} was named, but the scope has only reached {state.epoch}"
    if not named_cases(state, request):
        return f"emergency {request.emergency_id} does not hold this scope"
    return ""


def latch_refusal(cases: Iterable[Case]) -> str:
    """Why ``cases`` may not be undone yet; empty where no latch stands against it. For a resume and a recovery."""
    latched = [case.emergency_id for case in cases if case.latched]
    if not latched:
        return ""
    return (
        f"latched: {listed(latched)}. Make sure that the cause is gone, reset it (estop reset EMERGENCY), then ask"
        " again; or name another emergency"
    )


def reset_refusal(state: ScopeState, request: Request) -> str:
    """Why a reset is refused; empty where nothing stands against it."""
    latched = any(case.latched for case in named_cases(state, request))
    return doubt(state, request) or ("" if latched else "nothing is latched, so there is nothing to reset")


def reset(state: ScopeState, request: Request, now_ms: int) -> Change:
    """Release the latch of the named emergency, or of all in the scope. The hold stays, and its epoch."""
    before, effects = state, list[Effect]()
    for case in named_cases(state, request):
        if case.latched:
            released = replace(case, latched=False)
            if released.phase is Phase.STOPPED and recovers_by_itself(released):
                released = replace(released, recover_at=now_ms)
            state = state.with_case(released)
            effects.append(to_wire_emergency(released))
    cause = request_cause(request.request_id)
    state = state.with_seen(cause, now_ms)
    note = decision(
        at=now_ms, actor=request.requested_by, action="reset", subject=state.scope, reason=request.reason,
        correlation_id=request.correlation_id, cause=cause, before=before, after=state,
    )  # fmt: skip
    return state, [note, *effects]


def people_needed(scope: str, policy: Policy) -> int:
    """How many different people must ask before a hold of ``scope`` is undone."""
    return policy.global_resume_people if Scope.parse(scope).kind is ScopeKind.GLOBAL else 1


def supporters(state: ScopeState, request: Request, now_ms: int, policy: Policy) -> tuple[Approval, ...]:
    """The words that stand for what ``request`` asks, its own last; one for each person."""
    own = Approval(
        request.action, request.emergency_id, request.procedure, request.epoch or 0, request.requested_by, now_ms
    )
    others = (
        one
        for one in _standing(state, now_ms, policy)
        if _subject(one) == _subject(own) and _person(one) != _person(own)
    )
    return (*others, own)


def approve(state: ScopeState, request: Request, now_ms: int, policy: Policy) -> Change:
    """Keep the word of one person, who is not enough yet. It lasts ``approval_expiry_ms``."""
    found = supporters(state, request, now_ms, policy)
    others = [one for one in _standing(state, now_ms, policy) if _subject(one) != _subject(found[-1])]
    cause = request_cause(request.request_id)
    before, state = state, replace(state, approvals=(*others, *found)[-APPROVALS_MAX:]).with_seen(cause, now_ms)
    needed = people_needed(state.scope, policy)
    note = decision(
        at=now_ms, actor=request.requested_by, action=f"{request.action.value}_approved", subject=state.scope,
        reason=f"{request.reason}: {len(found)} of {needed} people; the next one must ask for the same within"
        f" {policy.approval_expiry_ms // 1000} s, before any newer stop",
        correlation_id=request.correlation_id, cause=cause, before=before, after=state,
    )  # fmt: skip
    return state, [note]


def _standing(state: ScopeState, now_ms: int, policy: Policy) -> tuple[Approval, ...]:
    """Approvals that neither a newer stop nor their age has voided."""
    oldest = now_ms - policy.approval_expiry_ms
    return tuple(one for one in state.approvals if one.epoch >= state.stop_epoch and one.at > oldest)


def _subject(approval: Approval) -> tuple[str, str | None, str | None]:
    """What is approved: nobody approves of more than was asked."""
    return approval.action.value, approval.emergency_id, approval.procedure


def _person(approval: Approval) -> str:
    return " ".join(approval.approved_by.split()).casefold()
