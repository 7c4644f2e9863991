"""Triggers → shapes: which series a trigger's type watches, and how they are compared with its thresholds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from emergency_stop.detect.plan import Comparison, Shape
from emergency_stop.detect.series import Aggregate, Filter, Series
from emergency_stop.domain import topics
from emergency_stop.domain.default_triggers import BUILTIN_KINDS
from emergency_stop.domain.triggers import QUIET_HOURS, SEVERITIES, TIME_ZONE, Trigger
from emergency_stop.domain.values import TriggerType
from emergency_stop.rules.definitions import UTC
from emergency_stop.rules.language import AggregateCall, Function, compile_rule

_PLATFORM_KINDS: Final = (
    "api_call", "rate_limit", "authentication", "account_suspension", "preventive_measure", "activity", "other",
)  # fmt: skip
_FAILED: Final = Filter("outcome", "==", 1.0)
Watched = tuple[Shape, tuple[float, ...]]


def watched(trigger: Trigger) -> Watched | None:
    """The trigger's shape and thresholds; ``None`` for a type that no telemetry decides."""
    builtin = BUILTIN_KINDS.get(trigger.trigger_id)
    if builtin is not None:
        return _count(trigger, topics.TELEMETRY_PLATFORM, (_kind(builtin),), 1)
    build = _BUILDERS.get(trigger.trigger_type)
    return build(trigger) if build else None


def _kind(name: str) -> Filter:
    return Filter("kind", "==", float(_PLATFORM_KINDS.index(name)))


def _depth(count: float) -> int:
    """Enough to count so many; a power of two, so that limits of about the same size share their series."""
    return 1 << max(int(count) - 1, 0).bit_length()


def _count(trigger: Trigger, topic: str, filters: tuple[Filter, ...], count: float) -> Watched:
    depth = _depth(max(count, trigger.min_samples))
    series = Series(topic, Aggregate.COUNT, filters[0].field, filters, trigger.time_window, depth)
    return Shape((series,), (Comparison.AT_LEAST,)), (count,)


def _valued(
    topic: str, aggregate: Aggregate, field: str, comparison: Comparison, threshold: str
) -> Callable[[Trigger], Watched]:
    """A type that compares one field's aggregate with one threshold."""

    def build(trigger: Trigger) -> Watched:
        series = Series(topic, aggregate, field, (), trigger.time_window)
        return Shape((series,), (comparison,)), (trigger.thresholds[threshold],)

    return build


def _detection(trigger: Trigger) -> Watched:
    severity = float(SEVERITIES.index(trigger.options.get("minSeverity", "critical")))
    chosen = (Filter("severity", ">=", severity),)
    return _count(trigger, topics.TELEMETRY_DETECTION, chosen, trigger.thresholds["eventCount"])


def _proxies(trigger: Trigger) -> Watched:
    failures, distinct = trigger.thresholds["failures"], trigger.thresholds["distinctProxies"]
    shape, _ = _count(trigger, topics.TELEMETRY_PROXY, (_FAILED,), failures)
    window, depth = trigger.time_window, _depth(distinct)
    series = Series(topics.TELEMETRY_PROXY, Aggregate.DISTINCT, "proxy_id", (_FAILED,), window, depth)
    return Shape((*shape.series, series), (Comparison.AT_LEAST, Comparison.AT_LEAST)), (failures, distinct)


def _rate_limits(trigger: Trigger) -> Watched:
    return _count(trigger, topics.TELEMETRY_PLATFORM, (_kind("rate_limit"),), trigger.thresholds["violations"])


def _authentication(trigger: Trigger) -> Watched:
    chosen = (_kind("authentication"), _FAILED)
    return _count(trigger, topics.TELEMETRY_PLATFORM, chosen, trigger.thresholds["failures"])


def _api_failures(trigger: Trigger) -> Watched:
    """``outcome`` is 0 where a call went well and 1 where it failed, so its average is the share that failed."""
    chosen = (_kind("api_call"),)
    series = Series(topics.TELEMETRY_PLATFORM, Aggregate.AVG, "outcome", chosen, trigger.time_window)
    return Shape((series,), (Comparison.AT_LEAST,)), (trigger.thresholds["failureRate"],)


