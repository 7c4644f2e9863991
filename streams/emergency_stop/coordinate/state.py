"""What a coordinator remembers about one scope: frozen values, changed only by ``coordinate.step``.

All that one decision touches lies in one ``ScopeState``, and one state record holds all of it: a crash
between two records can then never leave half a decision behind.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from emergency_stop.coordinate.recovery_procedures import Procedure, default_procedures
from emergency_stop.coordinate.recovery_state import Asked, RecoveryState
from emergency_stop.coordinate.services import Services
from emergency_stop.coordinate.tables import IN_FORCE, TIMED, Phase, Standing
from emergency_stop.domain.frozen import replace
from emergency_stop.domain.messages import AuditRecord, Command, ConditionQuestion, Emergency, Hold, Recovery
from emergency_stop.domain.values import Action, ClearRule, StopLevel, TriggerType

Effect = Hold | Command | Emergency | Recovery | ConditionQuestion | AuditRecord

#: Ids of causes remembered per scope, so that a repeated one is recognised. Past it the oldest is
#: forgotten: at worst a very old duplicate stops again, which errs on the safe side.
SEEN_MAX: Final = 256
#: Emergencies that one scope keeps; finished ones beyond it go first, those in force never.
EMERGENCIES_KEPT_MAX: Final = 64
#: Approvals that one scope keeps; past it the oldest is forgotten, and its author must ask again.
APPROVALS_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decide; times in milliseconds."""

    immediate_stop_timeout_ms: int = 5_000
    graceful_stop_timeout_ms: int = 60_000
    #: An instance is lost when its last heartbeat is older.
    heartbeat_lost_ms: int = 30_000
    #: Stops whose commands may be out at once in one partition; holds are never queued.
    max_concurrent_stops: int = 10
    #: How long finished emergencies and the ids of their causes are remembered.
    retention_ms: int = 3_600_000
    issued_by: str = "coordinator"
    #: ``False``: hits are recorded and stop nothing; people's stops still do.
    automatic_stops: bool = True
    #: Services that each service depends on, beside what it announces itself.
    dependencies: Mapping[str, Collection[str]] = field(default_factory=dict)
    #: Different people who must ask before a hold of everything is lifted.
    global_resume_people: int = 2
    #: How long the word of one of them waits for the others'.
    approval_expiry_ms: int = 900_000
    #: Whether a recovery may begin by itself, and how often a condition is asked about at first.
    automatic_recovery: bool = True
    condition_interval_ms: int = 10_000
    #: The procedures of recovery, in the order in which they are asked whether they apply.
    procedures: tuple[Procedure, ...] = field(default_factory=default_procedures)

    def timeout_ms(self, level: StopLevel) -> int:
        return self.immediate_stop_timeout_ms if level is StopLevel.IMMEDIATE else self.graceful_stop_timeout_ms


@dataclass(frozen=True, slots=True)
class World:
    """What a step sees besides its state and message: settings, announcements, and what was published."""

    policy: Policy
    services: Services
    #: ``(scope, epoch)``: whether the scope's hold of that epoch, or a newer one, has been read back from the topic.
    is_published: Callable[[str, int], bool]
    #: The newest epoch per scope on ``estop.holds``. A predecessor may have published more than it saved,
    #: and a scope may have been forgotten; both must not make an epoch stand for two different holds.
    published_epochs: Mapping[str, int] = field(default_factory=dict)
    #: Scopes of this partition whose last hold on the topic is older than one before it; see ``published``.
    overtaken: Mapping[str, int] = field(default_factory=dict)
    #: Holds in force that reach beyond one account, by scope, whoever wrote them.
    wide_holds: Mapping[str, Hold] = field(default_factory=dict)
    #: Whether stops of this partition wait for their turn; nothing begins to recover by itself before they had it.
    stops_wait: bool = False

    def next_epoch(self, state: ScopeState) -> int:
        return max(state.epoch, self.published_epochs.get(state.scope, 0)) + 1


@dataclass(frozen=True, slots=True)
class Target:
    """One instance of a target service; ``instance_id`` is empty while none of it was ever seen."""

    service: str
    instance_id: str
    standing: Standing
    reason: str
    in_flight: int
    #: When the instance said so (its clock), or the coordinator concluded it.
    at: int
    #: Number of the order that was answered; 0 where the coordinator concluded it.
    order: int = 0
    #: Of the process that this is known of, as it announces itself; ``None``: not told.
    started_at: int | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """Commands sent to the target services: the first stop, its escalation, or the resume."""

    action: Action
    attempt: int
    epoch: int
    level: StopLevel
    issued_at: int
    deadline_at: int


