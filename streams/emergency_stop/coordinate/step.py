"""``step(state, message, now_ms, world) → (state, effects)``: all that a coordinator decides about a scope.

Theory of operation. Every input names a scope, and a scope's state holds all that its decisions depend
on, so this function needs nothing else but the settings and the services' announcements. Effects are
messages for the broker, in the order in which they must be sent: the hold first, because it is what
stops; a resume's audit record before its hold, because what is not on record must not run again.

A message seen before gives the same state and no effects that could do harm. Illegal ones raise and
change nothing. ``now_ms`` and ``world`` decide deadlines and who must answer, never whether to stop.
"""

from __future__ import annotations

from functools import singledispatch

from emergency_stop.coordinate.audit import decision
from emergency_stop.coordinate.authority import reset, reset_refusal
from emergency_stop.coordinate.cascade import begin_tiers, planned
from emergency_stop.coordinate.drills import drill_under_way, open_drill
from emergency_stop.coordinate.holds import covers
from emergency_stop.coordinate.instances import all_proved, fold_ack
from emergency_stop.coordinate.levels import begins_later, in_force
from emergency_stop.coordinate.lifecycle import Admit, Change, Tick, admit, muster, pass_time, settle
from emergency_stop.coordinate.lifecycle import to_wire_emergency as to_wire
from emergency_stop.coordinate.opening import open_over
from emergency_stop.coordinate.plans import PLANS_MAX, begin_due, plans, schedule
from emergency_stop.coordinate.recovery_phases import advance
from emergency_stop.coordinate.recovery_probes import answers_probe, fold_probe
from emergency_stop.coordinate.recovery_rollback import fail_for_hit
from emergency_stop.coordinate.recovery_start import hear_answer, pass_recovery_time, recover
from emergency_stop.coordinate.resume import refuse, resume
from emergency_stop.coordinate.state import EMERGENCIES_KEPT_MAX, Case, Effect, ScopeState, World
from emergency_stop.coordinate.tables import EMERGENCY, UNPROVEN, InvariantViolationError, RefusedMessageError
from emergency_stop.domain.frozen import replace
from emergency_stop.domain.ids import emergency_id, hit_cause, request_cause
from emergency_stop.domain.messages import Ack, AuditRecord, ConditionAnswer, Hit, Request
from emergency_stop.domain.values import (
    ALL_SERVICES,
    Action,
    ClearRule,
    Mode,
    Scope,
    ScopeKind,
    TriggerType,
)

Message = Hit | Request | Ack | ConditionAnswer | Tick | Admit

#: A person's stop goes before any automatic one but the most urgent.
MANUAL_PRIORITY = 4
#: What may be asked for.
_ASKED = (Action.STOP, Action.DRILL, Action.RESUME, Action.RECOVER, Action.RESET)


class UnknownEmergencyError(RefusedMessageError):
    """An acknowledgement for an emergency that this scope does not have, or no longer. Nothing was changed."""


def step(state: ScopeState, message: Message, now_ms: int, world: World) -> Change:
    """Apply one message to the scope that it names.

    Raises ``IllegalTransitionError``, ``UnknownAckError`` or ``UnknownEmergencyError`` for a message that
    does not fit (the state stays as it was), ``InvariantViolationError`` for a bug.
    """
    after, effects = _apply(message, state, now_ms, world)
    _check(state, after)
    return after, effects


def _check(before: ScopeState, after: ScopeState) -> None:
    newest = max((case.epoch for case in after.in_force), default=0)
    if after.epoch < before.epoch or after.stop_epoch > after.epoch or newest > after.stop_epoch:
        raise InvariantViolationError(
            f"epochs of {after.scope} went wrong: {before.epoch} → {after.epoch},"
            f" newest stop {after.stop_epoch}, newest emergency {newest}"
        )


@singledispatch
def _apply(message: object, state: ScopeState, now_ms: int, world: World) -> Change:  # noqa: ARG001  # as its overloads
    raise TypeError(f"a coordinator does not know messages of type {type(message).__name__}")


