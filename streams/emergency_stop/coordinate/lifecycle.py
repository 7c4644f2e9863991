"""An emergency from its cause to its end: opened, admitted, escalated, completed, resumed.

Each function takes a scope's state and returns (state, effects); none reads a clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from emergency_stop.coordinate.audit import decision
from emergency_stop.coordinate.bounds import listed
from emergency_stop.coordinate.holds import changed_hold
from emergency_stop.coordinate.instances import all_proved, enlist, proven, recovered, refresh, silence, to_wire
from emergency_stop.coordinate.state import EMERGENCIES_KEPT_MAX, Case, Effect, Order, ScopeState, World
from emergency_stop.coordinate.tables import EMERGENCY, UNDER_WAY, UNPROVEN, EmergencyEvent, HoldEvent, Phase, Standing
from emergency_stop.domain.frozen import replace
from emergency_stop.domain.ids import command_id
from emergency_stop.domain.messages import Command, Emergency
from emergency_stop.domain.values import Action, ClearRule, EmergencyState, StopLevel

Change = tuple[ScopeState, list[Effect]]

_WIRE_STATE = {
    Phase.SCHEDULED: EmergencyState.SCHEDULED,
    Phase.QUEUED: EmergencyState.STOPPING,
    Phase.STOPPING: EmergencyState.STOPPING,
    Phase.ESCALATED: EmergencyState.STOPPING,
    Phase.STOPPED: EmergencyState.STOPPED,
    Phase.PARTIAL: EmergencyState.PARTIAL,
    Phase.RESTORING: EmergencyState.RECOVERING,
    Phase.RECOVERING: EmergencyState.RECOVERING,
    Phase.RESOLVED: EmergencyState.RESOLVED,
}


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed, or the services' announcements changed."""

    scope: str


@dataclass(frozen=True, slots=True)
class Admit:
    """A slot is free for a queued emergency."""

    scope: str
    emergency_id: str


def to_wire_emergency(case: Case) -> Emergency:
    return Emergency(
        emergency_id=case.emergency_id,
        state=_WIRE_STATE[case.phase],
        scope=case.scope,
        account_id=case.account_id,
        level=case.level,
        epoch=case.epoch,
        priority=case.priority,
        reason=case.reason,
        cause=case.cause,
        trigger_id=case.trigger_id,
        trigger_type=case.trigger_type,
        target_services=case.services,
        instances=tuple(to_wire(target) for target in case.targets),
        correlation_id=case.correlation_id,
        occurred_at=case.occurred_at,
        started_at=case.started_at,
        deadline_at=case.deadline_at,
        completed_at=case.completed_at,
        time_to_stop_ms=case.time_to_stop_ms,
        success=case.success,
        drill=case.drill,
        starts_at=case.starts_at,
        clear_rule=case.clear_rule,
        latched=case.latched,
        failed_recoveries=case.failed_recoveries,
        asked_level=case.asked_level or case.level,
    )


def commands(case: Case, order: Order, services: Iterable[str], world: World) -> list[Effect]:
    """One command of ``order`` per service. A service without a command topic gets none."""
    return [
        Command(
            command_id=command_id(case.emergency_id, service, order.epoch, order.action, order.attempt),
            emergency_id=case.emergency_id,
            correlation_id=case.correlation_id,
            service=service,
            scope=case.scope,
            epoch=order.epoch,
            action=order.action,
            level=order.level,
            reason=case.reason,
            issued_by=world.policy.issued_by,
            issued_at=order.issued_at,
            deadline_at=order.deadline_at,
            attempt=order.attempt,
        )
        for service in sorted(set(services))
        if service in world.services.known
    ]


def open_case(state: ScopeState, case: Case, actor: str, now_ms: int, world: World) -> Change:
    """A new cause of the scope: its hold at once, its commands when there is a slot.

    Resumes under way end here: what they let run is held again.
    """
    before, effects = state, list[Effect]()
    for other in state.cases:
        if other.phase is Phase.RECOVERING:
            state, ended = resolve(state, other, EmergencyEvent.SUPERSEDED, now_ms)
            effects += ended
    epoch = world.next_epoch(state)
    case = replace(case, epoch=epoch)
    state = replace(state, epoch=epoch, stop_epoch=epoch).with_case(case).with_seen(case.cause, now_ms)
    state = forget_beyond_bound(state)
    opened = decision(
        at=now_ms, actor=actor, action="emergency_opened", subject=case.emergency_id, reason=case.reason,
        correlation_id=case.correlation_id, cause=case.cause, before=before, after=state,
    )  # fmt: skip
    hold = changed_hold(before, state, HoldEvent.CAUSE_ADDED, case.reason, now_ms)
    return state, [hold, *effects, to_wire_emergency(case), opened]