@dataclass(frozen=True, slots=True)
class Case:
    """An emergency as the coordinator keeps it. ``level`` is the one in force, ``epoch`` that of its hold."""

    emergency_id: str
    phase: Phase
    scope: str
    account_id: str | None
    level: StopLevel
    epoch: int
    priority: int
    reason: str
    cause: str
    trigger_id: str | None
    trigger_type: TriggerType
    services: tuple[str, ...]
    correlation_id: str
    occurred_at: int
    started_at: int
    orders: tuple[Order, ...] = ()
    targets: tuple[Target, ...] = ()
    completed_at: int | None = None
    time_to_stop_ms: int | None = None
    success: bool | None = None
    #: What must happen before it may be undone, and whether an operator must reset it first.
    clear_rule: ClearRule = ClearRule.NEVER_AUTOMATICALLY
    latched: bool = False
    failed_recoveries: int = 0
    #: A rehearsal: never in force, holds nothing.
    drill: bool = False
    #: Of a planned stop: when it begins.
    starts_at: int | None = None
    #: The level that was asked for; ``None``: ``level``.
    asked_level: StopLevel | None = None
    #: When it became RESOLVED; it is forgotten a retention later.
    resolved_at: int | None = None
    #: Of a cascading stop: its services in the order in which they stop, and how many of the tiers have begun.
    tiers: tuple[tuple[str, ...], ...] = ()
    tiers_begun: int = 0
    #: When the next tier begins at the latest.
    tier_deadline_at: int | None = None
    #: The last attempt to undo it, and how many there were.
    recovery: RecoveryState | None = None
    recoveries: int = 0
    #: When its condition is next asked about, so that it may recover by itself; ``None``: it may not.
    recover_at: int | None = None
    asked: Asked | None = None
    times_asked: int = 0
    #: When a recovery was rolled back: its time to stop runs from here.
    rolled_back_at: int | None = None

    @property
    def recovering(self) -> RecoveryState | None:
        """The recovery that is under way."""
        return self.recovery if self.recovery is not None and self.recovery.is_under_way else None

    @property
    def recovery_due_at(self) -> int | None:
        """When passing time next matters to its recovery, under way or to come."""
        if self.recovering is not None:
            return self.recovering.due_at
        return self.recover_at if self.phase is Phase.STOPPED else None

    @property
    def in_force(self) -> bool:
        return self.phase in IN_FORCE and not self.drill

    @property
    def is_whole(self) -> bool:
        """Whether it holds all that it is to hold; a cascading stop does with its last tier."""
        return self.tiers_begun >= len(self.tiers)

    @property
    def held_services(self) -> tuple[str, ...]:
        """The services that it holds by now, or walks through by now where it is a drill."""
        if self.is_whole:
            return self.services
        return tuple(sorted(name for tier in self.tiers[: self.tiers_begun] for name in tier))

    @property
    def due_at(self) -> int | None:
        """When passing time next matters to it, recoveries left out; ``None``: not before something happens."""
        if self.phase is Phase.SCHEDULED:
            return self.starts_at
        if self.phase in (Phase.QUEUED, Phase.STOPPING) and not self.is_whole:
            return self.tier_deadline_at
        return self.deadline_at if self.phase in TIMED and self.recovering is None else None

    @property
    def deadline_at(self) -> int:
        """Of the newest order; of a queued emergency, when it began."""
        return self.orders[-1].deadline_at if self.orders else self.started_at


@dataclass(frozen=True, slots=True)
class Seen:
    """The id of a hit or request that was already decided, and when."""

    cause: str
    at: int


@dataclass(frozen=True, slots=True)
class Approval:
    """One person's word for undoing a hold that needs several; see ``coordinate.authority``."""

    action: Action
    emergency_id: str | None
    procedure: str | None
    #: The epoch that the person named.
    epoch: int
    approved_by: str
    at: int


@dataclass(frozen=True, slots=True)
class ScopeState:
    """A scope: its epoch, its emergencies from oldest to newest, and the causes already decided."""

    scope: str
    epoch: int = 0
    #: Epoch of the newest stop; a resume that names an older one is stale.
    stop_epoch: int = 0
    cases: tuple[Case, ...] = ()
    seen: tuple[Seen, ...] = ()
    approvals: tuple[Approval, ...] = ()

    @property
    def in_force(self) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if case.in_force)

    def case(self, emergency_id: str) -> Case | None:
        return next((case for case in self.cases if case.emergency_id == emergency_id), None)

    def has_seen(self, cause: str) -> bool:
        return any(entry.cause == cause for entry in self.seen)

    def with_case(self, case: Case) -> ScopeState:
        """The state with ``case`` in the place of the former one of its id, or added last."""
        if self.case(case.emergency_id) is None:
            return replace(self, cases=(*self.cases, case))
        kept = tuple(case if old.emergency_id == case.emergency_id else old for old in self.cases)
        return replace(self, cases=kept)

    def with_seen(self, cause: str, at: int) -> ScopeState:
        return replace(self, seen=(*self.seen, Seen(cause, at))[-SEEN_MAX:])
