"""The built-in triggers, and the default pack that a new installation starts with."""

from __future__ import annotations

from typing import Any, Final

from emergency_stop.domain.trigger_definitions import parse_trigger
from emergency_stop.domain.triggers import CHANNELS, Trigger
from emergency_stop.domain.values import ALL_SERVICES, ClearRule, Mode, StopLevel, TriggerType

BUILTIN_SUSPENSION_ID: Final = "builtin-account-suspension"
BUILTIN_PREVENTIVE_ID: Final = "builtin-preventive-measure"
#: Which kind of platform event each built-in trigger waits for.
BUILTIN_KINDS: Final = {
    BUILTIN_SUSPENSION_ID: "account_suspension",
    BUILTIN_PREVENTIVE_ID: "preventive_measure",
}


def builtin_triggers(preventive_level: StopLevel) -> tuple[Trigger, ...]:
    """What no installation is without, and no record can change.

    The platform says that an account is suspended: stop it at once. A preventive measure was taken for it:
    stop it at ``preventive_level``. No cooldown: a second one after a resume must stop again.
    """
    suspended = "The platform reported ACCOUNT_SUSPENSION. Built in; cannot be switched off."
    measure = "A preventive measure was taken for the account. Built in; ESTOP_PREVENTIVE_STOP_LEVEL is its level."
    return (
        _builtin(BUILTIN_SUSPENSION_ID, "Account suspended", suspended, StopLevel.IMMEDIATE, 4),
        _builtin(BUILTIN_PREVENTIVE_ID, "Preventive measure", measure, preventive_level, 3),
    )


def _builtin(trigger_id: str, name: str, description: str, level: StopLevel, priority: int) -> Trigger:
    return Trigger(
        trigger_id=trigger_id,
        version=1,
        trigger_type=TriggerType.ACCOUNT_SUSPENSION_RISK,
        account_id=None,
        name=name,
        description=description,
        is_active=True,
        mode=Mode.ENFORCE,
        thresholds={"events": 1.0},
        min_samples=1,
        for_ms=0,
        time_window=60_000,
        cooldown_period=0,
        stop_level=level,
        target_services=(ALL_SERVICES,),
        notification_channels=CHANNELS,
        priority=priority,
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
    {
        "trigger_id": "default-rate-limit", "trigger_type": "rate_limit_violation", "name": "Rate limit violations",
        "description": "Three answers of the platform within five minutes that the account is too fast.",
        "thresholds": {"violations": 3}, "time_window": 300_000, "cooldown_period": 600_000,
        "stop_level": "graceful", "priority": 3, "clear_rule": "when_condition_clears",
    },
    {
        "trigger_id": "default-authentication", "trigger_type": "authentication_failure",
        "name": "Authentication failures", "description": "Three failed authentications within ten minutes.",
        "thresholds": {"failures": 3}, "time_window": 600_000, "cooldown_period": 1_800_000,
        "stop_level": "immediate", "priority": 4, "clear_rule": "after_operator_reset",
    },
    {
        "trigger_id": "default-api-failure", "trigger_type": "external_api_failure", "name": "External API failing",
        "description": "Half of at least ten calls failed within two minutes.", "thresholds": {"failureRate": 0.5},
        "min_samples": 10, "time_window": 120_000, "cooldown_period": 300_000, "stop_level": "graceful",
        "priority": 2, "clear_rule": "when_condition_clears",
    },
    {
        "trigger_id": "default-activity", "trigger_type": "time_based_trigger", "name": "Active for too long",
        "description": "Sixteen hours of activity without a pause of half an hour.",
        "thresholds": {"maxActiveMs": 57_600_000}, "time_window": 1_800_000, "cooldown_period": 3_600_000,
        "min_samples": 2, "stop_level": "graceful", "priority": 1, "clear_rule": "when_condition_clears",
    },
    {
        "trigger_id": "default-system-resources", "trigger_type": "system_resource_critical",
        "name": "System resources critical",
        "description": "A service's process above 95 % of a processor or 2 GiB on average over two minutes.",
        "thresholds": {"cpuPercent": 95, "memoryBytes": 2_147_483_648}, "min_samples": 3, "time_window": 120_000,
        "cooldown_period": 600_000, "stop_level": "graceful", "priority": 2, "mode": "warn",
        "clear_rule": "when_condition_clears",
    },
)  # fmt: skip


def default_definitions() -> list[dict[str, Any]]:
    """The default pack as a user would write it."""
    return [dict(definition) for definition in _PACK]


def default_pack(updated_at: int) -> tuple[Trigger, ...]:
    """The triggers that a new installation starts with, beside the built-in ones."""
    return tuple(
        parse_trigger(definition, services=(), updated_by="default-pack", updated_at=updated_at) for definition in _PACK
    )