def admit(state: ScopeState, emergency_id: str, now_ms: int, world: World) -> Change:
    """Send a queued emergency's commands. Raises ``IllegalTransitionError`` where it is not queued."""
    case = state.case(emergency_id)
    if case is None:
        return state, []
    case = replace(case, phase=EMERGENCY.next(case.phase, EmergencyEvent.ADMIT), targets=enlist(case, world, now_ms))
    deadline_at = now_ms + world.policy.timeout_ms(case.level)
    order = Order(Action.DRILL if case.drill else Action.STOP, 1, case.epoch, case.level, now_ms, deadline_at)
    case = replace(case, orders=(order,), tier_deadline_at=None if case.is_whole else deadline_at)
    sent = commands(case, order, (target.service for target in case.targets), world)
    state, settled = settle(state, case, now_ms, world)
    return state, [*sent, *(settled or [to_wire_emergency(case)])]


def settle(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    """Put ``case`` into ``state`` and draw what follows from its instances; effects where its phase changed."""
    if case.phase in UNPROVEN and proven(case, world):
        return _complete(state, case, EmergencyEvent.PROVEN, now_ms)
    if case.phase is Phase.STOPPED and not all_proved(case):
        return _complete(state, case, EmergencyEvent.DOUBT, now_ms)
    if case.phase is Phase.RECOVERING and case.recovering is None and recovered(case):
        return resolve(state, case, EmergencyEvent.CONFIRMED, now_ms)
    return state.with_case(case), []


def pass_time(state: ScopeState, now_ms: int, world: World) -> Change:
    """Deadlines that are over, instances that came, left or were lost, and what may be forgotten."""
    effects: list[Effect] = []
    for case in state.cases:
        if case.phase in UNDER_WAY:
            state, more = _pass_stop(state, case, now_ms, world)
            effects += more
        elif case.phase is Phase.PARTIAL and proven(case, world):
            late, told = muster(case, now_ms, world)
            state, more = settle(state, late, now_ms, world)
            effects += [*told, *more]
        elif case.phase is Phase.RECOVERING and case.recovering is None and now_ms >= case.deadline_at:
            state, more = resolve(state, case, EmergencyEvent.DEADLINE, now_ms)
            effects += more
    return _forget_old(state, now_ms - world.policy.retention_ms), effects


def recovers_by_itself(case: Case) -> bool:
    """Whether it may recover without a person once its condition has cleared."""
    allowed = case.clear_rule is ClearRule.WHEN_CONDITION_CLEARS and case.trigger_id is not None
    return allowed and not case.latched and not case.drill


def muster(case: Case, now_ms: int, world: World) -> tuple[Case, list[Effect]]:
    """The case with the instances that the announcements now have, and its command to those that came up."""
    targets, newcomers = refresh(case, world, now_ms)
    if targets == case.targets:
        return case, []
    case = replace(case, targets=targets)
    return case, [*commands(case, case.orders[-1], newcomers, world), to_wire_emergency(case)]


def _pass_stop(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    known = case
    case, told = muster(case, now_ms, world)
    if all_proved(case) and not proven(case, world):  # however late it is: what is missing is the hold's record
        return (state, []) if case is known else (state.with_case(case), told)
    if not all_proved(case) and now_ms >= case.deadline_at:
        over = _escalate if case.phase is Phase.STOPPING else _give_up
        state, more = over(state, case, now_ms, world)
    else:
        state, more = settle(state, case, now_ms, world)
    return state, [*told, *more]


def _escalate(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    """The first deadline is over: once more to all that owe their proof, and no longer gracefully.

    A maintenance stop stays one: to cut off what saves its state would lose what it is for. A drill raises nothing.
    """
    before, effects = state, list[Effect]()
    level = case.level if case.drill or case.level is StopLevel.MAINTENANCE else StopLevel.IMMEDIATE
    raised = level is not case.level
    phase = EMERGENCY.next(case.phase, EmergencyEvent.DEADLINE)
    case = replace(case, phase=phase, level=level, tiers_begun=len(case.tiers), tier_deadline_at=None)
    if raised:
        case = replace(case, epoch=world.next_epoch(state))
        state = replace(state, epoch=case.epoch, stop_epoch=case.epoch).with_case(case)
        effects.append(changed_hold(before, state, HoldEvent.CAUSE_RAISED, case.reason, now_ms))
    deadline_at = now_ms + world.policy.timeout_ms(level)
    order = Order(case.orders[-1].action, len(case.orders) + 1, case.epoch, level, now_ms, deadline_at)
    case = replace(case, orders=(*case.orders, order))
    owing = [target for target in case.targets if target.standing is not Standing.STOPPED]
    effects += commands(case, order, (target.service for target in owing), world)
    state = state.with_case(case)
    named = listed([f"{target.service}/{target.instance_id or '-'}" for target in owing])
    note = decision(
        at=now_ms, actor=world.policy.issued_by, action="drill_repeated" if case.drill else "stop_escalated",
        subject=case.emergency_id, reason=f"no proof by the deadline from {named}; sent again as {case.level.value}",
        correlation_id=case.correlation_id, cause=f"attempt {order.attempt}", before=before, after=state,
    )  # fmt: skip
    return state, [*effects, to_wire_emergency(case), note]


def _give_up(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    del world  # same signature as _escalate
    return _complete(state, replace(case, targets=silence(case.targets, now_ms)), EmergencyEvent.DEADLINE, now_ms)


def _complete(state: ScopeState, case: Case, event: EmergencyEvent, now_ms: int) -> Change:
    """STOPPED or PARTIAL. Proven only after it was given up on: STOPPED, but not a success."""
    in_time = case.phase in UNDER_WAY
    phase = EMERGENCY.next(case.phase, event)
    stopped = phase is Phase.STOPPED
    last = max((target.at for target in case.targets if target.order), default=now_ms)
    case = replace(
        case,
        phase=phase,
        completed_at=now_ms,
        success=stopped and in_time,
        time_to_stop_ms=max(0, last - (case.rolled_back_at or case.occurred_at)) if stopped else None,
        recover_at=(case.recover_at or now_ms) if stopped and recovers_by_itself(case) else None,
    )
    missing = [target for target in case.targets if target.standing is not Standing.STOPPED]
    reasons = listed([f"{t.service}/{t.instance_id or '-'}: {t.reason}" for t in missing], "; ")
    kind = "drill" if case.drill else "emergency"
    note = decision(
        at=now_ms, actor="coordinator", action=f"{kind}_{phase.value}", subject=case.emergency_id,
        reason=reasons or f"every instance proved the stop{'' if in_time else ', after the deadline'}",
        correlation_id=case.correlation_id, cause=f"{event.value} {now_ms}",
        details={"time_to_stop_ms": case.time_to_stop_ms, "instances": len(case.targets), "missing": len(missing)},
    )  # fmt: skip
    state = state.with_case(case)
    after: list[Effect] = []
    if case.drill:
        state, after = resolve(state, case, EmergencyEvent.RELEASE, now_ms)
    return state, [to_wire_emergency(case), note, *after]


def resolve(state: ScopeState, case: Case, event: EmergencyEvent, now_ms: int) -> Change:
    case = replace(case, phase=EMERGENCY.next(case.phase, event), resolved_at=now_ms)
    silent = [t for t in case.targets if t.standing in (Standing.RESUMING, Standing.REFUSED)]
    reason = {
        EmergencyEvent.CONFIRMED: "every instance that was asked confirmed the resume",
        EmergencyEvent.SUPERSEDED: "a newer stop of the scope ended the resume",
        EmergencyEvent.RELEASE: "the drill is over; it held nothing",
    }.get(event, "not confirmed by " + listed([f"{t.service}/{t.instance_id}: {t.reason}" for t in silent]))
    note = decision(
        at=now_ms, actor="coordinator", action="emergency_resolved", subject=case.emergency_id, reason=reason,
        correlation_id=case.correlation_id, cause=event.value,
    )  # fmt: skip
    return state.with_case(case), [to_wire_emergency(case), note]


def _forget_old(state: ScopeState, before_ms: int) -> ScopeState:
    cases = tuple(case for case in state.cases if case.resolved_at is None or case.resolved_at > before_ms)
    seen = tuple(entry for entry in state.seen if entry.at > before_ms)
    if len(cases) == len(state.cases) and len(seen) == len(state.seen):
        return state
    return replace(state, cases=cases, seen=seen)


def forget_beyond_bound(state: ScopeState) -> ScopeState:
    """Without the oldest of what is over, so that ``EMERGENCIES_KEPT_MAX`` remain."""
    excess = len(state.cases) - EMERGENCIES_KEPT_MAX
    if excess <= 0:
        return state
    resolved = [case.emergency_id for case in state.cases if case.phase is Phase.RESOLVED][:excess]
    return replace(state, cases=tuple(case for case in state.cases if case.emergency_id not in resolved))
