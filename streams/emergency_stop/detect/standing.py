"""Where an account stands with a trigger: what its windows hold, how far from a hit that is, what suppresses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from emergency_stop.detect.plan import Comparison, Shape, compares
from emergency_stop.detect.series import Series
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import Mode
from emergency_stop.rules.language import Rule

_NEGATED: Final = {
    Comparison.BELOW: "is not below",
    Comparison.ABOVE: "is not above",
    Comparison.AT_LEAST: "is less than",
}


@dataclass(frozen=True, slots=True)
class SeriesStanding:
    """A window as of some moment. ``value`` is ``None`` where nothing in it makes one, or it never had an event."""

    value: float | None
    samples: int
    newest_at: int | None


@dataclass(frozen=True, slots=True)
class AccountState:
    """What a group's state says of one account: since when its condition holds, and what the cooldown suppresses."""

    cooldown_until: int | None
    suppressed: int
    holds_since: int | None


@dataclass(frozen=True, slots=True)
class TermStanding:
    """One series of the condition; a rule's have neither comparison nor threshold."""

    series: Series
    window: SeriesStanding
    comparison: Comparison | None = None
    threshold: float | None = None

    @property
    def holds(self) -> bool:
        value = self.window.value
        if value is None or self.comparison is None or self.threshold is None:
            return False
        return compares(self.comparison, value, self.threshold)

    @property
    def margin(self) -> float | None:
        """How far the value is from the threshold, on either side."""
        if self.window.value is None or self.threshold is None:
            return None
        return abs(self.window.value - self.threshold)


@dataclass(frozen=True, slots=True)
class Standing:
    """One trigger and one account. Moments are event time, ms. ``rule_holds`` is ``None`` where no rule is asked, or it
    has no value.
    """

    trigger: Trigger
    terms: tuple[TermStanding, ...]
    any_of: bool
    rule: Rule | None
    rule_holds: bool | None
    cooldown_until: int | None
    suppressed: int
    holds_since: int | None

    @property
    def holds(self) -> bool:
        if self.rule is not None:
            return self.rule_holds is True
        return any(term.holds for term in self.terms) if self.any_of else all(term.holds for term in self.terms)

    @property
    def newest_at(self) -> int:
        return max((term.window.newest_at or 0 for term in self.terms), default=0)


def standing_of(
    trigger: Trigger,
    shape: Shape,
    thresholds: Sequence[float],
    state: AccountState,
    windows: Sequence[SeriesStanding],
    *,
    rule_holds: bool | None,
) -> Standing:
    """Put together what one account's rows say."""
    if shape.rule is None:
        pairs = zip(shape.series, windows, shape.comparisons, thresholds, strict=True)
        terms = tuple(TermStanding(*pair) for pair in pairs)
    else:
        terms = tuple(TermStanding(series, window) for series, window in zip(shape.series, windows, strict=True))
    return Standing(
        trigger=trigger,
        terms=terms,
        any_of=shape.any_of,
        rule=shape.rule,
        rule_holds=rule_holds,
        cooldown_until=state.cooldown_until,
        suppressed=state.suppressed,
        holds_since=state.holds_since,
    )


def reasons_against(standing: Standing) -> list[str]:
    """Why the account's newest event did not fire this trigger; empty where it did, or the next one would."""
    trigger, newest = standing.trigger, standing.newest_at
    if all(term.window.value is None for term in standing.terms):
        return ["no event of the account has counted for it"]
    found = (
        _rule_unmet(standing, standing.rule)
        if standing.rule is not None
        else _unmet(standing.terms, any_of=standing.any_of)
    )
    samples = max((term.window.samples for term in standing.terms), default=0)
    samples = standing.terms[0].window.samples if standing.rule is None else samples
    if samples < trigger.min_samples:
        found.append(f"{samples} samples in the window, min_samples={trigger.min_samples}")
    if standing.holds and trigger.for_ms > 0 and standing.holds_since is not None:
        held_ms = newest - standing.holds_since
        if held_ms < trigger.for_ms:
            found.append(f"the condition has held for {held_ms} ms, for_ms={trigger.for_ms}")
    if standing.cooldown_until is not None and newest < standing.cooldown_until:
        left_ms = standing.cooldown_until - newest
        found.append(
            f"suppressed by cooldown for another {left_ms} ms of event time; {standing.suppressed} hits were suppressed"
        )
    return found


def reasons_without_effect(trigger: Trigger) -> list[str]:
    """Why a hit of it would stop nothing, whatever the telemetry says."""
    found = []
    if not trigger.is_active:
        found.append("the trigger is switched off (is_active=false)")
    if trigger.mode is not Mode.ENFORCE:
        found.append(f"mode={trigger.mode.value}: a hit is recorded, and stops nothing")
    return found


def _rule_unmet(standing: Standing, rule: Rule) -> list[str]:
    if standing.rule_holds is None:
        return [f"{rule.text} has no value: an aggregate that it needs is empty"]
    return [] if standing.rule_holds else [f"{rule.text} is false"]


def _unmet(terms: Sequence[TermStanding], *, any_of: bool) -> list[str]:
    if any_of and any(term.holds for term in terms):
        return []
    return [
        f"{one.series.name} = {one.window.value:g} {_NEGATED[one.comparison]} {one.threshold:g} (margin {one.margin:g})"
        for one in terms
        if not one.holds and one.window.value is not None and one.comparison is not None
    ]
