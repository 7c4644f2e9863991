"""Procedures of recovery, as data: how often it is checked, how much is admitted when, and what may end it.

Health and hits count always; what else is looked at while shares are admitted are a procedure's gates. Durations are
milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from emergency_stop.domain.values import ScopeKind, StopLevel, TriggerType

PERCENT_ALL: Final = 100


class Gate(StrEnum):
    """What is asked after every step, beside health and hits."""

    #: The share of actions that fail, since the first were admitted, is within its limit.
    FAILED_ACTIONS = "failed_actions"
    #: The trigger's condition is still clear.
    CONDITION = "condition"


@dataclass(frozen=True, slots=True)
class When:
    """To which emergencies a procedure applies by itself; every field that is given must hold."""

    levels: tuple[StopLevel, ...] = ()
    trigger_types: tuple[TriggerType, ...] = ()
    scope_kinds: tuple[ScopeKind, ...] = ()
    #: Of the trigger; a person's stop has none.
    priority_min: int | None = None
    #: Recoveries of the scope that failed.
    failed_recoveries_min: int | None = None


@dataclass(frozen=True, slots=True)
class Procedure:
    """How one kind of emergency is undone. ``when`` empty: only where it is named."""

    name: str
    #: Checks that must pass in a row.
    checks: int = 3
    #: From one check to the next, unless the timeout leaves less room; see ``interval_ms``.
    check_interval_ms: int = 10_000
    validation_timeout_ms: int = 30_000
    #: Until every instance said that it is prepared.
    preparation_timeout_ms: int = 10_000
    #: What is admitted of a tier of services, step by step, percent; rising, the last is 100.
    shares: tuple[int, ...] = (10, 50, PERCENT_ALL)
    #: Until every instance said that it is well at its share.
    probe_timeout_ms: int = 5_000
    #: How long each share is watched.
    soak_ms: int = 10_000
    #: Until every instance confirmed that it runs.
    full_restore_timeout_ms: int = 10_000
    monitoring_ms: int = 300_000
    gates: tuple[Gate, ...] = (Gate.FAILED_ACTIONS,)
    #: More than so many percent of the actions may not fail; fewer failures than ``failed_actions_min`` tell nothing.
    failed_actions_percent_max: int = 10
    failed_actions_min: int = 3
    when: tuple[When, ...] = ()

    @property
    def interval_ms(self) -> int:
        """From one check to the next: one more than needed fits into the timeout."""
        return max(1, min(self.check_interval_ms, self.validation_timeout_ms // (self.checks + 1)))


#: What hits an account that is lost where the stop was lifted too soon.
_GRAVE: Final = (TriggerType.ACCOUNT_SUSPENSION_RISK, TriggerType.DETECTION_EVENT_CRITICAL)
#: What load brings back.
_LOADED: Final = (
    TriggerType.RATE_LIMIT_VIOLATION,
    TriggerType.EXTERNAL_API_FAILURE,
    TriggerType.PROXY_FAILURE_CASCADE,
    TriggerType.SYSTEM_RESOURCE_CRITICAL,
)
_MOST_URGENT: Final = 4


def default_procedures(
    check_interval_ms: int = 10_000, validation_timeout_ms: int = 30_000, monitoring_ms: int = 300_000
) -> tuple[Procedure, ...]:
    """The four procedures that are there without a file; the first that applies is chosen."""
    standard = Procedure(
        "standard_recovery",
        check_interval_ms=check_interval_ms,
        validation_timeout_ms=validation_timeout_ms,
        monitoring_ms=monitoring_ms,
        when=(When(),),
    )
    return (
        replace(
            standard, name="maintenance_recovery", shares=(PERCENT_ALL,), soak_ms=5_000,
            when=(When(levels=(StopLevel.MAINTENANCE,)),),
        ),
        replace(
            standard, name="critical_recovery", checks=5, shares=(1, 5, 10, 25, 50, PERCENT_ALL), soak_ms=30_000,
            monitoring_ms=2 * monitoring_ms, gates=(Gate.FAILED_ACTIONS, Gate.CONDITION), failed_actions_percent_max=5,
            when=(When(trigger_types=_GRAVE), When(priority_min=_MOST_URGENT), When(failed_recoveries_min=2)),
        ),
        replace(
            standard, name="gradual_recovery", shares=(5, 10, 25, 50, PERCENT_ALL), soak_ms=20_000,
            when=(
                When(levels=(StopLevel.IMMEDIATE,)),
                When(scope_kinds=(ScopeKind.GLOBAL, ScopeKind.SERVICE)),
                When(trigger_types=_LOADED),
                When(failed_recoveries_min=1),
            ),
        ),
        standard,
    )  # fmt: skip
