"""The user's AccountHealthMonitor: ``healthAlert`` and ``preventiveMeasureTriggered`` become telemetry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Protocol

from emergency_stop.domain.telemetry import HealthEvent, Outcome, PlatformEvent, PlatformKind, TelemetryEvent
from emergency_stop.integrations.links.link import Emits, Rules, ServiceLink, Stoppable
from emergency_stop.integrations.links.mapping import EventMap, look_up

#: Accounts whose last scores are remembered; past it the one that was silent longest is forgotten.
REMEMBERED_ACCOUNTS_MAX: Final = 100_000

#: What is taken for a score that was never told.
SCORES: Final = {"health_score": 100.0, "risk_score": 0.0}

RULES: Final[Rules] = {
    "healthAlert": EventMap(
        HealthEvent,
        {
            "health_score": ("health_score", "score", "metrics.health_score"),
            "risk_score": ("risk_score", "suspension_risk", "metrics.risk_score", "metrics.suspension_risk"),
        },
    ),
    # the system has a built-in trigger for these: its level is a setting, not the monitor's
    "preventiveMeasureTriggered": EventMap(
        PlatformEvent,
        {"detail": ("measure", "measure_type", "reason")},
        {"kind": PlatformKind.PREVENTIVE_MEASURE, "outcome": Outcome.OK},
    ),
}


class YourAccountHealthMonitor(Emits, Stoppable, Protocol):
    """What is asked of it; ``emergencyStop`` will do as well."""


class AccountHealthMonitorLink(ServiceLink):
    """An alert about one score keeps the other as it last was: 100 points of health, no risk, before any was told."""

    service: ClassVar[str] = "accountHealthMonitor"
    rules: ClassVar[Rules] = RULES

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._last: dict[str, HealthEvent] = {}

    def known_of(self, rule: EventMap, payload: object) -> Mapping[str, Any] | None:
        """An alert without any score is malformed: nothing stands in for both."""
        paths = [path for score in SCORES for path in rule.fields.get(score, ())]
        if rule.record is not HealthEvent or all(look_up(payload, path) is None for path in paths):
            return None
        last = self._last.get(str(look_up(payload, "account_id")))
        return {score: getattr(last, score) for score in SCORES} if last else SCORES

    def on_told(self, event: TelemetryEvent) -> None:
        if isinstance(event, HealthEvent):
            self._last.pop(event.account_id, None)
            self._last[event.account_id] = event
            if len(self._last) > REMEMBERED_ACCOUNTS_MAX:
                del self._last[next(iter(self._last))]
