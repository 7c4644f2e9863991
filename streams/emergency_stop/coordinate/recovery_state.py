"""What is remembered of one recovery: frozen values, changed only by the modules beside this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from emergency_stop.coordinate.recovery_procedures import PERCENT_ALL, Procedure
from emergency_stop.coordinate.tables import Stage
from emergency_stop.domain.messages import Share
from emergency_stop.domain.values import AckState, ConditionState

#: Every so many failed recoveries latch an emergency: a person must reset it first.
FAILED_RECOVERIES_MAX: Final = 3
_ENDS: Final = frozenset({Stage.COMPLETED, Stage.ROLLED_BACK, Stage.ABANDONED})


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to a detector; ``state`` is its answer, ``None`` until it comes."""

    question_id: str
    asked_at: int
    state: ConditionState | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """One instance that was asked whether it is well; ``state`` is ``None`` until it answers."""

    service: str
    instance_id: str
    #: When the instance began: one that begins anew never saw the probe.
    started_at: int
    state: AckState | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """An instance's counters when it was first let run."""

    service: str
    instance_id: str
    started_at: int
    actions: int
    failed_actions: int


@dataclass(frozen=True, slots=True)
class Step:
    """One tier of services that is admitted to a share of its work."""

    services: tuple[str, ...]
    percent: int


@dataclass(frozen=True, slots=True)
class RecoveryState:
    """One attempt. ``procedure`` is kept whole: settings may change before it ends."""

    recovery_id: str
    attempt: int
    procedure: Procedure
    reasons: tuple[str, ...]
    stage: Stage
    #: The phase in which it is, or ended.
    phase: Stage
    started_by: str
    started_at: int
    #: When the phase is over at the latest.
    deadline_at: int
    #: When it is next looked at.
    look_at: int
    detail: str
    checks_passed: int = 0
    asked: Asked | None = None
    #: What is admitted, in order; ``step`` counts those that were begun.
    plan: tuple[Step, ...] = ()
    step: int = 0
    shares: tuple[Share, ...] = ()
    probes: tuple[Probe, ...] = ()
    #: Epochs of the commands that probed; answers to the newest count.
    probe_epochs: tuple[int, ...] = ()
    #: While instances answer: until when. While a share is watched: ``soak_until``.
    probe_until: int | None = None
    soak_until: int | None = None
    baseline: tuple[Count, ...] = ()
    #: Commands of the stop that a rollback replaced: answers to them mean nothing any more.
    former_commands: tuple[str, ...] = ()
    ended_at: int | None = None

    @property
    def is_under_way(self) -> bool:
        return self.stage not in _ENDS

    @property
    def admits(self) -> bool:
        """Whether anything runs again because of it."""
        return self.stage in (Stage.FULL_RESTORE, Stage.MONITORING) or bool(self.shares)

    @property
    def due_at(self) -> int:
        """When passing time next matters to it."""
        times = (self.deadline_at, self.look_at, self.probe_until, self.soak_until)
        return min(at for at in times if at is not None)


def planned(tiers: tuple[tuple[str, ...], ...], shares: tuple[int, ...]) -> tuple[Step, ...]:
    """Every tier through every share before the next: a service finds what it depends on at work in full."""
    return tuple(Step(tier, percent) for tier in tiers for percent in shares)


def shares_at(plan: tuple[Step, ...], step: int) -> tuple[Share, ...]:
    """What is admitted once ``step`` steps were begun: what came before in full."""
    admitted: dict[str, int] = {}
    for number, one in enumerate(plan[:step], start=1):
        is_last = number == step
        admitted |= dict.fromkeys(one.services, one.percent if is_last else PERCENT_ALL)
    return tuple(Share(service, percent) for service, percent in sorted(admitted.items()))
