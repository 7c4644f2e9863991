"""What makes the detector stop an account at each level: one trigger and one kind of event per level.

The default pack stays in force as it is, but for the triggers that a level needs otherwise: so every event is evaluated
by as many triggers as in a new installation, and no event fires two of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from emergency_stop.domain import topics
from emergency_stop.domain.default_triggers import default_definitions
from emergency_stop.domain.trigger_definitions import parse_trigger
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import StopLevel
from emergency_stop.wire.codec import encode_record
from emergency_stop.wire.registry import LocalRegistry

#: What a stop of single services is tried with; the other three go on.
FEW_SERVICES: Final = ("realtimeSync", "sessionManager")
#: The cause that concerns every account at once.
EVERYBODY: Final = "everybody"
_REGISTRY: Final = LocalRegistry()


@dataclass(frozen=True, slots=True)
class Cause:
    """A trigger's definition, and the topic, record and fields of one event that makes it fire."""

    definition: Mapping[str, Any]
    topic: str
    record: str
    fields: Mapping[str, Any]


def _default(trigger_id: str, **changes: Any) -> dict[str, Any]:
    found = next(one for one in default_definitions() if one["trigger_id"] == trigger_id)
    return {**found, "cooldown_period": 600_000, **changes}


#: By level, and by ``EVERYBODY``.
CAUSES: Final[Mapping[str, Cause]] = {
    StopLevel.IMMEDIATE.value: Cause(
        _default("default-suspension-risk"), topics.TELEMETRY_HEALTH, "HealthEvent",
        {"health_score": 80.0, "risk_score": 99.0},
    ),
    StopLevel.GRACEFUL.value: Cause(
        _default("default-behavioral-anomaly"), topics.TELEMETRY_BEHAVIORAL, "BehavioralEvent",
        {"anomaly_score": 95.0},
    ),
    StopLevel.SERVICE_SPECIFIC.value: Cause(
        _default("default-detection", stop_level="service_specific", target_services=list(FEW_SERVICES)),
        topics.TELEMETRY_DETECTION, "DetectionEvent", {"severity": "critical", "detection_type": "captcha"},
    ),
    StopLevel.CASCADING.value: Cause(
        _default("default-proxy-cascade", stop_level="cascading", thresholds={"failures": 1, "distinctProxies": 1}),
        topics.TELEMETRY_PROXY, "ProxyEvent", {"proxy_id": "proxy-1", "outcome": "failed"},
    ),
    StopLevel.MAINTENANCE.value: Cause(
        _default("default-authentication", stop_level="maintenance", thresholds={"failures": 1}),
        topics.TELEMETRY_PLATFORM, "PlatformEvent", {"kind": "authentication", "outcome": "failed"},
    ),
    EVERYBODY: Cause(
        _default("default-rate-limit", stop_level="immediate", thresholds={"violations": 1}, across="accounts"),
        topics.TELEMETRY_PLATFORM, "PlatformEvent", {"kind": "rate_limit", "outcome": "failed"},
    ),
}  # fmt: skip
LEVELS: Final = tuple(level.value for level in StopLevel)


def triggers(services: Sequence[str]) -> list[Trigger]:
    """The default pack with each cause's trigger in the place of its namesake."""
    replaced = {cause.definition["trigger_id"]: cause.definition for cause in CAUSES.values()}
    chosen = [replaced.get(one["trigger_id"], one) for one in default_definitions()]
    return [parse_trigger(one, services=tuple(services), updated_by="bench", updated_at=0) for one in chosen]


def event(cause: str, account: str, occurred_at: int) -> tuple[str, bytes, bytes]:
    """(topic, key, value) of the one event that stops ``account``."""
    found = CAUSES[cause]
    fields = {
        "event_id": f"{account}-{occurred_at}", "account_id": account, "occurred_at": occurred_at, "source": "bench",
        "correlation_id": account, **found.fields,
    }  # fmt: skip
    value = encode_record(found.record, fields, _REGISTRY.schema_id(found.record, found.topic))
    return found.topic, account.encode(), value
