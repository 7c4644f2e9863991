"""What runs again, and how much of it: share by share, then all, then watched.

A step is a new hold epoch whose cause carries the shares, a probe to the services that were just let run, and, once
all answered that they are well, a soak with a gate at its end.
"""

from __future__ import annotations

from typing import Final

from emergency_stop.coordinate.bounds import listed
from emergency_stop.coordinate.holds import changed_hold
from emergency_stop.coordinate.lifecycle import Change, resolve, to_wire_emergency
from emergency_stop.coordinate.recovery_checks import began_anew, counted, doubt, failing, targets_of, unhealthy
from emergency_stop.coordinate.recovery_probes import named, probed, refused, unanswered
from emergency_stop.coordinate.recovery_procedures import Gate
from emergency_stop.coordinate.recovery_questions import answer_of, asked_anew
from emergency_stop.coordinate.recovery_records import changed, moved, recovery_note, to_wire_recovery, under_way
from emergency_stop.coordinate.recovery_rollback import fail
from emergency_stop.coordinate.recovery_state import RecoveryState, shares_at
from emergency_stop.coordinate.resume import clear, held_services
from emergency_stop.coordinate.services import Liveness
from emergency_stop.coordinate.state import Case, Effect, ScopeState, Target, World
from emergency_stop.coordinate.tables import (
    EmergencyEvent,
    HoldEvent,
    Phase,
    RecoveryEvent,
    Stage,
    Standing,
)
from emergency_stop.domain.frozen import replace
from emergency_stop.domain.values import ConditionState

#: What a look and the records of a step may take of the phase's time, beside its probe and its soak.
_SLACK_MS: Final = 5_000


