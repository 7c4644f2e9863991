"""Control messages, one frozen dataclass per Avro record of the same name in ``schemas/avro``.

Times are integer milliseconds since the epoch (``_at``) or durations (``_ms``). Identifiers are
deterministic (UUIDv5) wherever a message can be produced twice, so that a duplicate is recognised.
"""

from __future__ import annotations

from dataclasses import dataclass

from emergency_stop.domain.values import (
    ALL_SERVICES,
    AccountKeyState,
    AckState,
    Action,
    ClearRule,
    ConditionState,
    EmergencyState,
    EvaluationOutcome,
    HoldState,
    InstanceState,
    LifecycleKind,
    Mode,
    NoticeKind,
    RecoveryOutcome,
    RecoveryPhase,
    StopLevel,
    TriggerType,
)


@dataclass(frozen=True, slots=True)
class Hit:
    """A trigger's condition came true; carries all that explains it."""

    hit_id: str
    trigger_id: str
    trigger_version: int
    trigger_type: TriggerType
    trigger_name: str
    mode: Mode
    scope: str
    account_id: str | None
    level: StopLevel
    target_services: tuple[str, ...]
    priority: int
    reason: str
    occurred_at: int
    detected_at: int
    source_topic: str
    source_partition: int
    source_offset: int
    observed: float
    threshold: float
    margin: float
    window_ms: int
    window_samples: int
    window_contents: str
    late: bool
    suppressed_before: int
    correlation_id: str
    #: What must happen before a stop that it causes may be undone.
    clear_rule: ClearRule = ClearRule.NEVER_AUTOMATICALLY


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one or many evaluations of a trigger found, beside hits; see ``detect.evaluations``.

    ``evaluations`` is how many it stands for; ``source_offset`` is -1 where no single event is meant.
    """

    evaluation_id: str
    trigger_id: str
    trigger_version: int
    mode: Mode
    scope: str
    account_id: str | None
    outcome: EvaluationOutcome
    late: bool
    observed: float | None
    threshold: float | None
    margin: float | None
    approach_percent: float | None
    window_ms: int
    window_samples: int
    evaluations: int
    period_ms: int
    evaluated_at: int
    detected_at: int
    source_topic: str
    source_partition: int
    source_offset: int


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody asks for a stop or a resume: command line, SDK, or any producer to the topic."""

    request_id: str
    action: Action
    scope: str
    level: StopLevel
    services: tuple[str, ...]
    reason: str
    requested_by: str
    requested_at: int
    correlation_id: str
    #: For a resume: the epoch that it clears. Refused if a newer stop exists.
    epoch: int | None = None
    emergency_id: str | None = None
    #: For a recovery: the name of a procedure; ``None``: chosen by the coordinator.
    procedure: str | None = None
    #: For a maintenance stop: when it begins; ``None``: now.
    starts_at: int | None = None
    #: For a service-specific stop: the level that it carries; ``None``: graceful.
    carries: StopLevel | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """An order to one service, signed with Ed25519 over all other fields."""

    command_id: str
    emergency_id: str
    correlation_id: str
    service: str
    scope: str
    epoch: int
    action: Action
    level: StopLevel
    reason: str
    issued_by: str
    issued_at: int
    deadline_at: int
    attempt: int
    key_id: str = ""
    signature: bytes = b""
    #: For a probe: how much of the service's work is admitted in ``scope``; 0: prepare, and admit nothing yet.
    share_percent: int = 0


@dataclass(frozen=True, slots=True)
class Ack:
    """One instance's answer to a command. STOPPED carries the evidence that nothing runs."""

    ack_id: str
    command_id: str
    emergency_id: str
    correlation_id: str
    scope: str
    epoch: int
    service: str
    instance_id: str
    state: AckState
    reason: str
    in_flight: int
    last_side_effect_at: int | None
    saved_state: str | None
    acked_at: int
    #: Of the process that answers, as it announced itself; ``None``: an older library, which does not say.
    started_at: int | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """How much of a service's work a cause admits while it is being undone, percent."""

    service: str
    percent: int


