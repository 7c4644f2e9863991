"""Whether a trigger's condition has cleared: with a margin, and only on evidence. Pure.

Theory of operation. A condition that has just stopped holding is about to hold again, so *clear* asks for more than
*does not hold*, and what nobody knows is neither. All windows are taken at the moment of the question: while an account
is silent, they empty. With the margin *m* (a share), each term of a condition stands as follows.

* Average, highest value or share, compared with the threshold *T*. The band is ``min(m·|T|, room / 2)``, where the room
  is how far *T* is from the best value that the field can have, so that some value always clears. Fires below *T*:
  clear at or above ``T + band``. Fires above or at *T*: clear at or below ``T - band``. No sample in the window, or
  fewer than ``min_samples``: unknown.
* Count of events or of distinct values in a window *W*, of which *T* fire: clear while there are fewer than
  ``(1 - m)·T`` **and** the newest is at least ``W / T`` old: the rate has fallen below the one that fires. For a single
  event that is the empty window. None is clear: absence is evidence, while one can see.
* Continuous activity: clear once it ended by a pause, or at or below ``T - band``.
* Quiet hours: as a count, but not before they are over.
* A custom rule: see ``clearance_of_rule``. A schedule names a moment, and so never clears by itself.

Where all terms must hold for a hit, one that is clear is enough; where one is enough, all must be clear; what is
unknown stays unknown unless the others decide. Absence is evidence only over a whole window: a trigger that was changed
within it leaves unknown what it counts. ``for_ms`` and cooldowns delay hits, and clear nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from emergency_stop.detect.clearance_of_rule import rule_clearance
from emergency_stop.detect.plan import Comparison
from emergency_stop.detect.series import Aggregate, Series
from emergency_stop.detect.standing import Standing, TermStanding
from emergency_stop.domain.triggers import QUIET_HOURS, TIME_ZONE, Trigger
from emergency_stop.domain.values import ConditionState
from emergency_stop.rules.calendar import parse_quiet_hours
from emergency_stop.rules.definitions import UTC

CLEAR, HOLDS, UNKNOWN = ConditionState.CLEAR, ConditionState.HOLDS, ConditionState.UNKNOWN
#: Everything is in percent, so that counts are compared exactly.
_HUNDRED: Final = 100
_COUNTED: Final = (Aggregate.COUNT, Aggregate.DISTINCT)


@dataclass(frozen=True, slots=True)
class Clearance:
    """``detail`` says why, for people. ``subjects`` is of how many accounts or hosts there was evidence."""

    state: ConditionState
    detail: str
    subjects: int = 1


def clearance(standing: Standing, at_ms: int, margin_percent: int) -> Clearance:
    """How a trigger's condition stands for whom ``standing``, taken at ``at_ms``, is about."""
    trigger = standing.trigger
    if standing.rule is not None:
        windows = [term.window for term in standing.terms]
        found = rule_clearance(standing.rule, windows, at_ms, margin_percent, holds=standing.rule_holds)
    else:
        terms = [_term_clearance(term, trigger, at_ms, margin_percent) for term in standing.terms]
        found = combined(terms, any_of=standing.any_of)
    unwatched = _unwatched(standing, at_ms) if found[0] is CLEAR else ""
    return Clearance(UNKNOWN, f"{found[1]}; {unwatched}") if unwatched else Clearance(*found)


def combined(terms: Sequence[tuple[ConditionState, str]], *, any_of: bool) -> tuple[ConditionState, str]:
    """Three-valued "and", or with ``any_of`` "or", of what holds."""
    states = [state for state, _ in terms]
    decisive, other = (HOLDS, CLEAR) if any_of else (CLEAR, HOLDS)
    state = decisive if decisive in states else UNKNOWN if UNKNOWN in states else other
    return state, "; ".join(detail for _, detail in terms)


def _term_clearance(
    term: TermStanding, trigger: Trigger, at_ms: int, margin_percent: int
) -> tuple[ConditionState, str]:
    if term.series.aggregate in _COUNTED:
        return _counted(term, trigger, at_ms, margin_percent)
    if term.series.aggregate is Aggregate.ACTIVE:
        return _active(term, margin_percent)
    return _valued(term, trigger, margin_percent)


