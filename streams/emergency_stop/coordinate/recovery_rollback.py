"""The end of a recovery that did not succeed: whatever it let run is stopped again, at the former level.

What failed before it admitted anything leaves hold and epoch as they are: the scope never ran. What failed later gets a
new stop epoch, and every instance owes its proof anew.
"""

from __future__ import annotations

from typing import Final

from emergency_stop.coordinate.holds import changed_hold
from emergency_stop.coordinate.instances import all_proved, enlist
from emergency_stop.coordinate.lifecycle import Change, commands, recovers_by_itself, settle, to_wire_emergency
from emergency_stop.coordinate.recovery_records import moved, recovery_note, to_wire_recovery, under_way
from emergency_stop.coordinate.recovery_state import FAILED_RECOVERIES_MAX
from emergency_stop.coordinate.state import Case, Effect, Order, ScopeState, World
from emergency_stop.coordinate.tables import EMERGENCY, EmergencyEvent, HoldEvent, Phase, RecoveryEvent
from emergency_stop.domain.frozen import replace
from emergency_stop.domain.ids import command_id
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.values import Action

#: How long after its first failure a recovery may begin again by itself; doubled by every further one.
BACKOFF_MS: Final = 60_000
BACKOFF_MS_MAX: Final = 3_600_000


def fail(state: ScopeState, case: Case, why: str, now_ms: int, world: World) -> Change:
    """The recovery of ``case`` failed. Every third failure latches: a person must reset the emergency first."""
    admitted, failed = under_way(case).admits, case.failed_recoveries + 1
    latched = case.latched or failed % FAILED_RECOVERIES_MAX == 0
    last = f"; {failed} recoveries failed, so it must be reset before the next" if latched else ""
    case = moved(case, RecoveryEvent.FAIL, now_ms, detail=why + last)
    case = replace(case, failed_recoveries=failed, latched=latched, asked=None, times_asked=0)
    wait_ms = min(BACKOFF_MS * 2 ** min(failed - 1, 16), BACKOFF_MS_MAX)  # so many doublings exceed the longest anyway
    due_at = now_ms + wait_ms if recovers_by_itself(case) else None
    return _held_again(state, replace(case, recover_at=due_at), now_ms, world, admitted=admitted)


def fail_for_hit(state: ScopeState, hit: Hit, now_ms: int, world: World) -> Change:
    """The cause is back: whatever recovers from it does not."""
    effects: list[Effect] = []
    for case in state.cases:
        if case.recovering is not None and case.trigger_id == hit.trigger_id:
            state, more = fail(state, case, f"trigger {hit.trigger_id} fired again: {hit.reason}", now_ms, world)
            effects += more
    return state, effects


def give_way(state: ScopeState, why: str, now_ms: int, world: World) -> Change:
    """A newer stop of the scope is about to be opened: recoveries under way end, and what is half open is shut."""
    effects: list[Effect] = []
    for case in state.cases:
        if case.recovering is None:
            continue
        ended = moved(case, RecoveryEvent.ABANDON, now_ms, detail=why)
        if case.phase is Phase.RESTORING:
            state, more = _held_again(state, ended, now_ms, world, admitted=under_way(case).admits)
        else:  # its hold is lifted, and the newer stop's takes its place
            state, more = state.with_case(ended), _told(ended, now_ms, world)
        effects += more
    return state, effects


def overtaken(case: Case, why: str, now_ms: int, world: World) -> tuple[Case, list[Effect]]:
    """A person resumes it at once: the recovery ends, and the resume does the rest."""
    if case.recovering is None:
        return case, []
    case = moved(case, RecoveryEvent.ABANDON, now_ms, detail=why)
    return case, _told(case, now_ms, world)


def _held_again(state: ScopeState, case: Case, now_ms: int, world: World, *, admitted: bool) -> Change:
    """The case as it stands without its recovery, which has ended. ``admitted``: something ran because of it."""
    if not admitted:
        event = EmergencyEvent.PROVEN if all_proved(case) else EmergencyEvent.DOUBT
        case = replace(case, phase=EMERGENCY.next(case.phase, event))
        if case.phase is Phase.STOPPED and recovers_by_itself(case):
            case = replace(case, recover_at=case.recover_at or now_ms)
        return state.with_case(case), [*_told(case, now_ms, world), to_wire_emergency(case)]
    before = state
    added = HoldEvent.CAUSE_RAISED if case.in_force else HoldEvent.CAUSE_ADDED
    case = _stopped_anew(case, world.next_epoch(state), now_ms, world)
    state = replace(state, epoch=case.epoch, stop_epoch=case.epoch).with_case(case)
    hold = changed_hold(before, state, added, case.reason, now_ms)
    sent = commands(case, case.orders[-1], (target.service for target in case.targets), world)
    told = _told(case, now_ms, world, before, state)
    state, settled = settle(state, case, now_ms, world)
    return state, [hold, *sent, *told, to_wire_emergency(case), *settled]


def _stopped_anew(case: Case, epoch: int, now_ms: int, world: World) -> Case:
    """The case at the level it had, with new commands out. Answers to the former ones prove nothing any more."""
    services = {target.service for target in case.targets}
    former = tuple(
        command_id(case.emergency_id, service, order.epoch, order.action, order.attempt)
        for order in case.orders
        for service in sorted(services)
    )
    order = Order(Action.STOP, 1, epoch, case.level, now_ms, now_ms + world.policy.timeout_ms(case.level))
    return replace(
        case,
        phase=EMERGENCY.next(case.phase, EmergencyEvent.ROLL_BACK),
        epoch=epoch,
        orders=(order,),
        targets=enlist(case, world, now_ms),
        completed_at=None,
        success=None,
        time_to_stop_ms=None,
        rolled_back_at=now_ms,
        recovery=replace(case.recovery, former_commands=former) if case.recovery else None,
    )


def _told(
    case: Case, now_ms: int, world: World, before: ScopeState | None = None, after: ScopeState | None = None
) -> list[Effect]:
    action = case.recovery.stage.value if case.recovery else ""
    return [to_wire_recovery(case), recovery_note(case, action, world.policy.issued_by, now_ms, before, after)]
