"""Whether a condition has cleared, in plain Python, from all events that the naive twins remember.

Written from the definition in ``docs/adr`` and importing nothing of the detector. Margins are in percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import ceil, inf

from tests.oracle.naive import PANES, NaiveDetector, Rule, _Account, _sum_of_panes
from tests.oracle.naive_rules import NaiveRule, NaiveRules, Sampled, Value, _value

LAST_FRESH_MS = 300_000


def clearance(twin: NaiveDetector, rule: Rule, account: str, at: int, margin: int) -> str:
    """``clear``, ``holds`` or ``unknown``, of an account that has had an event of the rule's topic."""
    if rule.watches is not None and not rule.watches(account):
        return "unknown"
    state = twin.accounts.get((rule.rule_id, account), _Account())
    if rule.kind in ("count", "cascade"):
        verdicts = [_counted([moment for moment, _ in state.moments], rule, rule.threshold, None, at, margin)]
        if rule.kind == "cascade":
            verdicts.append(_counted([m for m, _ in state.moments], rule, rule.distinct, state.moments, at, margin))
        return "clear" if "clear" in verdicts else "holds"
    if rule.kind == "active":
        run = [moment for moment, _ in state.moments]
        active = max(run) - min(run) if run and at - max(run) <= rule.window_ms else 0
        return "clear" if active <= rule.threshold - rule.threshold * margin / 100 else "holds"
    first = _valued(rule, state, rule.field, rule.threshold, at, margin)
    if rule.either is None:
        return first
    field, threshold = rule.either
    second = _valued(rule, twin.accounts.get((f"{rule.rule_id} {field}", account), _Account()), field, threshold, at,
                     margin)  # fmt: skip
    return "holds" if "holds" in (first, second) else "unknown" if "unknown" in (first, second) else "clear"


def _counted(
    moments: Sequence[int], rule: Rule, limit: float, values: Sequence[tuple[int, object]] | None, at: int, margin: int
) -> str:
    """With ``values`` distinct ones are counted."""
    if not moments:
        return "clear"
    until = max(at, *moments)
    inside = [moment for moment in moments if moment > until - rule.window_ms]
    count = (
        len(inside) if values is None else len({value for moment, value in values if moment > until - rule.window_ms})
    )
    is_few = 100 * count < limit * (100 - margin)
    is_quiet = (at - max(moments)) * limit >= rule.window_ms
    return "clear" if is_few and is_quiet else "holds"


def _valued(rule: Rule, state: _Account, field: str, threshold: float, at: int, margin: int) -> str:
    if not state.panes:
        return "unknown"
    pane_ms = -(-rule.window_ms // PANES)
    last = max(at // pane_ms, *state.panes)
    window = {number: values for number, values in state.panes.items() if last - PANES < number <= last}
    samples = sum(map(len, window.values()))
    if not samples:
        return "unknown"
    everything = [value for values in window.values() for value in values]
    value = _sum_of_panes(window) / samples if rule.kind == "avg" else max(everything)
    best = 100 if field.endswith("_score") else 1 if field == "outcome" else inf
    if rule.compare == "<":
        is_clear = value >= threshold + min(threshold * margin / 100, (best - threshold) / 2)
    else:
        is_clear = value <= threshold - threshold * margin / 100
        is_clear = is_clear and (value < threshold or rule.compare == ">")
    return "holds" if not is_clear else "clear" if samples >= rule.min_samples else "unknown"


# ---------------------------------------------------------------------------------------------- custom rules


def rule_clearance(twin: NaiveRules, rule: NaiveRule, account: str, at: int, margin: int) -> str | None:
    """``None`` for an account that had no event. Tries all corners of what the aggregates stand for."""
    samples = twin.samples_of(rule.rule_id, account)
    if samples is None:
        return None
    measured = [_value(one, own, at) for one, own in zip(rule.sampled, samples, strict=True)]
    holds = rule.holds(measured)
    if holds is True:
        return "holds"
    pairs = list(zip(rule.sampled, samples, measured, strict=True))
    missing = [_is_missing(one, own, value, at) for one, own, value in pairs]
    corners = [
        _everything(one) if gone else _around(one, own, value, at, margin)
        for (one, own, value), gone in zip(pairs, missing, strict=True)
    ]
    if holds is False and not any(rule.holds(corner) for corner in product(*corners)):
        return "clear"
    return "unknown" if holds is None or any(missing) else "holds"


def _is_missing(one: Sampled, samples: Sequence[tuple[int, object]], value: Value, at: int) -> bool:
    newest = max((moment for moment, _ in samples), default=0)
    return value is None or (one.function == "last" and at - newest > LAST_FRESH_MS)


def _best(one: Sampled) -> float:
    return 1 if one.function == "ratio" else inf if one.function == "sum" else 100


def _everything(one: Sampled) -> tuple[Value, ...]:
    return (False, True) if one.function == "absent" else (0, _best(one))


def _around(
    one: Sampled, samples: Sequence[tuple[int, object]], value: Value, at: int, margin: int
) -> tuple[Value, ...]:
    assert value is not None
    if one.function == "absent":
        silent_ms = at - max(moment for moment, _ in samples)
        return (True,) if value else (False, True) if silent_ms * 100 > one.window_ms * (100 - margin) else (False,)
    if one.function in ("count", "distinct"):
        events = ceil(value * margin / 100)
        return max(0, value - events), inf if one.depth and value >= one.depth else value + events
    band = value * margin / 100
    return value - min(band, _best(one) - value), value + min(band, value)
