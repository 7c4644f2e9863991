"""Control messages, one frozen dataclass per Avro record of the same name in ``schemas/avro``.

Times are integer milliseconds since the epoch (``_at``) or durations (``_ms``). Identifiers are
deterministic (UUIDv5) wherever a message can be produced twice, so that a duplicate is recognised.
"""

from __future__ import annotations

from dataclasses import dataclass

from emergency_stop.domain.values import (
    ALL_SERVICES,
    AckState,
    Action,
    EmergencyState,
    HoldState,
    InstanceState,
    Mode,
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


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody asks for a stop or a resume: API, CLI, SDK, or a producer to the topic."""

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


@dataclass(frozen=True, slots=True)
class HoldCause:
    """One emergency's part in a hold."""

    emergency_id: str
    level: StopLevel
    services: tuple[str, ...]
    reason: str
    epoch: int


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
    #: Event time of the cause; ``time_to_stop_ms`` runs from here to the last STOPPED.
    occurred_at: int
    started_at: int
    deadline_at: int
    completed_at: int | None = None
    time_to_stop_ms: int | None = None
    success: bool | None = None


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


def targets_service(services: tuple[str, ...], service: str) -> bool:
    """Whether a list of target services covers ``service``."""
    return ALL_SERVICES in services or service in services


ControlMessage = (
    Hit
    | Request
    | Command
    | Ack
    | Hold
    | Emergency
    | ServiceInstance
    | Freshness
    | AuditRecord
    | Activity
    | Tick
    | Partial
)
