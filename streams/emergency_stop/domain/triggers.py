"""Triggers: what they are, and which thresholds and options each type has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from emergency_stop.domain.values import ClearRule, Mode, OnBlind, StopLevel, TriggerType

WINDOW_MS_MIN: Final = 1_000
WINDOW_MS_MAX: Final = 86_400_000
COOLDOWN_MS_MAX: Final = 7 * 86_400_000
NAME_LENGTH_MAX: Final = 200
RULE_LENGTH_MAX: Final = 4_000
COUNT_MAX: Final = 1_000
CHANNELS: Final = ("system", "email", "webhook")
SEVERITIES: Final = ("low", "medium", "high", "critical")
PERCENT_ALL: Final = 100
#: How the ids begin under which the system itself raises hits: no trigger may pass for one.
RESERVED_PREFIX: Final = "@"
#: The one value of ``across``: one value over all accounts, instead of one for each.
ACCOUNTS: Final = "accounts"


@dataclass(frozen=True, slots=True)
class Trigger:
    """One version of a trigger; same fields as the Avro record. Durations are milliseconds."""

    trigger_id: str
    version: int
    trigger_type: TriggerType
    account_id: str | None
    name: str
    description: str
    is_active: bool
    mode: Mode
    thresholds: dict[str, float]
    min_samples: int
    for_ms: int
    time_window: int
    cooldown_period: int
    stop_level: StopLevel
    target_services: tuple[str, ...]
    notification_channels: tuple[str, ...]
    priority: int
    clear_rule: ClearRule
    updated_by: str = ""
    updated_at: int = 0
    removed: bool = False
    options: dict[str, str] = field(default_factory=dict)
    #: ``accounts``: one value over all accounts; a hit stops them all. ``None``: every account on its own.
    across: str | None = None
    #: A custom rule's text, in CEL.
    rule: str = ""
    #: The trigger that this one replaces for its ``account_id``.
    overrides: str | None = None
    on_blind: OnBlind = OnBlind.ALERT
    #: The share of accounts that this version watches; the others keep ``stable``, a version as JSON, or nothing.
    canary_percent: int = PERCENT_ALL
    stable: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """A threshold of a trigger type: its range, and a default where it has one.

    Of the ``one_of`` thresholds of a type at least one must be given.
    """

    low: float
    high: float
    default: float | None = None
    whole: bool = False
    one_of: bool = False


#: Thresholds by trigger type. Types that are not here have no condition that this version evaluates.
LIMITS: Final[dict[TriggerType, dict[str, Limit]]] = {
    TriggerType.HEALTH_SCORE_CRITICAL: {"healthScore": Limit(0, 100)},
    TriggerType.ACCOUNT_SUSPENSION_RISK: {"riskScore": Limit(0, 100)},
    TriggerType.DETECTION_EVENT_CRITICAL: {"eventCount": Limit(1, COUNT_MAX, 1, whole=True)},
    TriggerType.BEHAVIORAL_ANOMALY_SEVERE: {"anomalyScore": Limit(0, 100)},
    TriggerType.PROXY_FAILURE_CASCADE: {
        "failures": Limit(1, COUNT_MAX, whole=True),
        "distinctProxies": Limit(1, 100, 1, whole=True),
    },
    TriggerType.RATE_LIMIT_VIOLATION: {"violations": Limit(1, COUNT_MAX, whole=True)},
    TriggerType.AUTHENTICATION_FAILURE: {"failures": Limit(1, COUNT_MAX, whole=True)},
    TriggerType.EXTERNAL_API_FAILURE: {"failureRate": Limit(0.001, 1)},
    TriggerType.SYSTEM_RESOURCE_CRITICAL: {
        "cpuPercent": Limit(0, 100_000, one_of=True),
        "memoryBytes": Limit(0, 2**53, one_of=True),
    },
    TriggerType.TIME_BASED_TRIGGER: {"maxActiveMs": Limit(1_000, 7 * 86_400_000, whole=True, one_of=True)},
    TriggerType.CUSTOM_RULE_TRIGGER: {},
    TriggerType.MANUAL_TRIGGER: {},
}
#: Types whose condition is an exact count; their ``min_samples`` has the bound of their count.
COUNTING_TYPES: Final = frozenset(
    {
        TriggerType.DETECTION_EVENT_CRITICAL,
        TriggerType.PROXY_FAILURE_CASCADE,
        TriggerType.RATE_LIMIT_VIOLATION,
        TriggerType.AUTHENTICATION_FAILURE,
    }
)
CRON, QUIET_HOURS, TIME_ZONE = "cron", "quietHours", "timeZone"
#: Options by trigger type: the texts that are allowed, or ``None`` where a check of its own decides.
OPTIONS: Final[dict[TriggerType, dict[str, tuple[str, ...] | None]]] = {
    TriggerType.DETECTION_EVENT_CRITICAL: {"minSeverity": SEVERITIES},
    TriggerType.TIME_BASED_TRIGGER: {CRON: None, QUIET_HOURS: None, TIME_ZONE: None},
}
