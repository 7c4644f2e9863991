"""Every topic of the system: its name, what keys it, and how the broker keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as `estop check` expects it and `estop dev` creates it.

    ``record`` is the Avro record's name, ``None`` where values are not ours (dead letters) or
    opaque bytes (state). ``partitions`` is a default; telemetry topics must all have the same count,
    and so must the co-partitioned control topics. What is ``kept`` is evidence: the broker deletes none of it,
    whatever its defaults are.
    """

    name: str
    record: str | None
    compacted: bool = False
    partitions: int = 4
    kept: bool = False


TELEMETRY_HEALTH: Final = "telemetry.health"
TELEMETRY_DETECTION: Final = "telemetry.detection"
TELEMETRY_BEHAVIORAL: Final = "telemetry.behavioral"
TELEMETRY_PROXY: Final = "telemetry.proxy"
TELEMETRY_PLATFORM: Final = "telemetry.platform"
TELEMETRY_SYSTEM: Final = "telemetry.system"
TRIGGERS: Final = "estop.triggers"
TRIGGER_HISTORY: Final = "estop.trigger-history"
HITS: Final = "estop.hits"
EVALUATIONS: Final = "estop.evaluations"
TICKS: Final = "estop.ticks"
PARTIALS: Final = "estop.partials"
REQUESTS: Final = "estop.requests"
ACKS: Final = "estop.acks"
QUESTIONS: Final = "estop.questions"
ANSWERS: Final = "estop.answers"
LEASES: Final = "estop.leases"
LIFECYCLE: Final = "estop.lifecycle"
NOTICES: Final = "estop.notices"
SILENCES: Final = "estop.silences"
HOLDS: Final = "estop.holds"
SERVICES: Final = "estop.services"
EMERGENCIES: Final = "estop.emergencies"
RECOVERIES: Final = "estop.recoveries"
AUDIT: Final = "estop.audit"
AUDIT_HEADS: Final = "estop.audit-heads"
#: Wrapped keys of accounts; what is deleted there makes what they sealed unreadable. Never stored elsewhere.
ACCOUNT_KEYS: Final = "estop.account-keys"
FRESHNESS: Final = "estop.freshness"
DEAD_LETTER: Final = "estop.dead-letter"
DETECTOR_STATE: Final = "estop.detector-state"
DETECTOR_STATE_B: Final = "estop.detector-state-b"
COORDINATOR_STATE: Final = "estop.coordinator-state"
NOTIFIER_STATE: Final = "estop.notifier-state"
ACTIVITY: Final = "services.activity"
COMMANDS_PREFIX: Final = "estop.commands."

TELEMETRY: Final[tuple[TopicSpec, ...]] = (
    TopicSpec(TELEMETRY_HEALTH, "HealthEvent"),
    TopicSpec(TELEMETRY_DETECTION, "DetectionEvent"),
    TopicSpec(TELEMETRY_BEHAVIORAL, "BehavioralEvent"),
    TopicSpec(TELEMETRY_PROXY, "ProxyEvent"),
    TopicSpec(TELEMETRY_PLATFORM, "PlatformEvent"),
    TopicSpec(TELEMETRY_SYSTEM, "SystemEvent"),
)

#: What detectors write for themselves to read: the clock, and parts of values over all accounts. As many partitions as
#: telemetry has, because one worker owns a partition number of all of them.
DETECTOR_LOOPS: Final[tuple[TopicSpec, ...]] = (TopicSpec(TICKS, "Tick"), TopicSpec(PARTIALS, "Partial"))

#: Keyed by account like telemetry, and with as many partitions: the detector that has the account's windows answers.
QUESTIONS_SPEC: Final = TopicSpec(QUESTIONS, "ConditionQuestion")

ANSWERS_SPEC: Final = TopicSpec(ANSWERS, "ConditionAnswer")

