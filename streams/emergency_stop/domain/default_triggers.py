"""The built-in stop on account suspension, and the default pack that a new installation starts with."""

from __future__ import annotations

from typing import Any, Final

from emergency_stop.domain.triggers import Trigger, parse_trigger
from emergency_stop.domain.values import ALL_SERVICES, ClearRule, Mode, StopLevel, TriggerType

BUILTIN_SUSPENSION_ID: Final = "builtin-account-suspension"
BUILTIN_SUSPENSION_KIND: Final = "account_suspension"


def builtin_suspension() -> Trigger:
    """The platform says that an account is suspended: stop it at once, every time, in every installation.

    No cooldown: a second suspension after a resume must stop again.
    """
    return Trigger(
        trigger_id=BUILTIN_SUSPENSION_ID,
        version=1,
        trigger_type=TriggerType.ACCOUNT_SUSPENSION_RISK,
        account_id=None,
        name="Account suspended",
        description="The platform reported ACCOUNT_SUSPENSION. Built in; cannot be switched off.",
        is_active=True,
        mode=Mode.ENFORCE,
        thresholds={"events": 1.0},
        min_samples=1,
        for_ms=0,
        time_window=60_000,
        cooldown_period=0,
        stop_level=StopLevel.IMMEDIATE,
        target_services=(ALL_SERVICES,),
        notification_channels=("system", "email", "webhook"),
        priority=4,
        clear_rule=ClearRule.AFTER_OPERATOR_RESET,
        updated_by="builtin",
    )


_PACK: Final[tuple[dict[str, Any], ...]] = (
    {
        "trigger_id": "default-health-score", "trigger_type": "health_score_critical", "name": "Health score critical",
        "description": "Average health score below 30 over a minute.", "thresholds": {"healthScore": 30},
        "time_window": 60_000, "cooldown_period": 300_000, "min_samples": 3, "stop_level": "graceful", "priority": 3,
        "clear_rule": "when_condition_clears",
    },
    {
        "trigger_id": "default-suspension-risk", "trigger_type": "account_suspension_risk",
        "name": "Suspension risk critical", "description": "Suspension risk above 85 % within half a minute.",
        "thresholds": {"riskScore": 85}, "time_window": 30_000, "cooldown_period": 600_000,
        "stop_level": "immediate", "priority": 4, "clear_rule": "after_operator_reset",
    },
    {
        "trigger_id": "default-detection", "trigger_type": "detection_event_critical",
        "name": "Critical detection event", "description": "One critical detection event.",
        "thresholds": {"eventCount": 1}, "options": {"minSeverity": "critical"}, "time_window": 60_000,
        "cooldown_period": 300_000, "stop_level": "immediate", "priority": 4, "clear_rule": "after_operator_reset",
    },
    {
        "trigger_id": "default-behavioral-anomaly", "trigger_type": "behavioral_anomaly_severe",
        "name": "Severe behavioral anomaly", "description": "Anomaly score above 90 within a minute.",
        "thresholds": {"anomalyScore": 90}, "time_window": 60_000, "cooldown_period": 300_000,
        "stop_level": "graceful", "priority": 3, "clear_rule": "when_condition_clears",
    },
    {
        "trigger_id": "default-proxy-cascade", "trigger_type": "proxy_failure_cascade", "name": "Proxy failure cascade",
        "description": "Five failures over three proxies within a minute.",
        "thresholds": {"failures": 5, "distinctProxies": 3}, "time_window": 60_000, "cooldown_period": 300_000,
        "stop_level": "graceful", "priority": 2, "clear_rule": "when_condition_clears",
    },
)  # fmt: skip


def default_pack(updated_at: int) -> tuple[Trigger, ...]:
    """The five triggers that a new installation starts with, beside the built-in one."""
    return tuple(
        parse_trigger(definition, services=(), updated_by="default-pack", updated_at=updated_at) for definition in _PACK
    )
