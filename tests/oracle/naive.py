"""The detector's naive twin: plain Python, written from the semantics, importing nothing of the detector.

Every event of an account is remembered; every aggregate is computed anew from what lies in the window.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

PANES = 12


@dataclass
class Rule:
    """``kind``: avg, max, min (of ``field``), count, cascade (count and distinct of ``field``), or active."""

    rule_id: str
    kind: str
    field: str
    compare: str
    threshold: float
    window_ms: int
    cooldown_ms: int
    min_samples: int = 1
    for_ms: int = 0
    distinct: int = 0
    #: All must hold for a row to count: (field, == or >=, value).
    where: tuple[tuple[str, str, float], ...] = ()
    #: (field, threshold) of a second average, either of which above its threshold is enough.
    either: tuple[str, float] | None = None
    #: Whom it watches; ``None``: everybody.
    watches: Callable[[str], bool] | None = None


@dataclass
class Event:
    offset: int
    account: str
    at: int
    values: dict[str, Any]


@dataclass
class _Account:
    panes: dict[int, list[float]] = field(default_factory=dict)
    newest: int | None = None
    moments: list[tuple[int, Any]] = field(default_factory=list)
    cooldown_until: int | None = None
    suppressed: int = 0
    since: int | None = None


@dataclass(frozen=True)
class NaiveHit:
    rule_id: str
    account: str
    offset: int
    observed: float
    late: bool
    suppressed_before: int


class NaiveDetector:
    """Feed events in log order; ``hits`` fills."""

    def __init__(self, rules: list[Rule]) -> None:
        self.rules = sorted(rules, key=lambda rule: rule.rule_id)
        self.accounts: dict[tuple[str, str], _Account] = defaultdict(_Account)
        self.hits: list[NaiveHit] = []
        self.late = 0

    def feed(self, event: Event) -> None:
        for rule in self.rules:
            if not all(_passes(event.values[field], compare, value) for field, compare, value in rule.where):
                continue
            account = self.accounts[rule.rule_id, event.account]
            fold = _FOLDS.get(rule.kind, _counts)
            folded = fold(rule, account, event)
            if folded is None:
                self.late += 1
                continue
            observed, samples, late, also = folded
            holds = also and _compare(observed, rule.compare, rule.threshold)
            if rule.either is not None:
                observed, holds = self._either(rule, event, observed, first_holds=holds)
            if rule.watches is None or rule.watches(event.account):
                self._judge(rule, account, event, observed, samples, late=late, holds=holds)

    def _either(self, rule: Rule, event: Event, observed: float, *, first_holds: bool) -> tuple[float, bool]:
        """The second average explains the hit where only it is above its threshold."""
        assert rule.either is not None
        field, threshold = rule.either
        other = _panes(replace(rule, field=field), self.accounts[f"{rule.rule_id} {field}", event.account], event)
        assert other is not None
        if not first_holds and _compare(other[0], rule.compare, threshold):
            return other[0], True
        return observed, first_holds

    def _judge(
        self, rule: Rule, account: _Account, event: Event, observed: float, samples: int, *, late: bool, holds: bool
    ) -> None:
        if not holds or samples < rule.min_samples:
            account.since = None
            return
        if account.since is None:
            account.since = event.at
        if rule.for_ms > 0 and event.at - account.since < rule.for_ms:
            return
        if account.cooldown_until is not None and event.at < account.cooldown_until:
            account.suppressed += 1
            return
        account.cooldown_until = event.at + rule.cooldown_ms
        self.hits.append(NaiveHit(rule.rule_id, event.account, event.offset, observed, late, account.suppressed))
        account.suppressed = 0


def _compare(value: float, compare: str, threshold: float) -> bool:
    return {"<": value < threshold, ">": value > threshold, ">=": value >= threshold}[compare]


def _passes(value: float, compare: str, threshold: float) -> bool:
    return value >= threshold if compare == ">=" else value == threshold


def _panes(rule: Rule, account: _Account, event: Event) -> tuple[float, int, bool, bool] | None:
    pane_ms = -(-rule.window_ms // PANES)
    pane = event.at // pane_ms
    newest = max(account.panes, default=pane)
    if pane <= newest - PANES:
        return None
    late = account.newest is not None and event.at < account.newest
    account.newest = event.at if account.newest is None else max(account.newest, event.at)
    account.panes.setdefault(pane, []).append(event.values[rule.field])
    newest = max(newest, pane)
    window = [account.panes[number] for number in sorted(account.panes) if newest - PANES < number <= newest]
    samples = sum(len(values) for values in window)
    if rule.kind == "avg":
        inside = {number: values for number, values in account.panes.items() if newest - PANES < number <= newest}
        return _sum_of_panes(inside) / samples, samples, late, True
    fold = max if rule.kind == "max" else min
    return fold(fold(values) for values in window), samples, late, True


def _sum_of_panes(panes: dict[int, list[float]]) -> float:
    """Samples as they arrived within a pane, every fourth pane of a round of twelve in a lane, and lanes by pairs: the
    order in which floating-point numbers are added is part of the definition.
    """
    subtotals = [0.0] * PANES
    for number, values in panes.items():
        for value in values:
            subtotals[number % PANES] += value
    lanes = [subtotals[lane] + subtotals[lane + 4] + subtotals[lane + 8] for lane in range(4)]
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])


def _counts(rule: Rule, account: _Account, event: Event) -> tuple[float, int, bool, bool] | None:
    newest = max((moment for moment, _ in account.moments), default=None)
    if newest is not None and event.at <= newest - rule.window_ms:
        return None
    late = newest is not None and event.at < newest
    account.moments.append((event.at, event.values.get(rule.field)))
    newest = event.at if newest is None else max(newest, event.at)
    inside = [value for moment, value in account.moments if moment > newest - rule.window_ms]
    depth = 1
    while depth < max(rule.threshold, rule.min_samples):
        depth *= 2
    count = min(len(inside), depth)
    distinct_holds = rule.kind != "cascade" or len(set(inside)) >= rule.distinct
    return float(count), count, late, distinct_holds


def _active(rule: Rule, account: _Account, event: Event) -> tuple[float, int, bool, bool] | None:
    """``moments`` are those of the current run; a longer pause than the window starts a new one."""
    run = [moment for moment, _ in account.moments]
    if run and event.at <= max(run) - rule.window_ms:
        return None
    late = bool(run) and event.at < max(run)
    if run and event.at > max(run) + rule.window_ms:
        run = []
    run.append(event.at)
    account.moments = [(moment, None) for moment in run]
    return float(max(run) - min(run)), len(run), late, True


_FOLDS = {"avg": _panes, "max": _panes, "min": _panes, "active": _active}
