"""Audit records of the coordinator's decisions. The same decision always has the same id."""

from __future__ import annotations

import json
from collections.abc import Mapping

from emergency_stop.coordinate.holds import hold_state
from emergency_stop.coordinate.state import ScopeState
from emergency_stop.domain.ids import derived_id
from emergency_stop.domain.messages import AuditRecord


def summary(state: ScopeState) -> str:
    """A scope in one line of JSON: what an auditor compares before and after."""
    held_by = [case.emergency_id for case in state.in_force]
    return json.dumps({"epoch": state.epoch, "hold": hold_state(state).value, "held_by": held_by})


def decision(  # the fields of the record, all by name
    *,
    at: int,
    actor: str,
    action: str,
    subject: str,
    reason: str,
    correlation_id: str,
    cause: str,
    before: ScopeState | None = None,
    after: ScopeState | None = None,
    details: Mapping[str, str | int | None] | None = None,
) -> AuditRecord:
    """``cause`` tells apart equal actions on one subject: the id of the message or order that led to it."""
    return AuditRecord(
        audit_id=derived_id("audit", action, subject, cause),
        at=at,
        actor=actor,
        action=action,
        subject=subject,
        reason=reason,
        correlation_id=correlation_id,
        before=summary(before) if before else "",
        after=json.dumps(dict(details)) if details else summary(after) if after else "",
    )
