"""The user's AdvancedBehavioralPatternEngine: anomalies become telemetry."""

from __future__ import annotations

from typing import ClassVar, Final, Protocol

from emergency_stop.domain.telemetry import BehavioralEvent
from emergency_stop.integrations.links.link import Emits, Rules, ServiceLink, Stoppable
from emergency_stop.integrations.links.mapping import EventMap

RULES: Final[Rules] = {
    "behavioralAnomaly": EventMap(
        BehavioralEvent,
        {"anomaly_score": ("anomaly_score", "score"), "pattern": ("pattern", "pattern_type", "type")},
    ),
}


class YourAdvancedBehavioralPatternEngine(Emits, Stoppable, Protocol):
    """What is asked of it; ``emergencyStop`` will do as well."""


class AdvancedBehavioralPatternEngineLink(ServiceLink):
    service: ClassVar[str] = "behavioralEngine"
    rules: ClassVar[Rules] = RULES
