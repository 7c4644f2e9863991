"""Hits: what crossed, in all that explains it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from emergency_stop.detect.crossings import Crossing
from emergency_stop.detect.plan import Comparison, compares
from emergency_stop.detect.series import Aggregate, Series
from emergency_stop.domain.ids import derived_id
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.topics import TELEMETRY_SYSTEM
from emergency_stop.domain.triggers import CRON, TIME_ZONE, Trigger
from emergency_stop.domain.values import OWN_PROCESSES, Mode, Scope, ScopeKind
from emergency_stop.rules.definitions import UTC
from emergency_stop.rules.language import Rule, describe

_WORDS: Final = {
    Comparison.BELOW: "is below",
    Comparison.ABOVE: "is above",
    Comparison.AT_LEAST: "is at least",
}


@dataclass(frozen=True, slots=True)
class Source:
    """The record that caused a hit; ``moment`` is its event time.

    ``seen`` are the next offsets of other topics whose windows were read: the order between topics is on record nowhere
    else.
    """

    topic: str
    partition: int
    offset: int
    moment: int
    correlation_id: str | None = None
    seen: tuple[tuple[str, int], ...] = ()


def scope_of(topic: str, key: str) -> Scope:
    """What a hit stops: the account, or for a process's own telemetry (``service@host``) the service."""
    return Scope.service(key.partition("@")[0]) if topic == TELEMETRY_SYSTEM else Scope.account(key)


def mode_of(trigger: Trigger, scope: Scope, *, enforcing: bool) -> Mode:
    """What a trigger does about ``scope``. Of a process of our own it only warns: commands would reach nobody, and who
    stops others must not be stopped by its own load.
    """
    if not enforcing:
        return Mode.SHADOW
    is_own = scope.kind is ScopeKind.SERVICE and scope.name in OWN_PROCESSES
    return Mode.WARN if is_own and trigger.mode is Mode.ENFORCE else trigger.mode


@dataclass(frozen=True, slots=True)
class _Told:
    """What a hit says of the condition; the series that explains it, and every one's value."""

    series: Series
    observed: float
    threshold: float
    margin: float
    samples: int
    reason: str
    terms: list[dict[str, object]]


def crossing_hit(crossing: Crossing, scope: Scope, source: Source, now_ms: int, *, enforcing: bool) -> Hit:
    """The hit of a condition that came true."""
    rule = crossing.group.shape.rule
    told = _tell_comparison(crossing) if rule is None else _tell_rule(crossing, rule)
    contents = {"until": source.moment, "terms": told.terms}
    if rule is not None:
        contents["rule"] = rule.text
    if source.seen:
        contents["seen"] = dict(source.seen)
    trigger = crossing.member.trigger
    return _hit(
        trigger, scope, source, now_ms, enforcing=enforcing, told=told, contents=contents,
        late=crossing.late, suppressed=crossing.suppressed_before,
        cause=(source.topic, str(source.partition), str(source.offset)),
    )  # fmt: skip


def schedule_hit(
    trigger: Trigger, scope: Scope, source: Source, now_ms: int, *, enforcing: bool, late: bool, suppressed: int
) -> Hit:
    """The hit of a schedule; ``source.moment`` is the time that it names."""
    cron, zone = trigger.options[CRON], trigger.options.get(TIME_ZONE, UTC)
    series = Series(source.topic, Aggregate.TALLY, "", (), trigger.time_window)
    told = _Told(series, 1.0, 1.0, 0.0, 1, f"the schedule {cron!r} ({zone}) is due", [])
    contents = {"until": source.moment, "terms": [], "cron": cron, "time_zone": zone}
    return _hit(
        trigger, scope, source, now_ms, enforcing=enforcing, told=told, contents=contents,
        late=late, suppressed=suppressed, cause=("schedule", str(source.moment)),
    )  # fmt: skip


def _hit(
    trigger: Trigger,
    scope: Scope,
    source: Source,
    now_ms: int,
    *,
    enforcing: bool,
    told: _Told,
    contents: dict[str, object],
    late: bool,
    suppressed: int,
    cause: Sequence[str],
) -> Hit:
    hit_id = derived_id("hit", trigger.trigger_id, str(trigger.version), str(scope), *cause)
    return Hit(
        hit_id=hit_id,
        trigger_id=trigger.trigger_id,
        trigger_version=trigger.version,
        trigger_type=trigger.trigger_type,
        trigger_name=trigger.name,
        mode=mode_of(trigger, scope, enforcing=enforcing),
        scope=str(scope),
        account_id=scope.name if str(scope).startswith("account:") else None,
        level=trigger.stop_level,
        target_services=trigger.target_services,
        priority=trigger.priority,
        reason=told.reason,
        occurred_at=source.moment,
        detected_at=now_ms,
        source_topic=source.topic,
        source_partition=source.partition,
        source_offset=source.offset,
        observed=told.observed,
        threshold=told.threshold,
        margin=told.margin,
        window_ms=told.series.window_ms,
        window_samples=told.samples,
        window_contents=json.dumps(contents, separators=(",", ":")),
        late=late,
        suppressed_before=suppressed,
        correlation_id=source.correlation_id or hit_id,
        clear_rule=trigger.clear_rule,
    )


def _tell_comparison(crossing: Crossing) -> _Told:
    """The first term that holds explains the hit; every term's value is told as the row saw it."""
    shape, thresholds = crossing.group.shape, crossing.member.thresholds
    terms = list(zip(shape.series, shape.comparisons, thresholds, crossing.values, crossing.samples, strict=True))
    first = next(term for term in terms if compares(term[1], term[3], term[2]))
    series, comparison, threshold, observed, samples = first
    listed: list[dict[str, object]] = [
        {"series": one.name, "value": value, "samples": count, "threshold": limit}
        for one, _, limit, value, count in terms
    ]
    reason = f"{_subject(series)} {observed:g} over {series.window_ms / 1000:g} s {_WORDS[comparison]} {threshold:g}"
    return _Told(series, observed, threshold, abs(observed - threshold), samples, reason, listed)


def _tell_rule(crossing: Crossing, rule: Rule) -> _Told:
    """A rule has no threshold: its aggregates' values are what there is to tell."""
    series = crossing.group.shape.series
    values = crossing.inputs
    listed: list[dict[str, object]] = [
        {"series": one.name, "value": value, "samples": count}
        for one, value, count in zip(series, values, crossing.samples, strict=True)
    ]
    observed = next((float(value) for value in values if value is not None), 0.0)
    reason = f"{rule.text} is true: {describe(rule, values)}"
    return _Told(series[0], observed, observed, 0.0, crossing.samples[0], reason, listed)


def _subject(series: Series) -> str:
    """``average health_score``."""
    over = " over all accounts" if series.across else ""
    words = {
        Aggregate.AVG: f"average {series.field}",
        Aggregate.MAX: f"highest {series.field}",
        Aggregate.COUNT: f"count of {series.topic}{series.chosen}",
        Aggregate.DISTINCT: f"distinct {series.field}",
        Aggregate.ACTIVE: f"continuous activity, ms, of {series.topic}{series.chosen}",
    }[series.aggregate]
    return words + over
