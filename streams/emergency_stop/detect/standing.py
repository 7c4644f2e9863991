"""Where an account stands with a trigger: what its windows hold, how far from a hit that is, what suppresses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from emergency_stop.detect.plan import Comparison, Term
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import Mode

_NEGATED: Final = {
    Comparison.BELOW: "is not below",
    Comparison.ABOVE: "is not above",
    Comparison.AT_LEAST: "is less than",
}


@dataclass(frozen=True, slots=True)
class SeriesStanding:
    """A window as of the account's newest event in it. ``value`` is ``None`` where it never had one."""

    value: float | None
    samples: int
    newest_at: int | None


@dataclass(frozen=True, slots=True)
class TermStanding:
    term: Term
    series: SeriesStanding

    @property
    def holds(self) -> bool:
        return self.series.value is not None and self.term.holds(self.series.value)

    @property
    def margin(self) -> float | None:
        """How far the value is from the threshold, on either side."""
        return None if self.series.value is None else abs(self.series.value - self.term.threshold)


@dataclass(frozen=True, slots=True)
class Standing:
    """One trigger and one account. Moments are event time, ms."""

    trigger: Trigger
    terms: tuple[TermStanding, ...]
    any_of: bool
    cooldown_until: int | None
    suppressed: int
    holds_since: int | None

    @property
    def holds(self) -> bool:
        return any(term.holds for term in self.terms) if self.any_of else all(term.holds for term in self.terms)


def reasons_against(standing: Standing) -> list[str]:
    """Why the account's newest event did not fire this trigger; empty where it did, or the next one would."""
    trigger = standing.trigger
    newest = max((term.series.newest_at or 0 for term in standing.terms), default=0)
    if all(term.series.value is None for term in standing.terms):
        return ["no event of the account has counted for it"]
    found = _unmet(standing.terms, any_of=standing.any_of)
    samples = standing.terms[0].series.samples
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


def _unmet(terms: Sequence[TermStanding], *, any_of: bool) -> list[str]:
    if any_of and any(term.holds for term in terms):
        return []
    return [
        f"{one.term.series.name} = {one.series.value:g} {_NEGATED[one.term.comparison]} {one.term.threshold:g}"
        f" (margin {one.margin:g})"
        for one in terms
        if not one.holds and one.series.value is not None
    ]