@dataclass(frozen=True, slots=True)
class HoldCause:
    """One emergency's part in a hold."""

    emergency_id: str
    level: StopLevel
    services: tuple[str, ...]
    reason: str
    epoch: int
    #: ``None``: a person asked for it.
    trigger_id: str | None = None
    #: What is half open; a service that is not named admits nothing.
    shares: tuple[Share, ...] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """THE state of a scope. RUNNING is written with its epoch, never a tombstone.

    ``epoch`` grows with every stop and every resume of the scope. Signed like a command.
    """

    scope: str
    epoch: int
    state: HoldState
    level: StopLevel | None
    causes: tuple[HoldCause, ...]
    reason: str
    updated_at: int
    key_id: str = ""
    signature: bytes = b""


@dataclass(frozen=True, slots=True)
class InstanceStop:
    """Where one instance of one target service stands in an emergency.

    ``instance_id`` is empty while a target service has not been seen alive.
    """

    service: str
    instance_id: str
    state: AckState
    reason: str
    in_flight: int
    at: int


@dataclass(frozen=True, slots=True)
class Emergency:
    """The full account of one emergency; the newest record per id stands."""

    emergency_id: str
    state: EmergencyState
    scope: str
    account_id: str | None
    level: StopLevel
    epoch: int
    priority: int
    reason: str
    cause: str
    trigger_id: str | None
    trigger_type: TriggerType
    target_services: tuple[str, ...]
    instances: tuple[InstanceStop, ...]
    correlation_id: str
    #: Event time of the cause; ``time_to_stop_ms`` runs from here to the last STOPPED, after a rollback from that.
    occurred_at: int
    started_at: int
    deadline_at: int
    completed_at: int | None = None
    time_to_stop_ms: int | None = None
    success: bool | None = None
    #: A rehearsal: the whole path is walked, and nothing is stopped.
    drill: bool = False
    #: Of a stop that is planned: when it begins.
    starts_at: int | None = None
    clear_rule: ClearRule = ClearRule.NEVER_AUTOMATICALLY
    #: An operator must reset it before anything may undo it.
    latched: bool = False
    failed_recoveries: int = 0
    #: The level that was asked for; ``level`` is the one in force.
    asked_level: StopLevel | None = None


@dataclass(frozen=True, slots=True)
class Recovery:
    """One attempt to undo an emergency; the newest record per id stands."""

    recovery_id: str
    emergency_id: str
    scope: str
    correlation_id: str
    #: From 1.
    attempt: int
    procedure: str
    #: Why this procedure, one line each.
    reasons: tuple[str, ...]
    #: The phase, or the one in which it failed.
    phase: RecoveryPhase
    outcome: RecoveryOutcome
    started_by: str
    started_at: int
    #: When the phase is over at the latest.
    deadline_at: int
    #: Checks passed in a row, while validating.
    checks_passed: int
    shares: tuple[Share, ...]
    #: What the recovery waits for, or why it failed; for people.
    detail: str
    ended_at: int | None = None


@dataclass(frozen=True, slots=True)
class ServiceInstance:
    """An instance announces itself and heartbeats; the newest record per instance stands."""

    service: str
    instance_id: str
    state: InstanceState
    started_at: int
    heartbeat_at: int
    in_flight: int
    #: Highest hold epoch applied, over all scopes: a service that lags is not yet safe.
    held_scopes: int
    depends_on: tuple[str, ...] = ()
    version: str = ""
    #: What the service says of itself; an unhealthy one keeps recoveries from passing.
    healthy: bool = True
    #: What ails it; empty where nothing does.
    problem: str = ""
    #: Side effects since the instance started, and those of them that raised.
    actions: int = 0
    failed_actions: int = 0
    #: Since when the instance has no lease; ``None``: it has one, or asks for none.
    lease_lost_at: int | None = None


@dataclass(frozen=True, slots=True)
class Renewal:
    """The newest heartbeat of an instance that the coordinator had seen, as the instance dated it."""

    service: str
    instance_id: str
    heartbeat_at: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A coordinator partition's heartbeat. An instance may act for ``lease_ms`` from the heartbeat that comes back.

    Signed like a command.
    """

    partition: int
    partitions: int
    issued_by: str
    issued_at: int
    lease_ms: int
    renewals: tuple[Renewal, ...]
    key_id: str = ""
    signature: bytes = b""


@dataclass(frozen=True, slots=True)
class ConditionQuestion:
    """A coordinator asks a detector how a trigger's condition stands for a scope now."""

    question_id: str
    trigger_id: str
    scope: str
    emergency_id: str
    asked_at: int


