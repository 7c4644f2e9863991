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
from emergency_stop.coordinate.holds import covers
from emergency_stop.coordinate.instances import fold_ack, proven
from emergency_stop.coordinate.lifecycle import Admit, Change, Tick, admit, muster, open_case, pass_time, settle
from emergency_stop.coordinate.lifecycle import to_wire_emergency as to_wire
from emergency_stop.coordinate.recovery_phases import advance
from emergency_stop.coordinate.recovery_probes import answers_probe, fold_probe
from emergency_stop.coordinate.recovery_rollback import fail_for_hit, give_way
from emergency_stop.coordinate.recovery_start import hear_answer, pass_recovery_time, recover
from emergency_stop.coordinate.resume import refuse, resume
from emergency_stop.coordinate.state import EMERGENCIES_KEPT_MAX, Case, Effect, ScopeState, World
from emergency_stop.coordinate.tables import EMERGENCY, UNDER_WAY, InvariantViolationError, Phase, RefusedMessageError
from emergency_stop.domain.ids import emergency_id, hit_cause, request_cause
from emergency_stop.domain.messages import Ack, AuditRecord, ConditionAnswer, Hit, Request
from emergency_stop.domain.values import (
    ALL_SERVICES,
    LEVEL_SEVERITY,
    Action,
    Mode,
    Scope,
    ScopeKind,
    StopLevel,
    TriggerType,
)

Message = Hit | Request | Ack | ConditionAnswer | Tick | Admit

#: A person's stop goes before any automatic one but the most urgent.
MANUAL_PRIORITY = 4
_AVAILABLE_LEVELS = frozenset({StopLevel.IMMEDIATE, StopLevel.GRACEFUL, StopLevel.SERVICE_SPECIFIC})


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
    level, note = _available(message.level)
    severity = LEVEL_SEVERITY[level]
    services = message.target_services or (ALL_SERVICES,)
    state, failed = fail_for_hit(state, message, now_ms, world)
    same = (case for case in state.in_force if case.trigger_id == message.trigger_id)
    joined = next((case for case in same if covers(case, services, severity)), None)
    if joined is not None:
        why = f"joins emergency {joined.emergency_id}, which already stops as much"
        return state.with_seen(cause, now_ms), [*failed, _noted(message, "hit_joined", why, now_ms)]
    case = Case(
        emergency_id=emergency_id(cause), phase=EMERGENCY.initial, scope=state.scope, account_id=message.account_id,
        level=level, epoch=0, priority=message.priority, reason=message.reason + note, cause=cause,
        trigger_id=message.trigger_id, trigger_type=message.trigger_type, services=services,
        correlation_id=message.correlation_id, occurred_at=message.occurred_at, started_at=now_ms,
        clear_rule=message.clear_rule,
    )  # fmt: skip
    state, opened = _open(state, case, f"trigger:{message.trigger_id}", now_ms, world)
    return state, [*failed, *opened]


@_apply.register
def _request(message: Request, state: ScopeState, now_ms: int, world: World) -> Change:
    cause = request_cause(message.request_id)
    if _is_known(state, cause):
        return state, []
    if message.action is Action.RESUME:
        return resume(state, message, now_ms, world)
    if message.action is Action.RECOVER:
        return recover(state, message, now_ms, world)
    if message.action is not Action.STOP:
        why = f"action {message.action.value} is not available; use stop, resume or recover"
        return refuse(state, message, why, now_ms)
    level, note = _available(message.level)
    services = message.services or (ALL_SERVICES,)
    if len(state.in_force) >= EMERGENCIES_KEPT_MAX:
        joined = next((c for c in state.in_force if covers(c, services, LEVEL_SEVERITY[level])), None)
        if joined is not None:
            why = f"{len(state.in_force)} emergencies hold the scope; {joined.emergency_id} already stops as much"
            return refuse(state, message, why, now_ms, action="stop_joined")
    scope = Scope.parse(state.scope)
    case = Case(
        emergency_id=emergency_id(cause), phase=EMERGENCY.initial, scope=state.scope,
        account_id=scope.name if scope.kind is ScopeKind.ACCOUNT else None, level=level, epoch=0,
        priority=MANUAL_PRIORITY, reason=message.reason + note, cause=cause, trigger_id=None,
        trigger_type=TriggerType.MANUAL_TRIGGER, services=services, correlation_id=message.correlation_id,
        occurred_at=message.requested_at, started_at=now_ms,
    )  # fmt: skip
    return _open(state, case, message.requested_by, now_ms, world)


def _open(state: ScopeState, case: Case, actor: str, now_ms: int, world: World) -> Change:
    """A newer stop of the scope: recoveries under way give way to it."""
    state, ended = give_way(state, f"overtaken by a newer stop, of {actor}", now_ms, world)
    state, opened = open_case(state, case, actor, now_ms, world)
    return state, [*ended, *opened]


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
    if folded.phase in (*UNDER_WAY, Phase.PARTIAL) and proven(folded):
        # the last proof of those that were asked; somebody may have come up since
        folded, told = muster(folded, now_ms, world)
    state, effects = settle(state, folded, now_ms)
    state, recovering = advance(state, folded.emergency_id, now_ms, world)
    return state, [*told, *(effects or [to_wire(folded)]), *recovering]


@_apply.register
def _answer(message: ConditionAnswer, state: ScopeState, now_ms: int, world: World) -> Change:
    return hear_answer(state, message, now_ms, world)


@_apply.register
def _tick(message: Tick, state: ScopeState, now_ms: int, world: World) -> Change:
    del message
    state, effects = pass_time(state, now_ms, world)
    state, recovering = pass_recovery_time(state, now_ms, world)
    return state, [*effects, *recovering]


@_apply.register
def _admit(message: Admit, state: ScopeState, now_ms: int, world: World) -> Change:
    return admit(state, message.emergency_id, now_ms, world)


def _is_known(state: ScopeState, cause: str) -> bool:
    return state.has_seen(cause) or any(case.cause == cause for case in state.cases)


def _available(level: StopLevel) -> tuple[StopLevel, str]:
    """(level to stop at, what to add to the reason). A level that cannot be carried out becomes graceful:
    the stop must not be lost, and must not pass for what it is not.
    """
    if level in _AVAILABLE_LEVELS:
        return level, ""
    return StopLevel.GRACEFUL, f" (level {level.value} is not available in this version: stopped gracefully instead)"


def _noted(hit: Hit, action: str, reason: str, now_ms: int) -> AuditRecord:
    return decision(
        at=now_ms, actor=f"trigger:{hit.trigger_id}", action=action, subject=hit.scope,
        reason=f"{hit.reason}; {reason}", correlation_id=hit.correlation_id, cause=hit_cause(hit.hit_id),
    )  # fmt: skip
