"""Triggers that are valid and still not what anybody wants: unreachable, repeating, or without a way back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from emergency_stop.domain.definition_reader import snake_case
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import StopLevel, TriggerType

_TOP: Final = 100.0


@dataclass(frozen=True, slots=True)
class Finding:
    """``rule`` is its stable name."""

    trigger_id: str
    rule: str
    text: str


def lint(triggers: Sequence[Trigger], definitions: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Findings in the triggers' order; ``definitions`` are what each was read from."""
    counted = Counter(trigger.trigger_id for trigger in triggers)
    found = [
        Finding(name, "same-id", f"{times} definitions have this id; the last one wins")
        for name, times in counted.items()
        if times > 1
    ]
    for trigger, definition in zip(triggers, definitions, strict=True):
        names = {snake_case(str(name)) for name in definition}
        found += [
            Finding(trigger.trigger_id, rule, text) for rule, text in (*_reach(trigger), *_rhythm(trigger, names))
        ]
    return found


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
    if trigger.for_ms >= trigger.time_window:
        text = f"for_ms={trigger.for_ms} is not shorter than time_window={trigger.time_window}"
        found.append(("slow", f"{text}: what crossed the threshold has left the window by then"))
    return found


def _rhythm(trigger: Trigger, given: set[str]) -> list[tuple[str, str]]:
    """How often it may fire, and how it ends."""
    found = []
    if trigger.cooldown_period < trigger.time_window:
        text = f"cooldown_period={trigger.cooldown_period} is shorter than time_window={trigger.time_window}"
        found.append(("repeats", f"{text}: the same events fire it again"))
    if "clear_rule" not in given:
        found.append(("no-clear-rule", "clear_rule is missing, so never_automatically: nothing will recover by itself"))
    averages = (TriggerType.HEALTH_SCORE_CRITICAL, TriggerType.EXTERNAL_API_FAILURE)
    if trigger.trigger_type in averages and trigger.min_samples == 1:
        found.append(("one-sample", "min_samples=1: an average of one event can stop"))
    if trigger.stop_level is StopLevel.IMMEDIATE and trigger.mode.value != "enforce":
        found.append(("not-enforced", f"stop_level=immediate has no effect while mode={trigger.mode.value}"))
    return found
