"""How a recovery moves from stage to stage, and what is put on record of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from emergency_stop.coordinate.audit import decision
from emergency_stop.coordinate.recovery_state import RecoveryState
from emergency_stop.coordinate.state import Case, ScopeState
from emergency_stop.coordinate.tables import RECOVERY, InvariantViolationError, RecoveryEvent, Stage
from emergency_stop.domain.frozen import replace
from emergency_stop.domain.messages import AuditRecord, Recovery
from emergency_stop.domain.values import RecoveryOutcome, RecoveryPhase

_OUTCOMES: Final[Mapping[Stage, RecoveryOutcome]] = {
    Stage.COMPLETED: RecoveryOutcome.COMPLETED,
    Stage.ROLLED_BACK: RecoveryOutcome.ROLLED_BACK,
    Stage.ABANDONED: RecoveryOutcome.ABANDONED,
}


def under_way(case: Case) -> RecoveryState:
    """The recovery of a case that has one. Raises ``InvariantViolationError``."""
    if case.recovering is None:
        raise InvariantViolationError(f"no recovery of emergency {case.emergency_id} is under way")
    return case.recovering


def changed(case: Case, **changes: Any) -> Case:
    """The case with its recovery changed."""
    return replace(case, recovery=replace(under_way(case), **changes))


def moved(case: Case, event: RecoveryEvent, now_ms: int, **changes: Any) -> Case:
    """The case with its recovery in the stage that follows. Raises ``IllegalTransitionError``."""
    recovery = under_way(case)
    stage = RECOVERY.next(recovery.stage, event)
    recovery = replace(recovery, stage=stage, phase=stage if stage not in _OUTCOMES else recovery.phase, **changes)
    if not recovery.is_under_way:
        recovery = replace(
            recovery, ended_at=now_ms, shares=(), probes=(), asked=None, baseline=(), probe_until=None, soak_until=None
        )
    return replace(case, recovery=recovery)


def to_wire_recovery(case: Case) -> Recovery:
    """The newest account of the case's last recovery. Raises ``InvariantViolationError`` where there was none."""
    one = case.recovery
    if one is None:
        raise InvariantViolationError(f"emergency {case.emergency_id} has no recovery to tell of")
    return Recovery(
        recovery_id=one.recovery_id,
        emergency_id=case.emergency_id,
        scope=case.scope,
        correlation_id=case.correlation_id,
        attempt=one.attempt,
        procedure=one.procedure.name,
        reasons=one.reasons,
        phase=RecoveryPhase(one.phase.value),
        outcome=_OUTCOMES.get(one.stage, RecoveryOutcome.UNDER_WAY),
        started_by=one.started_by,
        started_at=one.started_at,
        deadline_at=one.deadline_at,
        checks_passed=one.checks_passed,
        shares=one.shares,
        detail=one.detail,
        ended_at=one.ended_at,
    )


def recovery_note(
    case: Case,
    action: str,
    actor: str,
    now_ms: int,
    before: ScopeState | None = None,
    after: ScopeState | None = None,
) -> AuditRecord:
    """The audit record of what the case's recovery has just done; its reason is the recovery's detail."""
    one = case.recovery
    if one is None:
        raise InvariantViolationError(f"emergency {case.emergency_id} has no recovery to put on record")
    return decision(
        at=now_ms, actor=actor, action=f"recovery_{action}", subject=case.emergency_id, reason=one.detail,
        correlation_id=case.correlation_id, cause=f"{one.recovery_id} step {one.step}", before=before, after=after,
    )  # fmt: skip
