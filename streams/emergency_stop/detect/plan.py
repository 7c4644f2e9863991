"""Triggers → plan: which series to keep per telemetry topic, and which conditions read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from emergency_stop.domain import topics
from emergency_stop.domain.default_triggers import BUILTIN_KINDS
from emergency_stop.domain.triggers import SEVERITIES, Trigger
from emergency_stop.domain.values import TriggerType

#: Panes per window: a window slides in steps of a twelfth of its length.
PANES: Final = 12


class Aggregate(IntEnum):
    """How a series folds its samples."""

    AVG = 0
    MAX = 1
    MIN = 2
    COUNT = 3
    DISTINCT = 4
    ACTIVE = 5


class Comparison(IntEnum):
    BELOW = 0
    ABOVE = 1
    AT_LEAST = 2


@dataclass(frozen=True, slots=True, order=True)
class Filter:
    """Rows whose ``field`` (an enum's index) is at least, or exactly, ``value``."""

    field: str
    value: float
    at_least: bool

    def __str__(self) -> str:
        return f"{self.field}{'>=' if self.at_least else '=='}{self.value:g}"


@dataclass(frozen=True, slots=True)
class Series:
    """One windowed aggregate per account, over the rows that pass all ``filters``.

    ``depth`` bounds what COUNT and DISTINCT remember.
    """

    topic: str
    aggregate: Aggregate
    field: str
    filters: tuple[Filter, ...]
    window_ms: int
    depth: int = 0

    @property
    def name(self) -> str:
        """Identity in snapshots: the same definition finds its state again."""
        return f"{self.aggregate.name.lower()}({self.field}{self.chosen},{self.window_ms}ms,{self.depth})"

    @property
    def chosen(self) -> str:
        """``[kind==1,outcome==1]``, or nothing where every row counts."""
        return f"[{','.join(map(str, self.filters))}]" if self.filters else ""

    @property
    def pane_ms(self) -> int:
        return -(-self.window_ms // PANES)


@dataclass(frozen=True, slots=True)
class Term:
    """``series <comparison> threshold``."""

    series: Series
    comparison: Comparison
    threshold: float

    def holds(self, value: float) -> bool:
        if self.comparison is Comparison.BELOW:
            return value < self.threshold
        return value > self.threshold if self.comparison is Comparison.ABOVE else value >= self.threshold


@dataclass(frozen=True, slots=True)
class Condition:
    """A trigger's terms: all must hold, or with ``any_of`` one; the first one that holds explains the hit."""

    trigger: Trigger
    terms: tuple[Term, ...]
    any_of: bool = False

    @property
    def topic(self) -> str:
        return self.terms[0].series.topic


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """Everything that one topic feeds. ``fields`` are the columns that the decoder must bring."""

    topic: str
    fields: tuple[str, ...]
    series: tuple[Series, ...]
    conditions: tuple[Condition, ...]


_PLATFORM_KINDS: Final = (
    "api_call", "rate_limit", "authentication", "account_suspension", "preventive_measure", "activity", "other",
)  # fmt: skip
_FAILED: Final = Filter("outcome", 1.0, at_least=False)


def _condition(trigger: Trigger) -> Condition | None:
    builtin = BUILTIN_KINDS.get(trigger.trigger_id)
    if builtin is not None:
        return _count(trigger, topics.TELEMETRY_PLATFORM, (_kind(builtin),), 1)
    build = _BUILDERS.get(trigger.trigger_type)
    return build(trigger) if build else None


def _kind(name: str) -> Filter:
    return Filter("kind", float(_PLATFORM_KINDS.index(name)), at_least=False)


def _count(trigger: Trigger, topic: str, filters: tuple[Filter, ...], count: float) -> Condition:
    depth = max(int(count), trigger.min_samples)
    series = Series(topic, Aggregate.COUNT, filters[0].field, filters, trigger.time_window, depth)
    return Condition(trigger, (Term(series, Comparison.AT_LEAST, count),))


def _health(trigger: Trigger) -> Condition:
    series = Series(topics.TELEMETRY_HEALTH, Aggregate.AVG, "health_score", (), trigger.time_window)
    return Condition(trigger, (Term(series, Comparison.BELOW, trigger.thresholds["healthScore"]),))


def _risk(trigger: Trigger) -> Condition:
    series = Series(topics.TELEMETRY_HEALTH, Aggregate.MAX, "risk_score", (), trigger.time_window)
    return Condition(trigger, (Term(series, Comparison.ABOVE, trigger.thresholds["riskScore"]),))


def _anomaly(trigger: Trigger) -> Condition:
    series = Series(topics.TELEMETRY_BEHAVIORAL, Aggregate.MAX, "anomaly_score", (), trigger.time_window)
    return Condition(trigger, (Term(series, Comparison.ABOVE, trigger.thresholds["anomalyScore"]),))


def _detection(trigger: Trigger) -> Condition:
    severity = float(SEVERITIES.index(trigger.options.get("minSeverity", "critical")))
    chosen = (Filter("severity", severity, at_least=True),)
    return _count(trigger, topics.TELEMETRY_DETECTION, chosen, trigger.thresholds["eventCount"])


def _proxies(trigger: Trigger) -> Condition:
    failures, distinct = trigger.thresholds["failures"], trigger.thresholds["distinctProxies"]
    count = _count(trigger, topics.TELEMETRY_PROXY, (_FAILED,), failures).terms[0]
    window = trigger.time_window
    series = Series(topics.TELEMETRY_PROXY, Aggregate.DISTINCT, "proxy_id", (_FAILED,), window, int(distinct))
    return Condition(trigger, (count, Term(series, Comparison.AT_LEAST, distinct)))


def _rate_limits(trigger: Trigger) -> Condition:
    return _count(trigger, topics.TELEMETRY_PLATFORM, (_kind("rate_limit"),), trigger.thresholds["violations"])


def _authentication(trigger: Trigger) -> Condition:
    chosen = (_kind("authentication"), _FAILED)
    return _count(trigger, topics.TELEMETRY_PLATFORM, chosen, trigger.thresholds["failures"])


def _api_failures(trigger: Trigger) -> Condition:
    """``outcome`` is 0 where a call went well and 1 where it failed, so its average is the share that failed."""
    chosen = (_kind("api_call"),)
    series = Series(topics.TELEMETRY_PLATFORM, Aggregate.AVG, "outcome", chosen, trigger.time_window)
    return Condition(trigger, (Term(series, Comparison.AT_LEAST, trigger.thresholds["failureRate"]),))


def _activity(trigger: Trigger) -> Condition:
    """How long the account has been active without a pause of more than the window."""
    series = Series(topics.TELEMETRY_PLATFORM, Aggregate.ACTIVE, "kind", (_kind("activity"),), trigger.time_window)
    return Condition(trigger, (Term(series, Comparison.ABOVE, trigger.thresholds["maxActiveMs"]),))


def _resources(trigger: Trigger) -> Condition:
    fields = {"cpuPercent": "cpu_percent", "memoryBytes": "memory_bytes"}
    terms = tuple(
        Term(Series(topics.TELEMETRY_SYSTEM, Aggregate.AVG, field, (), trigger.time_window), Comparison.ABOVE, limit)
        for name, field in fields.items()
        if (limit := trigger.thresholds.get(name)) is not None
    )
    return Condition(trigger, terms, any_of=True)


_BUILDERS: Final = {
    TriggerType.HEALTH_SCORE_CRITICAL: _health,
    TriggerType.ACCOUNT_SUSPENSION_RISK: _risk,
    TriggerType.BEHAVIORAL_ANOMALY_SEVERE: _anomaly,
    TriggerType.DETECTION_EVENT_CRITICAL: _detection,
    TriggerType.PROXY_FAILURE_CASCADE: _proxies,
    TriggerType.RATE_LIMIT_VIOLATION: _rate_limits,
    TriggerType.AUTHENTICATION_FAILURE: _authentication,
    TriggerType.EXTERNAL_API_FAILURE: _api_failures,
    TriggerType.SYSTEM_RESOURCE_CRITICAL: _resources,
    TriggerType.TIME_BASED_TRIGGER: _activity,
}


def compile_plan(triggers: Iterable[Trigger]) -> Mapping[str, TopicPlan]:
    """Active triggers → plan per topic. Order is by trigger id, so equal triggers make equal plans."""
    active = sorted((t for t in triggers if t.is_active and not t.removed), key=lambda trigger: trigger.trigger_id)
    by_topic: dict[str, list[Condition]] = {}
    for trigger in active:
        condition = _condition(trigger)
        if condition is not None:
            by_topic.setdefault(condition.topic, []).append(condition)
    return {topic: _topic_plan(topic, conditions) for topic, conditions in by_topic.items()}


def _topic_plan(topic: str, conditions: list[Condition]) -> TopicPlan:
    series = tuple(dict.fromkeys(term.series for condition in conditions for term in condition.terms))
    fields: dict[str, None] = {}
    for one in series:
        if one.aggregate not in (Aggregate.COUNT, Aggregate.ACTIVE):
            fields[one.field] = None
        for chosen in one.filters:
            fields[chosen.field] = None
    return TopicPlan(topic, tuple(fields), series, tuple(conditions))
