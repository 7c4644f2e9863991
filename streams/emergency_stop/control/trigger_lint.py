"""Triggers that are valid and still not what anybody wants: unreachable, repeating, or without a way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from emergency_stop.control.trigger_lint_among import Finding, among
from emergency_stop.detect.page_budget import NoRoomError, check_fits, that_fit
from emergency_stop.domain.definition_reader import snake_case
from emergency_stop.domain.topics import TELEMETRY
from emergency_stop.domain.triggers import CRON, Trigger
from emergency_stop.domain.values import StopLevel, TriggerType
from emergency_stop.rules.definitions import quiet_hours_of, schedule_of, stable_version
from emergency_stop.rules.fields import short
from emergency_stop.rules.language import compile_rule
from emergency_stop.rules.model import Rule
from emergency_stop.rules.reach import FALSE, TRUE, outcomes
from emergency_stop.wire.sealing import Sealing
from emergency_stop.wire.sensitive import sensitive_fields

_TOP: Final = 100.0
_WEEK_MS: Final = 7 * 86_400_000
_FOUR_YEARS_MS: Final = (4 * 365 + 1) * 86_400_000


def lint(triggers: Sequence[Trigger], definitions: Sequence[Mapping[str, Any]], now_ms: int) -> list[Finding]:
    """Findings in the triggers' order, those about several first; ``definitions`` are what each was read from."""
    found = [*among(triggers), *_room(triggers)]
    for trigger, definition in zip(triggers, definitions, strict=True):
        names = {snake_case(str(name)) for name in definition}
        told = (*_reach(trigger), *_rule(trigger), *_calendar(trigger, now_ms), *_rhythm(trigger, names))
        found += [Finding(trigger.trigger_id, rule, text) for rule, text in told]
    return found


def _room(triggers: Sequence[Trigger]) -> list[Finding]:
    """Those that detectors would leave out, because all together keep too much of each account."""
    try:
        check_fits(triggers, stable_version)
    except NoRoomError as error:
        fit = {trigger.trigger_id for trigger in that_fit(triggers, stable_version)}
        return [Finding(one.trigger_id, "no-room", str(error)) for one in triggers if one.trigger_id not in fit]
    return []


def _reach(trigger: Trigger) -> list[tuple[str, str]]:
    """Thresholds that nothing, or nearly everything, crosses."""
    limits, found = trigger.thresholds, []
    if trigger.trigger_type is TriggerType.HEALTH_SCORE_CRITICAL and limits["healthScore"] <= 0:
        found.append(("unreachable", "no average of health scores is below 0; it can never fire"))
    if trigger.trigger_type is TriggerType.HEALTH_SCORE_CRITICAL and limits["healthScore"] >= _TOP:
        found.append(("always", "every average below a perfect 100 fires"))
    for name in ("riskScore", "anomalyScore"):
        if limits.get(name, 0.0) >= _TOP:
            found.append(("unreachable", f"{name} never exceeds 100; it can never fire"))
        if name in limits and limits[name] <= 0:
            found.append(("always", f"every {name} above 0 fires"))
    if limits.get("distinctProxies", 0.0) > limits.get("failures", _TOP):
        few, many = f"{limits['failures']:g}", f"{limits['distinctProxies']:g}"
        found.append(("redundant", f"failures={few} says nothing: {many} distinct proxies need {many} failures"))
    if trigger.for_ms and trigger.for_ms >= _window_ms(trigger):
        text = f"for_ms={trigger.for_ms} is not shorter than the window of {_window_ms(trigger)}"
        found.append(("slow", f"{text}: what crossed the threshold has left the window by then"))
    return found


def _rule(trigger: Trigger) -> list[tuple[str, str]]:
    """Rules that no telemetry can make true, or false."""
    if not trigger.rule:
        return []
    rule = compile_rule(trigger.rule)
    reached, found = outcomes(rule), _sealed(rule, trigger)
    if reached == FALSE:
        found.append(("unreachable", "whatever its aggregates are, the rule is false; it can never fire"))
    if reached == TRUE:
        found.append(("always", "whatever its aggregates are, the rule is true"))
    return found


def _sealed(rule: Rule, trigger: Trigger) -> list[tuple[str, str]]:
    """Texts that who has no keys cannot tell apart, or not between accounts; and detectors have none."""
    records = {spec.name: str(spec.record) for spec in TELEMETRY}
    found = []
    for call in rule.aggregates:
        how, name = sensitive_fields(records[call.topic]).get(call.field), f"{short(call.topic)}.{call.field}"
        if how is Sealing.RANDOM:
            text = "is sealed at random where producers have ESTOP_PRIVACY_KEYS: every event counts as another value"
            found.append(("sealed", f"{name} {text}"))
        if how is Sealing.DETERMINISTIC and trigger.across:
            text = "is sealed per account where producers have ESTOP_PRIVACY_KEYS: it counts once for each account"
            found.append(("sealed", f"{name} {text}"))
    return found


def _calendar(trigger: Trigger, now_ms: int) -> list[tuple[str, str]]:
    """Schedules without a moment, and quiet hours without an end."""
    schedule, quiet = schedule_of(trigger), quiet_hours_of(trigger)
    if schedule is not None and not schedule.times(now_ms, now_ms + _FOUR_YEARS_MS, count_max=1):
        return [("unreachable", f"cron={schedule.cron!r} has no moment within four years")]
    if quiet is not None:
        starts, ends = quiet.intervals(now_ms, now_ms + _WEEK_MS)
        if any((starts <= now_ms) & (ends > now_ms + _WEEK_MS)):
            return [("always", "the quiet hours cover all the time: any activity fires")]
    return []


def _window_ms(trigger: Trigger) -> int:
    """The longest window that decides; 0 where none does."""
    if trigger.rule:
        return max(call.window_ms for call in compile_rule(trigger.rule).aggregates)
    return 0 if CRON in trigger.options else trigger.time_window


def _rhythm(trigger: Trigger, given: set[str]) -> list[tuple[str, str]]:
    """How often it may fire, and how it ends."""
    found = []
    if trigger.cooldown_period < _window_ms(trigger):
        text = f"cooldown_period={trigger.cooldown_period} is shorter than the window of {_window_ms(trigger)}"
        found.append(("repeats", f"{text}: the same events fire it again"))
    if "clear_rule" not in given:
        found.append(("no-clear-rule", "clear_rule is missing, so never_automatically: nothing will recover by itself"))
    averages = (TriggerType.HEALTH_SCORE_CRITICAL, TriggerType.EXTERNAL_API_FAILURE)
    if trigger.trigger_type in averages and trigger.min_samples == 1:
        found.append(("one-sample", "min_samples=1: an average of one event can stop"))
    if trigger.stop_level is StopLevel.IMMEDIATE and trigger.mode.value != "enforce":
        found.append(("not-enforced", f"stop_level=immediate has no effect while mode={trigger.mode.value}"))
    return found