#: What a service reads and writes to be stopped.
ACKS_SPEC: Final = TopicSpec(ACKS, "Ack")
HOLDS_SPEC: Final = TopicSpec(HOLDS, "Hold", compacted=True)
SERVICES_SPEC: Final = TopicSpec(SERVICES, "ServiceInstance", compacted=True, partitions=1)
LEASES_SPEC: Final = TopicSpec(LEASES, "Lease", compacted=True, partitions=1)

#: Keyed by scope and co-partitioned: one coordinator sees all that concerns a scope.
COORDINATOR_INPUTS: Final[tuple[TopicSpec, ...]] = (
    TopicSpec(HITS, "Hit"),
    TopicSpec(REQUESTS, "Request"),
    ACKS_SPEC,
    ANSWERS_SPEC,
)

#: How far detectors are: who sees, and which partition nobody sees.
FRESHNESS_SPEC: Final = TopicSpec(FRESHNESS, "Freshness", compacted=True, partitions=1)

#: What detectors evaluated. Nothing that stops reads it.
EVALUATIONS_SPEC: Final = TopicSpec(EVALUATIONS, "Evaluation")

CONTROL: Final[tuple[TopicSpec, ...]] = (
    *COORDINATOR_INPUTS,
    EVALUATIONS_SPEC,
    TopicSpec(TRIGGERS, "Trigger", compacted=True, partitions=1),
    TopicSpec(TRIGGER_HISTORY, "Trigger", compacted=True, partitions=1),
    HOLDS_SPEC,
    SERVICES_SPEC,
    TopicSpec(EMERGENCIES, "Emergency", compacted=True),
    TopicSpec(RECOVERIES, "Recovery", compacted=True),
    TopicSpec(AUDIT, "AuditRecord", kept=True),
    TopicSpec(AUDIT_HEADS, "AuditHead", partitions=1, kept=True),
    LEASES_SPEC,
    TopicSpec(LIFECYCLE, "Lifecycle"),
    TopicSpec(NOTICES, "Notice", partitions=1),
    TopicSpec(SILENCES, "Silence", compacted=True, partitions=1),
    TopicSpec(ACCOUNT_KEYS, "AccountKey", compacted=True, partitions=1),
    FRESHNESS_SPEC,
    TopicSpec(DEAD_LETTER, None),
    TopicSpec(DETECTOR_STATE, None, compacted=True),
    TopicSpec(COORDINATOR_STATE, None, compacted=True),
    TopicSpec(NOTIFIER_STATE, None, compacted=True, partitions=1),
)

#: Detectors may run twice, side by side: each lane has its consumer group and its state. Both publish every hit, under
#: one id.
LANES: Final = ("a", "b")
#: Exists only where there are two lanes.
DETECTOR_STATE_B_SPEC: Final = TopicSpec(DETECTOR_STATE_B, None, compacted=True)

#: What the reference services did: written for every side effect, so that effects after a stop can be counted.
ACTIVITY_SPEC: Final = TopicSpec(ACTIVITY, "Activity")


def detector_state(lane: str) -> str:
    """The state topic of a detector lane."""
    return DETECTOR_STATE if lane == LANES[0] else DETECTOR_STATE_B


def trigger_history_key(trigger_id: str, version: int) -> str:
    """What keys a version of a trigger in ``estop.trigger-history``: it is kept beside all others."""
    return f"{trigger_id}/{version}"


def commands_topic(service: str) -> str:
    """The topic on which ``service`` receives its commands."""
    return COMMANDS_PREFIX + service


def commands_spec(service: str) -> TopicSpec:
    return TopicSpec(commands_topic(service), "Command")


def all_topics(services: tuple[str, ...]) -> tuple[TopicSpec, ...]:
    """Every topic of an installation whose services are ``services``."""
    commands = (commands_spec(service) for service in services)
    return (*TELEMETRY, *DETECTOR_LOOPS, QUESTIONS_SPEC, *CONTROL, ACTIVITY_SPEC, *commands)
