"""The hold of a scope: always the most severe of the emergencies in force, never kept apart from them."""

from __future__ import annotations

from emergency_stop.coordinate.state import Case, ScopeState
from emergency_stop.coordinate.tables import HOLD, HoldEvent, InvariantViolationError
from emergency_stop.domain.messages import Hold, HoldCause
from emergency_stop.domain.values import ALL_SERVICES, LEVEL_SEVERITY, HoldState, StopLevel


def hold_state(state: ScopeState) -> HoldState:
    return HoldState.HELD if state.in_force else HoldState.RUNNING


def changed_hold(before: ScopeState, after: ScopeState, event: HoldEvent, reason: str, now_ms: int) -> Hold:
    """The hold to publish after ``event`` led from ``before`` to ``after``.

    Raises ``InvariantViolationError`` where the states contradict the hold machine or the epoch did not
    grow: no two different holds of a scope may share an epoch.
    """
    if HOLD.next(hold_state(before), event) is not hold_state(after) or after.epoch <= before.epoch:
        raise InvariantViolationError(
            f"{event} took {after.scope} from {hold_state(before)} at epoch {before.epoch}"
            f" to {hold_state(after)} at epoch {after.epoch}"
        )
    return hold_of(after, reason, now_ms)


def hold_of(state: ScopeState, reason: str, now_ms: int) -> Hold:
    """The hold that follows from ``state``; ``reason`` is that of one which holds nothing."""
    causes = state.in_force
    worst = max(causes, key=lambda case: LEVEL_SEVERITY[case.level], default=None)
    return Hold(
        scope=state.scope,
        epoch=state.epoch,
        state=hold_state(state),
        level=worst.level if worst else None,
        causes=tuple(map(_cause, causes)),
        reason=worst.reason if worst else reason,
        updated_at=now_ms,
    )


def _cause(case: Case) -> HoldCause:
    shares = case.recovering.shares if case.recovering else ()
    return HoldCause(
        case.emergency_id, case.level, case.held_services, case.reason, case.epoch, case.trigger_id, shares
    )


def covers(case: Case, services: tuple[str, ...], level: StopLevel) -> bool:
    """Whether ``case`` already holds at least these services at least so severely.

    A cascading stop covers by what it is to hold one that would cascade as well, others by what it holds by now.
    """
    held = case.services if level is StopLevel.CASCADING else case.held_services
    enough = ALL_SERVICES in held or (ALL_SERVICES not in services and set(services) <= set(held))
    return enough and LEVEL_SEVERITY[case.level] >= LEVEL_SEVERITY[level]