@_apply.register
def _hit(message: Hit, state: ScopeState, now_ms: int, world: World) -> Change:
    cause = hit_cause(message.hit_id)
    if message.mode is not Mode.ENFORCE:
        return state, [_noted(message, f"hit_{message.mode.value}", f"mode {message.mode.value}: not a stop", now_ms)]
    if not world.policy.automatic_stops:
        return state, [_noted(message, "hit_shadow", "EMERGENCY_STOP_ENABLED is false: not a stop", now_ms)]
    if _is_known(state, cause):
        return state, []
    level, note = in_force(message.level, message.target_services, Scope.parse(state.scope).kind)
    services = message.target_services or (ALL_SERVICES,)
    state, failed = fail_for_hit(state, message, now_ms, world)
    same = (case for case in state.in_force if case.trigger_id == message.trigger_id)
    joined = next((case for case in same if covers(case, services, level)), None)
    latches = message.clear_rule is ClearRule.AFTER_OPERATOR_RESET
    if joined is not None:
        why = f"joins emergency {joined.emergency_id}, which already stops as much"
        noted: list[Effect] = [*failed, _noted(message, "hit_joined", why, now_ms)]
        if latches and not joined.latched:
            # its cause is back after the reset, or was never gone
            joined = replace(joined, latched=True)
            state, noted = state.with_case(joined), [*noted, to_wire(joined)]
        return state.with_seen(cause, now_ms), noted
    case = Case(
        emergency_id=emergency_id(cause), phase=EMERGENCY.initial, scope=state.scope, account_id=message.account_id,
        level=level, epoch=0, priority=message.priority, reason=message.reason + note, cause=cause,
        trigger_id=message.trigger_id, trigger_type=message.trigger_type, services=services,
        correlation_id=message.correlation_id, occurred_at=message.occurred_at, started_at=now_ms,
        clear_rule=message.clear_rule, latched=latches,
        asked_level=message.level,
    )  # fmt: skip
    state, opened = open_over(state, planned(case, world, now_ms), f"trigger:{message.trigger_id}", now_ms, world)
    return state, [*failed, *opened]


@_apply.register
def _request(message: Request, state: ScopeState, now_ms: int, world: World) -> Change:
    cause = request_cause(message.request_id)
    if _is_known(state, cause):
        return state, []
    if message.action is Action.STOP:
        return _stop(message, state, now_ms, world)
    if message.action is Action.DRILL:
        return _drill(message, state, now_ms, world)
    if message.action is Action.RESUME:
        return resume(state, message, now_ms, world)
    if message.action is Action.RECOVER:
        return recover(state, message, now_ms, world)
    if message.action is Action.RESET:
        refusal = reset_refusal(state, message)
        return refuse(state, message, refusal, now_ms, "reset_refused") if refusal else reset(state, message, now_ms)
    known = ", ".join(action.value for action in _ASKED)
    return refuse(state, message, f"action {message.action.value} is not available; use one of {known}", now_ms)


def _stop(message: Request, state: ScopeState, now_ms: int, world: World) -> Change:
    case = _asked_case(message, state, now_ms)
    later, note = begins_later(message, now_ms)
    if len(state.in_force) >= EMERGENCIES_KEPT_MAX and not later:
        joined = next((c for c in state.in_force if covers(c, case.services, case.level)), None)
        if joined is not None:
            why = f"{len(state.in_force)} emergencies hold the scope; {joined.emergency_id} already stops as much"
            return refuse(state, message, why, now_ms, action="stop_joined")
    case = replace(case, reason=case.reason + note, starts_at=message.starts_at if later else None)
    if not later:
        return open_over(state, planned(case, world, now_ms), message.requested_by, now_ms, world)
    if len(plans(state)) >= PLANS_MAX:
        why = f"{PLANS_MAX} stops of this scope are planned; call one off first"
        return refuse(state, message, why, now_ms, action="stop_not_scheduled")
    return schedule(state, case, message.requested_by, now_ms)


