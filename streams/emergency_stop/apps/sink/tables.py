"""Which table takes which record."""

from __future__ import annotations

from typing import Final

TABLES: Final = {
    "HealthEvent": "health_events",
    "DetectionEvent": "detection_events",
    "BehavioralEvent": "behavioral_events",
    "ProxyEvent": "proxy_events",
    "PlatformEvent": "platform_events",
    "SystemEvent": "system_events",
    "Hit": "hits",
    "Evaluation": "evaluations",
    "Request": "requests",
    "Command": "commands",
    "Ack": "acks",
    "Hold": "holds",
    "Emergency": "emergencies",
    "ServiceInstance": "service_instances",
    "Freshness": "freshness",
    "AuditRecord": "audit",
    "Trigger": "triggers",
    "Activity": "activity",
    "ConditionQuestion": "condition_questions",
    "ConditionAnswer": "condition_answers",
    "Recovery": "recoveries",
    "Lifecycle": "lifecycle",
    "Notice": "notices",
    "Silence": "silences",
    "Tick": "ticks",
    "Partial": "partials",
}
DEAD_LETTERS: Final = "dead_letters"
