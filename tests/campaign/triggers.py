"""The triggers of the campaign, each beside the rule that the oracle follows for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.oracle.naive import Rule

COOLDOWN_MS = 45_000


@dataclass(frozen=True, slots=True)
class Watch:
    """A trigger's definition as a user writes it, and the same in the oracle's words."""

    topic: str
    definition: dict[str, Any]
    rule: Rule

    @property
    def enforced(self) -> bool:
        return bool(self.definition.get("mode", "enforce") == "enforce")


def _watch(topic: str, kind: str, window_ms: int, rule: Rule, **definition: Any) -> Watch:
    rule.window_ms, rule.cooldown_ms = window_ms, COOLDOWN_MS
    whole = {
        "triggerId": rule.rule_id,
        "name": rule.rule_id,
        "triggerType": kind,
        "timeWindow": window_ms,
        "cooldownPeriod": COOLDOWN_MS,
        "minSamples": rule.min_samples,
        "stopLevel": "immediate",
        "priority": 3,
    }
    return Watch(topic, whole | definition, rule)


def watches() -> tuple[Watch, ...]:
    """Every kind of window and condition that the detector has; one of the triggers only warns."""
    return (
        _watch(
            "telemetry.health",
            "health_score_critical",
            20_000,
            Rule("campaign-health", "avg", "health_score", "<", 40.0, 0, 0, min_samples=5),
            thresholds={"healthScore": 40},
            targetServices=["sessionManager", "behavioralEngine"],
        ),
        _watch(
            "telemetry.health",
            "account_suspension_risk",
            10_000,
            Rule("campaign-risk", "max", "risk_score", ">", 85.0, 0, 0),
            thresholds={"riskScore": 85},
        ),
        _watch(
            "telemetry.detection",
            "detection_event_critical",
            30_000,
            Rule("campaign-detection", "count", "", ">=", 2.0, 0, 0, where=(("severity", ">=", 3.0),)),
            thresholds={"eventCount": 2},
            options={"minSeverity": "critical"},
            targetServices=["sessionManager"],
        ),
        _watch(
            "telemetry.behavioral",
            "behavioral_anomaly_severe",
            20_000,
            Rule("campaign-behavioral", "max", "anomaly_score", ">", 90.0, 0, 0),
            thresholds={"anomalyScore": 90},
            mode="warn",
        ),
        _watch(
            "telemetry.proxy",
            "proxy_failure_cascade",
            30_000,
            Rule("campaign-proxy", "cascade", "proxy_id", ">=", 4.0, 0, 0, distinct=3, where=(("outcome", "==", 1.0),)),
            thresholds={"failures": 4, "distinctProxies": 3},
            targetServices=["realtimeSync"],
        ),
    )


def builtin() -> Rule:
    """The stop that every installation has: the platform reports a suspension. No cooldown."""
    suspension = (("kind", "==", 1.0),)
    return Rule("builtin-account-suspension", "count", "", ">=", 1.0, 60_000, 0, where=suspension)


def rules_of(topic: str) -> list[Rule]:
    """What the oracle watches for in ``topic``."""
    rules = [watch.rule for watch in watches() if watch.topic == topic]
    return [*rules, builtin()] if topic == "telemetry.platform" else rules
