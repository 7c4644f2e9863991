"""The user's EnterpriseAntiDetectionManager: detections and failing proxies become telemetry."""

from __future__ import annotations

from typing import ClassVar, Final, Protocol

from emergency_stop.domain.telemetry import DetectionEvent, Outcome, ProxyEvent
from emergency_stop.integrations.links.link import Emits, Rules, ServiceLink, Stoppable
from emergency_stop.integrations.links.mapping import SEVERITIES, EventMap

RULES: Final[Rules] = {
    "detectionEvent": EventMap(
        DetectionEvent,
        {
            "severity": ("severity", "risk_level", "level"),
            "detection_type": ("detection_type", "event_type", "type"),
            "confidence": ("confidence",),
        },
        words={"severity": SEVERITIES},
    ),
    "proxyFailure": EventMap(
        ProxyEvent,
        {"proxy_id": ("proxy_id", "proxy"), "error": ("error", "reason"), "latency_ms": ("latency_ms",)},
        {"outcome": Outcome.FAILED},
    ),
}


class YourEnterpriseAntiDetectionManager(Emits, Stoppable, Protocol):
    """What is asked of it; ``emergencyStop`` will do as well."""


class EnterpriseAntiDetectionManagerLink(ServiceLink):
    service: ClassVar[str] = "antiDetectionManager"
    rules: ClassVar[Rules] = RULES