def _valued(term: TermStanding, trigger: Trigger, margin_percent: int) -> tuple[ConditionState, str]:
    value, name, samples = term.window.value, term.series.name, term.window.samples
    if value is None:
        return UNKNOWN, f"{name} has no sample in its window"
    level, is_beyond = clear_level(term.series, term.comparison, term.threshold or 0.0, margin_percent)
    said = f"{name} = {value:g} of {samples} samples, clear {'from' if is_beyond else 'up to'} {level:g}"
    if term.holds or not (value >= level if is_beyond else value <= level):
        return HOLDS, said
    if samples < trigger.min_samples:
        return UNKNOWN, f"{said}; min_samples={trigger.min_samples}"
    return CLEAR, said


def clear_level(
    series: Series, comparison: Comparison | None, threshold: float, margin_percent: int
) -> tuple[float, bool]:
    """(the first value that is clear, whether clear lies above it)."""
    low, high = _bounds(series)
    is_beyond = comparison is Comparison.BELOW
    room = high - threshold if is_beyond else threshold - low
    band = max(0.0, min(abs(threshold) * margin_percent / _HUNDRED, room / 2))
    return (threshold + band, True) if is_beyond else (threshold - band, False)


def _bounds(series: Series) -> tuple[float, float]:
    """The least and the greatest value of what triggers compare; no field of theirs is negative."""
    if series.field.endswith("_score"):
        return 0.0, 100.0
    return 0.0, 1.0 if series.field == "outcome" else math.inf


def _counted(term: TermStanding, trigger: Trigger, at_ms: int, margin_percent: int) -> tuple[ConditionState, str]:
    """Whole numbers throughout: ``count / T < 1 - m`` and ``age >= W / T``."""
    limit, count, newest = int(term.threshold or 1), int(term.window.value or 0), term.window.newest_at
    window_ms = term.series.window_ms
    said = f"{term.series.name} = {count} of {limit}"
    if term.series.quiet is not None and is_quiet(trigger, at_ms):
        return HOLDS, f"{said}; quiet hours are not over"
    if newest is None:
        return CLEAR, f"{said}, none ever"
    pause_ms, wanted_ms = at_ms - newest, -(-window_ms // limit)
    said += f", the newest {pause_ms} ms ago; clear with fewer than {limit * (_HUNDRED - margin_percent) / _HUNDRED:g}"
    said += f" and a pause of {wanted_ms} ms"
    few = count * _HUNDRED < limit * (_HUNDRED - margin_percent)
    return (CLEAR if few and pause_ms >= wanted_ms else HOLDS), said


def is_quiet(trigger: Trigger, at_ms: int) -> bool:
    """Whether the trigger's quiet hours contain the moment."""
    hours = parse_quiet_hours(trigger.options[QUIET_HOURS], trigger.options.get(TIME_ZONE, UTC))
    starts, ends = hours.intervals(at_ms, at_ms)
    return any(start <= at_ms < end for start, end in zip(starts.tolist(), ends.tolist(), strict=True))


def _active(term: TermStanding, margin_percent: int) -> tuple[ConditionState, str]:
    """A run that a pause ended is none."""
    active_ms = term.window.value or 0.0
    level, _ = clear_level(term.series, term.comparison, term.threshold or 0.0, margin_percent)
    said = f"{term.series.name} = {active_ms:g} ms, clear up to {level:g}"
    return (HOLDS if term.holds or active_ms > level else CLEAR), said


def _unwatched(standing: Standing, at_ms: int) -> str:
    """Why absence is no evidence yet; empty where it is, or nothing is concluded from it."""
    absent = [
        one.series.window_ms
        for one in standing.terms
        if one.window.value is None or one.series.aggregate in (*_COUNTED, Aggregate.TALLY, Aggregate.ACTIVE)
    ]
    watched_ms, window_ms = at_ms - standing.trigger.updated_at, max(absent, default=0)
    if watched_ms >= window_ms:
        return ""
    return f"the trigger was changed {watched_ms} ms ago, and counts over {window_ms} ms"