def _drill(message: Request, state: ScopeState, now_ms: int, world: World) -> Change:
    other = drill_under_way(state)
    if other is not None:
        return refuse(state, message, f"drill {other.emergency_id} of this scope is under way", now_ms)
    case = replace(_asked_case(message, state, now_ms), drill=True)
    return open_drill(state, planned(case, world, now_ms), message.requested_by, now_ms, world)


def _asked_case(message: Request, state: ScopeState, now_ms: int) -> Case:
    """The emergency that a person's stop or drill opens, as yet without hold, tiers and plan."""
    cause, scope = request_cause(message.request_id), Scope.parse(state.scope)
    level, note = in_force(message.level, message.services, scope.kind, message.carries)
    return Case(
        emergency_id=emergency_id(cause), phase=EMERGENCY.initial, scope=state.scope,
        account_id=scope.name if scope.kind is ScopeKind.ACCOUNT else None, level=level, epoch=0,
        priority=MANUAL_PRIORITY, reason=message.reason + note, cause=cause, trigger_id=None,
        trigger_type=TriggerType.MANUAL_TRIGGER, services=message.services or (ALL_SERVICES,),
        correlation_id=message.correlation_id, occurred_at=message.requested_at, started_at=now_ms,
        asked_level=message.level,
    )  # fmt: skip


@_apply.register
def _ack(message: Ack, state: ScopeState, now_ms: int, world: World) -> Change:
    case = state.case(message.emergency_id)
    if case is None:
        raise UnknownEmergencyError(
            f"{message.service}/{message.instance_id} acknowledges for emergency {message.emergency_id}, which"
            f" {state.scope} does not have (any longer); the acknowledgement was ignored"
        )
    if answers_probe(case, message):
        probed = fold_probe(case, message)
        return (state, []) if probed is case else advance(state.with_case(probed), case.emergency_id, now_ms, world)
    folded = fold_ack(case, message, now_ms)
    if folded is case:
        return state, []
    told: list[Effect] = []
    if folded.phase in UNPROVEN and all_proved(folded):
        # the last proof of those that were asked; somebody may have come up since
        folded, told = muster(folded, now_ms, world)
    state, effects = settle(state, folded, now_ms, world)
    state, tiers = begin_tiers(state, now_ms, world)
    state, recovering = advance(state, folded.emergency_id, now_ms, world)
    return state, [*told, *(effects or [to_wire(folded)]), *tiers, *recovering]


@_apply.register
def _answer(message: ConditionAnswer, state: ScopeState, now_ms: int, world: World) -> Change:
    return hear_answer(state, message, now_ms, world)


@_apply.register
def _tick(message: Tick, state: ScopeState, now_ms: int, world: World) -> Change:
    del message
    state, begun = begin_due(state, now_ms, world)
    state, tiers = begin_tiers(state, now_ms, world, overdue=True)
    state, effects = pass_time(state, now_ms, world)
    state, recovering = pass_recovery_time(state, now_ms, world)
    return state, [*begun, *tiers, *effects, *recovering]


@_apply.register
def _admit(message: Admit, state: ScopeState, now_ms: int, world: World) -> Change:
    state, effects = admit(state, message.emergency_id, now_ms, world)
    state, tiers = begin_tiers(state, now_ms, world)
    return state, [*effects, *tiers]


def _is_known(state: ScopeState, cause: str) -> bool:
    return state.has_seen(cause) or any(case.cause == cause for case in state.cases)


def _noted(hit: Hit, action: str, reason: str, now_ms: int) -> AuditRecord:
    return decision(
        at=now_ms, actor=f"trigger:{hit.trigger_id}", action=action, subject=hit.scope,
        reason=f"{hit.reason}; {reason}", correlation_id=hit.correlation_id, cause=hit_cause(hit.hit_id),
    )  # fmt: skip