def begin_step(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    """Admit the next share: on record first, then in the hold, then asked of the services."""
    recovery, before = under_way(case), state
    step = recovery.plan[recovery.step]
    procedure, number = recovery.procedure, recovery.step + 1
    case = moved(
        case, RecoveryEvent.ADMIT, now_ms, step=number, shares=shares_at(recovery.plan, number), soak_until=None,
        asked=None, baseline=counted(step.services, world, now_ms, recovery.baseline),
        look_at=now_ms + procedure.interval_ms,
        detail=f"admits {step.percent} % of {listed(step.services)}",
    )  # fmt: skip
    if recovery.stage is Stage.PREPARATION:
        each_ms = procedure.probe_timeout_ms + procedure.soak_ms + procedure.interval_ms + _SLACK_MS
        case = changed(case, deadline_at=now_ms + each_ms * len(recovery.plan))
    state = replace(state, epoch=world.next_epoch(state)).with_case(case)
    until = now_ms + procedure.probe_timeout_ms
    case, sent = probed(state, case, step.services, step.percent, until, now_ms, world)
    state = state.with_case(case)
    hold = changed_hold(before, state, HoldEvent.CAUSE_EASED, case.reason, now_ms)
    note = recovery_note(case, "eased", world.policy.issued_by, now_ms, before, state)
    return state, [note, to_wire_recovery(case), hold, *sent]


def watch_step(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    """The share that is admitted: answered for, soaked, and let through by the gate."""
    recovery = under_way(case)
    why = (
        refused(recovery.probes)
        or began_anew(recovery, world, now_ms)
        or doubt(state, case, world, now_ms)
        or failing(recovery, world, now_ms)
        or _condition_back(recovery)
    )
    if not why and now_ms >= recovery.deadline_at:
        why = f"not restored in time; {recovery.detail}"
    if why:
        return fail(state, case, why, now_ms, world)
    if recovery.soak_until is None:
        return _await_ready(state, case, now_ms, world)
    if now_ms >= recovery.soak_until:
        return _pass_gate(state, case, now_ms, world)
    return _look_again(state, case, now_ms)


def _condition_back(recovery: RecoveryState) -> str:
    """What a detector said of the condition while a share was admitted, unless that it is clear."""
    if recovery.asked is None or recovery.asked.state in (None, ConditionState.CLEAR):
        return ""
    return answer_of(recovery.asked)[1]


def _await_ready(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    recovery = under_way(case)
    owing = unanswered(recovery.probes, world, now_ms)
    if owing and recovery.probe_until is not None and now_ms >= recovery.probe_until:
        return fail(state, case, f"no answer to the probe in time from {named(owing)}", now_ms, world)
    if owing:
        return _look_again(state, case, now_ms)
    soak_until = now_ms + recovery.procedure.soak_ms
    case = changed(case, probe_until=None, soak_until=soak_until, look_at=now_ms + recovery.procedure.interval_ms)
    if Gate.CONDITION not in recovery.procedure.gates or case.trigger_id is None:
        return state.with_case(case), []
    asked, question = asked_anew(case, recovery.recovery_id, now_ms)
    return state.with_case(changed(case, asked=asked)), [question]


def _pass_gate(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    recovery = under_way(case)
    if recovery.asked is not None and recovery.asked.state is None:
        waited_ms = now_ms - recovery.asked.asked_at
        if waited_ms >= recovery.procedure.soak_ms + recovery.procedure.interval_ms:
            return fail(state, case, f"no detector answered how {case.trigger_id} stands", now_ms, world)
        again = recovery.asked.asked_at + recovery.procedure.soak_ms + recovery.procedure.interval_ms
        return _postponed(state, case, again)
    if recovery.step < len(recovery.plan):
        return begin_step(state, case, now_ms, world)
    return restore(state, case, now_ms, world)


def _postponed(state: ScopeState, case: Case, until: int) -> Change:
    """The gate waits for an answer until then."""
    if under_way(case).soak_until == until:
        return state, []
    return state.with_case(changed(case, soak_until=until)), []


def _look_again(state: ScopeState, case: Case, now_ms: int) -> Change:
    recovery = under_way(case)
    if now_ms < recovery.look_at:
        return state, []
    return state.with_case(changed(case, look_at=now_ms + recovery.procedure.interval_ms)), []


def restore(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    """Clear the cause: all services that nothing else holds are told to resume."""
    before, recovery = state, under_way(case)
    deadline_at = now_ms + recovery.procedure.full_restore_timeout_ms
    case = moved(
        case, RecoveryEvent.CLEAR, now_ms, shares=(), probes=(), probe_until=None, soak_until=None, asked=None,
        deadline_at=deadline_at, look_at=deadline_at, detail="every service resumes", step=recovery.step + 1,
        baseline=counted(targets_of(case, world), world, now_ms, recovery.baseline),
    )  # fmt: skip
    still_held = held_services([other for other in before.in_force if other.emergency_id != case.emergency_id], world)
    state = replace(state, epoch=world.next_epoch(state))
    state, cleared = clear(state, case, still_held, now_ms, world)
    event = HoldEvent.CAUSE_CLEARED if state.in_force else HoldEvent.LAST_CAUSE_CLEARED
    hold = changed_hold(before, state, event, f"recovered by {recovery.started_by}", now_ms)
    note = recovery_note(case, Stage.FULL_RESTORE.value, world.policy.issued_by, now_ms, before, state)
    effects: list[Effect] = [note, to_wire_recovery(case), hold, *cleared]
    after = state.case(case.emergency_id)
    if after is None or after.phase is not Phase.RESOLVED:
        return state, effects
    after = moved(after, RecoveryEvent.RELEASED, now_ms, detail="other emergencies hold all its services still")
    return state.with_case(after), [*effects, *_completed(after, now_ms, world)]


def confirm(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    """Every instance that was told to resume says that it has."""
    recovery = under_way(case)
    owing = [target for target in case.targets if _owes(target, now_ms, world)]
    said_no = next((target for target in owing if target.standing is Standing.REFUSED), None)
    why = f"{said_no.service}/{said_no.instance_id} refuses to resume: {said_no.reason}" if said_no else ""
    why = why or unhealthy(case, world, now_ms)
    if not why and owing and now_ms >= recovery.deadline_at:
        names = listed([f"{target.service}/{target.instance_id}" for target in owing])
        why = f"the resume was not confirmed in time by {names}"
    if why:
        return fail(state, case, why, now_ms, world)
    if owing:
        return state, []
    case = moved(
        case, RecoveryEvent.CONFIRMED, now_ms, deadline_at=now_ms + recovery.procedure.monitoring_ms,
        look_at=now_ms + recovery.procedure.interval_ms, detail="every instance confirmed the resume; watched",
    )  # fmt: skip
    note = recovery_note(case, Stage.MONITORING.value, world.policy.issued_by, now_ms)
    return state.with_case(case), [note, to_wire_recovery(case)]


def _owes(target: Target, now_ms: int, world: World) -> bool:
    if target.standing not in (Standing.RESUMING, Standing.REFUSED):
        return False
    found = world.services.instances(target.service, now_ms, world.policy.heartbeat_lost_ms)
    _, liveness = found.get(target.instance_id, (None, Liveness.LOST))
    return liveness is not Liveness.LEFT


def monitor(state: ScopeState, case: Case, now_ms: int, world: World) -> Change:
    """It runs in full. What speaks against it is a hit of its cause, bad health, and actions that fail."""
    recovery = under_way(case)
    why = unhealthy(case, world, now_ms) or failing(recovery, world, now_ms)
    if why:
        return fail(state, case, why, now_ms, world)
    if now_ms < recovery.deadline_at:
        return _look_again(state, case, now_ms)
    case = moved(case, RecoveryEvent.ENDURED, now_ms, detail="nothing came back while it was watched")
    state, resolved = resolve(state, case, EmergencyEvent.CONFIRMED, now_ms)
    return state, [*_completed(case, now_ms, world), *resolved]


def _completed(case: Case, now_ms: int, world: World) -> list[Effect]:
    note = recovery_note(case, Stage.COMPLETED.value, world.policy.issued_by, now_ms)
    return [to_wire_recovery(case), note, to_wire_emergency(case)]
