"""Which level a stop has in force, for what was asked.

A stop is never refused for its form. What cannot be taken as it was asked is carried out as the nearest that stops at
least as much, and the emergency's reason says so.
"""

from __future__ import annotations

from emergency_stop.domain.messages import Request
from emergency_stop.domain.values import ALL_SERVICES, ScopeKind, StopLevel

#: What a service-specific stop may carry.
CARRIED = frozenset({StopLevel.IMMEDIATE, StopLevel.GRACEFUL})


def in_force(
    asked: StopLevel, services: tuple[str, ...], kind: ScopeKind, carries: StopLevel | None = None
) -> tuple[StopLevel, str]:
    """(level in force, what to add to the reason; empty where it is carried out as asked).

    A service-specific stop that carries immediate is an immediate one for its services, to gates and deadlines alike.
    """
    if asked is not StopLevel.SERVICE_SPECIFIC:
        return asked, "" if carries is None else f" (carries {carries.value} is for service_specific stops: left out)"
    note = ""
    if kind is not ScopeKind.SERVICE and (not services or ALL_SERVICES in services):
        note = " (service_specific, but no service was named: all are stopped)"
    if carries is not None and carries not in CARRIED:
        note += f" (a service_specific stop cannot carry {carries.value}: stopped gracefully)"
    return (carries if carries is StopLevel.IMMEDIATE else asked), note


def begins_later(request: Request, now_ms: int) -> tuple[bool, str]:
    """(whether the stop is to begin at ``starts_at`` only, what to add to the reason)."""
    if request.starts_at is None or request.starts_at <= now_ms:
        return False, ""
    if request.level is StopLevel.MAINTENANCE:
        return True, ""
    return False, f" (only a maintenance stop can be planned; {request.level.value} stops at once)"
