"""What evaluations changed and came near to, in plain Python: the twin of ``detect.truth`` and ``detect.nearest``.

Written from their definitions and importing nothing of the detector.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final

from tests.oracle.naive import _FOLDS, Event, NaiveDetector, Rule, _Account, _compare, _counts, _panes, _passes

PERIOD_MS: Final = 60_000
PARTS: Final = 32_768
COUNTED: Final = ("count", "cascade")


@dataclass(frozen=True)
class NaiveChange:
    """``offset`` is -1 where time alone cleared it."""

    rule_id: str
    account: str
    outcome: str
    at: int
    offset: int
    late: bool


@dataclass
class NaiveNear:
    """One account's evaluations of a period; ``approach`` 0 where none was a miss that came near."""

    evaluations: int = 0
    approach: int = 0
    offset: int = -1
    at: int = 0
    observed: float = 0.0
    threshold: float = 0.0
    samples: int = 0


@dataclass
class NaiveEvaluations(NaiveDetector):
    """Feed events in log order; ``hits``, ``changes`` and ``near`` (by period, rule and account) fill."""

    rules: list[Rule]
    margin: int = 10
    changes: list[NaiveChange] = field(default_factory=list)
    near: dict[int, dict[tuple[str, str], NaiveNear]] = field(default_factory=lambda: defaultdict(dict))

    def __post_init__(self) -> None:
        super().__init__(self.rules)
        self._held: dict[tuple[str, str], int] = {}
        self._period: int | None = None

    def feed(self, event: Event) -> None:
        period = max(event.at // PERIOD_MS * PERIOD_MS, self._period or 0)
        if period != self._period:
            self._lapse(period)
            self._period = period
        for rule in self.rules:
            if all(_passes(event.values[name], compare, value) for name, compare, value in rule.where):
                self._evaluate(rule, event, period)

    def ended(self) -> list[int]:
        """Periods with evaluations that are over."""
        return sorted(start for start in self.near if start != self._period)

    def _lapse(self, edge: int) -> None:
        for (rule_id, account), held in list(self._held.items()):
            window_ms = next(rule.window_ms for rule in self.rules if rule.rule_id == rule_id)
            if held + window_ms <= edge:
                self.changes.append(NaiveChange(rule_id, account, "cleared", held + window_ms, -1, late=False))
                del self._held[rule_id, account]

    def _evaluate(self, rule: Rule, event: Event, period: int) -> None:
        account = self.accounts[rule.rule_id, event.account]
        folded = _FOLDS.get(rule.kind, _counts)(rule, account, event)
        if folded is None:
            return
        observed, samples, late, _ = folded
        terms = self._terms(rule, account, event, observed)
        if rule.watches is not None and not rule.watches(event.account):
            return
        holds = (any if rule.either else all)(_compare(value, how, limit) for how, value, limit in terms)
        before = len(self.hits)
        self._judge(rule, account, event, observed, samples, late=late, holds=holds)
        is_true = holds and samples >= rule.min_samples
        self._note_near(rule, event, period, terms, samples, is_true=is_true)
        self._note_change(rule, account, event, terms, samples, (late, is_true, len(self.hits) > before))

    def _terms(self, rule: Rule, account: _Account, event: Event, observed: float) -> list[tuple[str, float, float]]:
        terms = [(rule.compare, observed, float(rule.threshold))]
        if rule.kind == "cascade":
            newest = max(moment for moment, _ in account.moments)
            distinct = {value for moment, value in account.moments if moment > newest - rule.window_ms}
            depth = 1
            while depth < rule.distinct:
                depth *= 2
            terms.append((">=", float(min(len(distinct), depth)), float(rule.distinct)))
        if rule.either is not None:
            name, limit = rule.either
            other = self.accounts[f"{rule.rule_id} {name}", event.account]
            folded = _panes(replace(rule, field=name), other, event)
            assert folded is not None
            terms.append((rule.compare, folded[0], limit))
        return terms

    def _note_change(
        self,
        rule: Rule,
        account: _Account,
        event: Event,
        terms: Sequence[tuple[str, float, float]],
        samples: int,
        found: tuple[bool, bool, bool],
    ) -> None:
        late, is_true, fired = found
        key = rule.rule_id, event.account
        held = self._held.get(key)
        if held is not None and event.at - held >= rule.window_ms:
            self.changes.append(NaiveChange(*key, "cleared", held + rule.window_ms, -1, late=False))
            held = None
            del self._held[key]
        if is_true:
            if held is None and not fired:
                waits = rule.for_ms > 0 and account.since is not None and event.at - account.since < rule.for_ms
                outcome = "became_true" if waits else "suppressed"
                self.changes.append(NaiveChange(*key, outcome, event.at, event.offset, late))
            self._held[key] = event.at if held is None else max(held, event.at)
            return
        if held is None or (samples < rule.min_samples and rule.kind in ("avg", "max")):
            return
        clear = [self._is_clear(rule, number, *term) for number, term in enumerate(terms)]
        if (all if rule.either else any)(clear):
            self.changes.append(NaiveChange(*key, "cleared", event.at, event.offset, late))
            del self._held[key]

    def _is_clear(self, rule: Rule, number: int, how: str, value: float, limit: float) -> bool:
        if _compare(value, how, limit):
            return False
        if rule.kind in COUNTED:
            return 100 * value < limit * (100 - self.margin)
        name = rule.either[0] if number == 1 and rule.either is not None else rule.field
        best = 100 if name.endswith("_score") else 1 if name == "outcome" else inf
        if how == "<":
            return value >= limit + max(0.0, min(limit * self.margin / 100, (best - limit) / 2))
        return value <= limit - max(0.0, min(limit * self.margin / 100, limit / 2))

    def _note_near(
        self,
        rule: Rule,
        event: Event,
        period: int,
        terms: Sequence[tuple[str, float, float]],
        samples: int,
        *,
        is_true: bool,
    ) -> None:
        near = self.near[period].setdefault((rule.rule_id, event.account), NaiveNear())
        near.evaluations += 1
        if is_true:
            return
        ways = [(_way(*term), term) for term in terms]
        way, (_, value, limit) = (max if rule.either else min)(ways, key=lambda one: one[0])
        approach = min(way, samples * PARTS // rule.min_samples)
        if approach >= PARTS // 2 and approach > near.approach:
            near.approach, near.offset, near.at = approach, event.offset, event.at
            near.observed, near.threshold, near.samples = value, limit, samples


def _way(how: str, value: float, limit: float) -> int:
    """In parts; twice the way where it holds: further than any that does not."""
    if _compare(value, how, limit):
        return 2 * PARTS
    if value <= 0 or limit <= 0:
        return PARTS * (value == limit)
    return int((limit / value if how == "<" else value / limit) * PARTS)