def _time_based(trigger: Trigger) -> Watched | None:
    """How long the account has been active without a pause of more than the window; or any activity in quiet hours.

    A schedule needs no telemetry.
    """
    chosen = (_kind("activity"),)
    if QUIET_HOURS in trigger.options:
        quiet = trigger.options[QUIET_HOURS], trigger.options.get(TIME_ZONE, UTC)
        depth = _depth(trigger.min_samples)
        window = trigger.time_window
        series = Series(topics.TELEMETRY_PLATFORM, Aggregate.COUNT, "kind", chosen, window, depth, quiet=quiet)
        return Shape((series,), (Comparison.AT_LEAST,)), (float(trigger.min_samples),)
    if "maxActiveMs" not in trigger.thresholds:
        return None
    series = Series(topics.TELEMETRY_PLATFORM, Aggregate.ACTIVE, "kind", chosen, trigger.time_window)
    return Shape((series,), (Comparison.ABOVE,)), (trigger.thresholds["maxActiveMs"],)


def _resources(trigger: Trigger) -> Watched:
    fields = {"cpuPercent": "cpu_percent", "memoryBytes": "memory_bytes"}
    given = [(field, limit) for name, field in fields.items() if (limit := trigger.thresholds.get(name)) is not None]
    series = tuple(Series(topics.TELEMETRY_SYSTEM, Aggregate.AVG, field, (), trigger.time_window) for field, _ in given)
    shape = Shape(series, (Comparison.ABOVE,) * len(series), any_of=True)
    return shape, tuple(limit for _, limit in given)


_PANED_FUNCTIONS: Final = {
    Function.AVG: Aggregate.AVG,
    Function.MIN: Aggregate.MIN,
    Function.MAX: Aggregate.MAX,
    Function.SUM: Aggregate.SUM,
    Function.RATIO: Aggregate.AVG,
    Function.LAST: Aggregate.LAST,
    Function.DISTINCT: Aggregate.DISTINCT,
    Function.ABSENT: Aggregate.COUNT,
}


def _rule(trigger: Trigger) -> Watched:
    rule = compile_rule(trigger.rule)
    return Shape(tuple(_aggregate_series(call) for call in rule.aggregates), rule=rule), ()


def _aggregate_series(call: AggregateCall) -> Series:
    filters = tuple(Filter(one.field, one.op, one.value) for one in call.where)
    shares = tuple(Filter(one.field, one.op, one.value) for one in call.of)
    if call.function is Function.COUNT:
        aggregate, depth = (Aggregate.COUNT, _depth(call.depth)) if call.depth else (Aggregate.TALLY, 0)
    else:
        aggregate = _PANED_FUNCTIONS[call.function]
        depth = 1 if call.function is Function.ABSENT else _depth(call.depth) if call.depth else 0
    return Series(call.topic, aggregate, call.field, filters, call.window_ms, depth, shares)


_BUILDERS: Final[dict[TriggerType, Callable[[Trigger], Watched | None]]] = {
    TriggerType.HEALTH_SCORE_CRITICAL: _valued(
        topics.TELEMETRY_HEALTH, Aggregate.AVG, "health_score", Comparison.BELOW, "healthScore"
    ),
    TriggerType.ACCOUNT_SUSPENSION_RISK: _valued(
        topics.TELEMETRY_HEALTH, Aggregate.MAX, "risk_score", Comparison.ABOVE, "riskScore"
    ),
    TriggerType.BEHAVIORAL_ANOMALY_SEVERE: _valued(
        topics.TELEMETRY_BEHAVIORAL, Aggregate.MAX, "anomaly_score", Comparison.ABOVE, "anomalyScore"
    ),
    TriggerType.DETECTION_EVENT_CRITICAL: _detection,
    TriggerType.PROXY_FAILURE_CASCADE: _proxies,
    TriggerType.RATE_LIMIT_VIOLATION: _rate_limits,
    TriggerType.AUTHENTICATION_FAILURE: _authentication,
    TriggerType.EXTERNAL_API_FAILURE: _api_failures,
    TriggerType.SYSTEM_RESOURCE_CRITICAL: _resources,
    TriggerType.TIME_BASED_TRIGGER: _time_based,
    TriggerType.CUSTOM_RULE_TRIGGER: _rule,
}
