"""Custom rules in plain Python: every aggregate anew from all samples, conditions as functions of values or ``None``.

Written from the semantics; imports nothing of the detector. What has no value makes everything that needs it have none,
except where the other side of "and" or "or" decides alone, as in CEL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

PANES = 12
Value = float | bool | None


@dataclass(frozen=True)
class Sampled:
    """One aggregate. ``depth``: where a count stops; 0 for one by panes. ``where``: which rows are samples."""

    function: str
    topic: str
    field: str
    window_ms: int
    where: Callable[[dict[str, Any]], bool] = lambda _values: True
    share: Callable[[dict[str, Any]], bool] | None = None
    depth: int = 0


@dataclass(frozen=True)
class NaiveRule:
    rule_id: str
    sampled: tuple[Sampled, ...]
    holds: Callable[[Sequence[Value]], Value]
    cooldown_ms: int
    for_ms: int = 0


@dataclass
class _Account:
    samples: list[list[tuple[int, Any]]]
    until: int | None = None
    since: int | None = None
    suppressed: int = 0
    fired_for: int | None = None


@dataclass
class NaiveRules:
    """Feed rows and ticks in the order in which they were applied.

    ``hits`` fills with (rule, account, moment, suppressed) each.
    """

    rules: list[NaiveRule]
    hits: list[tuple[str, str, int, int]] = field(default_factory=list)
    _accounts: dict[tuple[str, str], _Account] = field(default_factory=dict)

    def feed(self, topic: str, account: str, at: int, values: dict[str, Any]) -> None:
        for rule in self.rules:
            state = self._accounts.setdefault((rule.rule_id, account), _Account([[] for _ in rule.sampled]))
            taken = [
                _take(one, samples, at, values)
                for one, samples in zip(rule.sampled, state.samples, strict=True)
                if one.topic == topic
            ]
            if any(taken):
                self._judge(rule, account, state, at)

    def tick(self, at: int) -> None:
        for (rule_id, account), state in sorted(self._accounts.items()):
            rule = next(one for one in self.rules if one.rule_id == rule_id)
            newest = _silent_since(rule, state, at)
            if newest is not None and state.fired_for != newest:
                self._judge(rule, account, state, at)

    def samples_of(self, rule_id: str, account: str) -> list[list[tuple[int, Any]]] | None:
        """All samples of each of the rule's aggregates; ``None`` for an account that had no event."""
        state = self._accounts.get((rule_id, account))
        return None if state is None else state.samples

    def _judge(self, rule: NaiveRule, account: str, state: _Account, at: int) -> None:
        values = [_value(one, samples, at) for one, samples in zip(rule.sampled, state.samples, strict=True)]
        if rule.holds(values) is not True:
            state.since = None
            return
        if state.since is None:
            state.since = at
        if rule.for_ms and at - state.since < rule.for_ms:
            return
        if state.until is not None and at < state.until:
            state.suppressed += 1
            return
        state.until = at + rule.cooldown_ms
        self.hits.append((rule.rule_id, account, at, state.suppressed))
        state.suppressed = 0
        absent = [samples for one, samples in zip(rule.sampled, state.samples, strict=True) if one.function == "absent"]
        if absent and absent[0]:
            state.fired_for = max(moment for moment, _ in absent[0])


def _silent_since(rule: NaiveRule, state: _Account, at: int) -> int | None:
    for one, samples in zip(rule.sampled, state.samples, strict=True):
        if one.function == "absent":
            newest = max((moment for moment, _ in samples), default=None)
            return newest if newest is not None and at - newest >= one.window_ms else None
    return None


def _is_paned(one: Sampled) -> bool:
    return one.function in ("avg", "min", "max", "sum", "ratio") or (one.function == "count" and not one.depth)


def _inside(one: Sampled, moment: int, until: int) -> bool:
    if _is_paned(one):
        pane_ms = -(-one.window_ms // PANES)
        return moment // pane_ms > until // pane_ms - PANES
    return moment > until - one.window_ms


def _take(one: Sampled, samples: list[tuple[int, Any]], at: int, values: dict[str, Any]) -> bool:
    if not one.where(values):
        return False
    newest = max((moment for moment, _ in samples), default=None)
    if one.function != "last" and newest is not None and not _inside(one, at, newest):
        return False
    if one.share is not None:
        samples.append((at, float(one.share(values))))
    else:
        samples.append((at, values.get(one.field)))
    return True


def _value(one: Sampled, samples: list[tuple[int, Any]], at: int) -> Value:
    if one.function == "last":
        newest = max((moment for moment, _ in samples), default=None)
        found = [value for moment, value in samples if moment == newest]
        return found[-1] if found else None
    until = max([at, *(moment for moment, _ in samples)])
    window = [value for moment, value in samples if _inside(one, moment, until)]
    if one.function == "absent":
        return not window if samples else None
    if one.function == "count":
        return float(min(len(window), one.depth) if one.depth else len(window))
    if one.function == "distinct":
        return float(min(len(set(window)), one.depth))
    if not window:
        return None
    if one.function == "sum":
        return float(sum(window))
    if one.function in ("avg", "ratio"):
        return float(sum(window)) / len(window)
    return float(max(window) if one.function == "max" else min(window))


def less(left: Value, right: Value) -> Value:
    return None if left is None or right is None else left < right


def negated(value: Value) -> Value:
    return None if value is None else not value


def both(left: Value, right: Value) -> Value:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def either(left: Value, right: Value) -> Value:
    return negated(both(negated(left), negated(right)))
