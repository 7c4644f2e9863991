"""Whether a custom rule has cleared: it is false, and values within the margin of those measured leave it false. Pure.

A rule's thresholds are anywhere in its text, so the margin *m* is one of its aggregates instead: each stands for all
values within ``m·|value|`` of its own, but no further than the best and the worst that its field can have are away
(``min(m·|value|, high - value)`` down, ``min(m·|value|, value - low)`` up), so that the best value needs no margin. Of
a count the margin is rounded up to whole events, of an enum's symbol or a flag there is none. Silence that has lasted
for more than ``(1 - m)`` of what ``absent`` asks for may be either. An aggregate without a value stands for every
value, and so does ``last`` of a value that is older than ``LAST_FRESH_MS``. The program is run on these ranges.

False for all of them: clear. True as measured: holds. Without a value, or undecided while an aggregate is missing:
unknown. Else values within the margin would make it true: holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from emergency_stop.detect.standing import SeriesStanding
from emergency_stop.domain.values import ConditionState
from emergency_stop.rules.fields import Kind, catalogue, short
from emergency_stop.rules.language import AggregateCall, Function, Rule, describe
from emergency_stop.rules.reach import EITHER, FALSE, TRUE, Range, outcomes, range_of

#: ``last`` has no window: an older value says nothing of now.
LAST_FRESH_MS: Final = 300_000
_HUNDRED: Final = 100
_COUNTED: Final = (Function.COUNT, Function.DISTINCT)


def rule_clearance(
    rule: Rule, windows: Sequence[SeriesStanding], at_ms: int, margin_percent: int, *, holds: bool | None
) -> tuple[ConditionState, str]:
    """``windows``: the rule's aggregates at ``at_ms``, in order; ``holds``: what the rule makes of them."""
    values = [_value(call, window) for call, window in zip(rule.aggregates, windows, strict=True)]
    said = f"{rule.text}: {describe(rule, values)}"
    if holds:
        return ConditionState.HOLDS, f"{said}; it is true"
    missing = [_is_missing(call, window, at_ms) for call, window in zip(rule.aggregates, windows, strict=True)]
    ranges = [
        range_of(call) if gone else margin_range(call, window, at_ms, margin_percent)
        for call, window, gone in zip(rule.aggregates, windows, missing, strict=True)
    ]
    if holds is False and outcomes(rule, ranges) == FALSE:
        return ConditionState.CLEAR, f"{said}; it is false, within {margin_percent} % too"
    if holds is None or any(missing):
        return ConditionState.UNKNOWN, f"{said}; something that it needs has no value"
    return ConditionState.HOLDS, f"{said}; it is false, but values within {margin_percent} % may make it true"


def margin_range(call: AggregateCall, window: SeriesStanding, at_ms: int, margin_percent: int) -> Range:
    """All values that an aggregate which has one stands for."""
    value = window.value or 0.0
    if call.function is Function.ABSENT:
        return _absence(call, window, at_ms, margin_percent)
    if call.function in _COUNTED:
        events = math.ceil(value * margin_percent / _HUNDRED)
        return max(0.0, value - events), math.inf if call.depth and value >= call.depth else value + events
    low, high = range_of(call)
    if _is_exact(call):
        return value, value
    around = abs(value) * margin_percent / _HUNDRED
    return value - max(0.0, min(around, high - value)), value + max(0.0, min(around, value - low))


def _absence(call: AggregateCall, window: SeriesStanding, at_ms: int, margin_percent: int) -> Range:
    if window.value == 0:
        return TRUE
    silent_ms = at_ms - (window.newest_at or 0)
    return EITHER if silent_ms * _HUNDRED > call.window_ms * (_HUNDRED - margin_percent) else FALSE


def _is_exact(call: AggregateCall) -> bool:
    """A symbol or a flag, or the least or greatest of such: next to it there is nothing."""
    if call.function is Function.RATIO:
        return False
    kind = catalogue().names[f"{short(call.topic)}.{call.field}"].kind
    return kind in (Kind.ENUM, Kind.BOOL) and call.function not in (Function.AVG, Function.SUM)


def _is_missing(call: AggregateCall, window: SeriesStanding, at_ms: int) -> bool:
    if call.function in _COUNTED:
        return False
    is_old = call.function is Function.LAST and at_ms - (window.newest_at or 0) > LAST_FRESH_MS
    return window.value is None or is_old


def _value(call: AggregateCall, window: SeriesStanding) -> float | None:
    """As ``groups.rule_inputs`` hands it to the program."""
    if call.function in _COUNTED:
        return window.value or 0.0
    return float(window.value == 0) if call.function is Function.ABSENT and window.value is not None else window.value
