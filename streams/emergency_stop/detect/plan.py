"""Triggers → plan: which series to keep per telemetry topic, and which conditions read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from emergency_stop.domain import topics
from emergency_stop.domain.default_triggers import BUILTIN_SUSPENSION_ID, BUILTIN_SUSPENSION_KIND
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
    """One windowed aggregate per account. ``depth`` bounds what COUNT and DISTINCT remember."""

    topic: str
    aggregate: Aggregate
    field: str
    filter: Filter | None
    window_ms: int
    depth: int = 0

    @property
    def name(self) -> str:
        """Identity in snapshots: the same definition finds its state again."""
        chosen = f"[{self.filter}]" if self.filter else ""
        return f"{self.aggregate.name.lower()}({self.field}{chosen},{self.window_ms}ms,{self.depth})"

    @property
    def pane_ms(self) -> int:
        return -(-self.window_ms // PANES)


@dataclass(frozen=True, slots=True)
class Term:
    """``series <comparison> threshold``."""

    series: Series
    comparison: Comparison
    threshold: float


@dataclass(frozen=True, slots=True)
class Condition:
    """A trigger's terms, all of which must hold; the first one explains the hit."""

    trigger: Trigger
    terms: tuple[Term, ...]

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
_FAILED: Final = 1.0


def _condition(trigger: Trigger) -> Condition | None:
    if trigger.trigger_id == BUILTIN_SUSPENSION_ID:
        kind = float(_PLATFORM_KINDS.index(BUILTIN_SUSPENSION_KIND))
        return _count(trigger, topics.TELEMETRY_PLATFORM, Filter("kind", kind, at_least=False), 1)
    build = _BUILDERS.get(trigger.trigger_type)
    return build(trigger) if build else None


def _count(trigger: Trigger, topic: str, chosen: Filter, count: float) -> Condition:
    depth = max(int(count), trigger.min_samples)
    series = Series(topic, Aggregate.COUNT, chosen.field, chosen, trigger.time_window, depth)
    return Condition(trigger, (Term(series, Comparison.AT_LEAST, count),))


def _health(trigger: Trigger) -> Condition:
    series = Series(topics.TELEMETRY_HEALTH, Aggregate.AVG, "health_score", None, trigger.time_window)
    return Condition(trigger, (Term(series, Comparison.BELOW, trigger.thresholds["healthScore"]),))


def _risk(trigger: Trigger) -> Condition:
    series = Series(topics.TELEMETRY_HEALTH, Aggregate.MAX, "risk_score", None, trigger.time_window)
    return Condition(trigger, (Term(series, Comparison.ABOVE, trigger.thresholds["riskScore"]),))


def _anomaly(trigger: Trigger) -> Condition:
    series = Series(topics.TELEMETRY_BEHAVIORAL, Aggregate.MAX, "anomaly_score", None, trigger.time_window)
    return Condition(trigger, (Term(series, Comparison.ABOVE, trigger.thresholds["anomalyScore"]),))


def _detection(trigger: Trigger) -> Condition:
    severity = float(SEVERITIES.index(trigger.options.get("minSeverity", "critical")))
    chosen = Filter("severity", severity, at_least=True)
    return _count(trigger, topics.TELEMETRY_DETECTION, chosen, trigger.thresholds["eventCount"])


def _proxies(trigger: Trigger) -> Condition:
    failed = Filter("outcome", _FAILED, at_least=False)
    failures, distinct = trigger.thresholds["failures"], trigger.thresholds["distinctProxies"]
    count = _count(trigger, topics.TELEMETRY_PROXY, failed, failures).terms[0]
    window = trigger.time_window
    series = Series(topics.TELEMETRY_PROXY, Aggregate.DISTINCT, "proxy_id", failed, window, int(distinct))
    return Condition(trigger, (count, Term(series, Comparison.AT_LEAST, distinct)))


_BUILDERS: Final = {
    TriggerType.HEALTH_SCORE_CRITICAL: _health,
    TriggerType.ACCOUNT_SUSPENSION_RISK: _risk,
    TriggerType.BEHAVIORAL_ANOMALY_SEVERE: _anomaly,
    TriggerType.DETECTION_EVENT_CRITICAL: _detection,
    TriggerType.PROXY_FAILURE_CASCADE: _proxies,
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
        if one.aggregate is not Aggregate.COUNT:
            fields[one.field] = None
        if one.filter is not None:
            fields[one.filter.field] = None
    return TopicPlan(topic, tuple(fields), series, tuple(conditions))
