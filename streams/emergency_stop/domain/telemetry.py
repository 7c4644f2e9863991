"""Telemetry as a service writes it: one frozen dataclass per Avro record of the same name in ``schemas/avro``.

``event_id``, ``occurred_at`` (milliseconds since the epoch) and ``source`` may be left empty: whoever
publishes the event fills them in.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Outcome(StrEnum):
    OK = "ok"
    FAILED = "failed"


class PlatformKind(StrEnum):
    API_CALL = "api_call"
    RATE_LIMIT = "rate_limit"
    AUTHENTICATION = "authentication"
    ACCOUNT_SUSPENSION = "account_suspension"
    PREVENTIVE_MEASURE = "preventive_measure"
    ACTIVITY = "activity"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryEvent:
    """What all telemetry has in common. ``account_id`` is also the message key."""

    account_id: str
    event_id: str = ""
    occurred_at: int = 0
    source: str = ""
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthEvent(TelemetryEvent):
    """``health_score`` 0 (dead) to 100 points; ``risk_score`` of suspension, 0 to 100 percent."""

    health_score: float
    risk_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionEvent(TelemetryEvent):
    """The platform seems to have noticed automation; ``confidence`` 0 to 1."""

    severity: Severity
    detection_type: str
    confidence: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BehavioralEvent(TelemetryEvent):
    """``anomaly_score`` 0 (like a person) to 100 (like a machine)."""

    anomaly_score: float
    pattern: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformEvent(TelemetryEvent):
    """What the platform said or did; ``status_code`` 0 where there is none."""

    kind: PlatformKind
    outcome: Outcome
    status_code: int = 0
    endpoint: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyEvent(TelemetryEvent):
    """One use of a proxy; ``latency_ms`` 0 where unknown."""

    proxy_id: str
    outcome: Outcome
    latency_ms: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemEvent(TelemetryEvent):
    """Resources of one service on one host; ``account_id`` is ``<service>@<host>``."""

    service: str
    host: str
    cpu_percent: float
    memory_bytes: float
    open_connections: int = 0