@dataclass(frozen=True, slots=True)
class ConditionAnswer:
    """The detector's answer. ``clear`` only with a margin: see ``detect.clearance``."""

    question_id: str
    trigger_id: str
    scope: str
    emergency_id: str
    state: ConditionState
    #: Why, for people: values, thresholds and margins.
    detail: str
    answered_at: int
    correlation_id: str = ""
    #: Of how many accounts, hosts or partitions there was evidence; 0: nothing here speaks for or against.
    subjects: int = 0


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """One of the guide's events. Key: scope. Fields that do not apply are ``None``."""

    event_id: str
    event: LifecycleKind
    at: int
    scope: str
    account_id: str | None
    correlation_id: str
    reason: str
    emergency_id: str | None = None
    trigger_id: str | None = None
    trigger_type: TriggerType | None = None
    level: StopLevel | None = None
    service: str | None = None
    success: bool | None = None
    duration_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that people must hear of. Which channels carry it is the notifier's decision."""

    notice_id: str
    kind: NoticeKind
    at: int
    subject: str
    text: str
    scope: str
    correlation_id: str
    emergency_id: str | None = None
    trigger_id: str | None = None
    service: str | None = None
    #: Named by the trigger; empty: all configured ones.
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Silence:
    """Hides notices that match, never state. Empty fields match everything; a blank ``silence_id`` never occurs."""

    silence_id: str
    author: str
    reason: str
    starts_at: int
    expires_at: int
    scope: str = ""
    trigger_id: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True)
class TopicFreshness:
    """How far one topic's partition is applied; ``fresh_at`` 0: not known yet."""

    topic: str
    position: int
    end: int
    #: Everything that the broker had at this moment is applied.
    fresh_at: int


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far one detector lane has come in one telemetry partition; ``fresh_at`` is the oldest of its topics'."""

    lane: str
    partition: int
    instance_id: str
    topics: tuple[TopicFreshness, ...]
    fresh_at: int
    written_at: int
    #: Accounts of the partition that sent telemetry lately.
    live_accounts: int = 0


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One decision: who, why, before and after (JSON)."""

    audit_id: str
    at: int
    actor: str
    action: str
    subject: str
    reason: str
    correlation_id: str
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class AuditHead:
    """How far the audit's chain of one partition is, signed by the sink that computed it; see ``wire.audit_chain``."""

    topic: str
    partition: int
    #: Counts the partition's heads, from 0.
    number: int
    #: The first offset that the chain does not cover yet.
    next_offset: int
    #: How many records the chain has.
    records: int
    #: The chain's last hash, 64 hexadecimal digits.
    chain: str
    #: SHA-256 of the head before this one, signature included; empty for the first.
    previous: str
    signed_at: int
    key_id: str = ""
    signature: bytes = b""


@dataclass(frozen=True, slots=True)
class Activity:
    """One side effect of a reference service, stamped and written while its permit was held."""

    service: str
    instance_id: str
    account_id: str
    operation: str
    performed_at: int
    #: Counts the instance's side effects.
    sequence: int


@dataclass(frozen=True, slots=True)
class Tick:
    """The passing of time, on record; see ``detect.clock``."""

    partition: int
    at: int


@dataclass(frozen=True, slots=True)
class Partial:
    """One partition's part of a value over all accounts, as of ``next_offset`` of its topic; see ``detect.across``."""

    source_topic: str
    series: str
    source_partition: int
    next_offset: int
    row: bytes


@dataclass(frozen=True, slots=True)
class AccountKey:
    """A version of the key that an account's sensitive fields are sealed with, wrapped; or that versions were erased.

    An erasure makes every version up to ``version`` void, for ever; there is one per master key that wrapped any of
    them.
    """

    pseudonym: str
    state: AccountKeyState
    #: Empty for an erasure.
    key_id: str
    version: int
    #: Which master key wrapped it, or wrapped what was erased.
    master_id: str
    wrapped: bytes
    at: int


def targets_service(services: tuple[str, ...], service: str) -> bool:
    """Whether a list of target services covers ``service``."""
    return ALL_SERVICES in services or service in services


ControlMessage = (
    Hit
    | Evaluation
    | Request
    | Command
    | Ack
    | Hold
    | Emergency
    | ServiceInstance
    | Freshness
    | AuditRecord
    | AuditHead
    | Activity
    | Tick
    | Partial
    | Lease
    | ConditionQuestion
    | ConditionAnswer
    | Lifecycle
    | Recovery
    | Notice
    | Silence
    | AccountKey
)
