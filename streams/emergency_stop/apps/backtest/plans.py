"""Which triggers were in force when, and for how long before them telemetry matters."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from emergency_stop.apps.backtest.reading import Reader, messages, quoted
from emergency_stop.apps.sink.tables import TABLES
from emergency_stop.apps.trigger_book import check_usable
from emergency_stop.detect.compile import Compiler, compile_plan
from emergency_stop.detect.plan import Plan
from emergency_stop.domain.topics import TRIGGERS
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.definitions import stable_version

log = logging.getLogger(__name__)
_MAX_ACTIVE: Final = "maxActiveMs"
#: More moments than this at which triggers change are an import.
_MOMENTS_MAX: Final = 100
_CLOSE_MS, _TOGETHER_MS_MAX = 1_000, 5_000


@dataclass(frozen=True, slots=True)
class PlanFrom:
    """``plan`` is in force for records that were written after ``from_ms``."""

    from_ms: int
    plan: Plan
    triggers: tuple[Trigger, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A version of a trigger, and when it was written."""

    at_ms: int
    trigger: Trigger


def fixed(triggers: Sequence[Trigger]) -> list[PlanFrom]:
    """The same triggers all the time."""
    return [PlanFrom(0, _compiler().compile(triggers), tuple(triggers))]


def recorded_changes(reader: Reader, until_ms: int) -> list[Change]:
    """Every version of every trigger that a detector took, in the order in which they were written."""
    rest = f"WHERE _topic = {quoted(TRIGGERS)} ORDER BY _partition, _offset LIMIT 1 BY _partition, _offset"
    found = []
    for at_ms, trigger in messages(reader, Trigger, TABLES["Trigger"], rest):
        if at_ms >= until_ms:
            continue
        try:
            check_usable(trigger)
        except (KeyError, ValueError) as error:
            log.warning("version %d of trigger %r was never taken: %s", trigger.version, trigger.trigger_id, error)
            continue
        found.append(Change(at_ms, trigger))
    return found


def in_force(changes: Iterable[Change], builtin: Sequence[Trigger], until_ms: int) -> tuple[Trigger, ...]:
    """The triggers that stand at ``until_ms``, sorted by id, and the built-in ones, which no record replaces."""
    known = {one.trigger.trigger_id: one.trigger for one in changes if one.at_ms <= until_ms}
    known |= {trigger.trigger_id: trigger for trigger in builtin}
    return tuple(known[name] for name in sorted(known) if not known[name].removed)


def of_the_time(changes: Sequence[Change], builtin: Sequence[Trigger], start_ms: int) -> list[PlanFrom]:
    """A plan for ``start_ms``, and one for each moment after it at which triggers were written."""
    own = {trigger.trigger_id: trigger for trigger in builtin}
    compiler, known, plans = _compiler(), dict[str, Trigger](), list[PlanFrom]()
    left = deque(sorted(changes, key=lambda one: one.at_ms))
    for at_ms in (start_ms, *_moments({one.at_ms for one in changes if one.at_ms > start_ms})):
        while left and left[0].at_ms <= at_ms:
            one = left.popleft().trigger
            known[one.trigger_id] = one
        standing = tuple(one for _, one in sorted((known | own).items()) if not one.removed)
        plans.append(PlanFrom(at_ms, compiler.compile(standing), standing))
    return plans


def _moments(found: Iterable[int]) -> list[int]:
    """In order. While very many triggers come in, a detector does not compile for each of them either: then moments
    that are close become the last one of them.
    """
    moments = sorted(found)
    if len(moments) <= _MOMENTS_MAX:
        return moments
    kept: list[int] = []
    first = moments[0]
    for at_ms in moments:
        if kept and at_ms - kept[-1] <= _CLOSE_MS and at_ms - first <= _TOGETHER_MS_MAX:
            kept[-1] = at_ms
        else:
            kept.append(at_ms)
            first = at_ms
    return kept


def only(triggers: Iterable[Trigger], chosen: frozenset[str] | None) -> tuple[Trigger, ...]:
    """Those that ``chosen`` names (``None``: all), with what replaces them for some accounts."""
    return tuple(one for one in triggers if chosen is None or one.trigger_id in chosen or one.overrides in chosen)


def warm_up_ms(triggers: Iterable[Trigger]) -> int:
    """For how long telemetry before a moment can matter to a hit at it: windows, ``for_ms``, and one cooldown."""
    return max((_reach_ms(trigger) for trigger in triggers if trigger.is_active and not trigger.removed), default=0)


def _reach_ms(trigger: Trigger) -> int:
    plan = compile_plan([trigger])
    series = [one for group in (*plan.groups, *plan.across) for one in group.shape.series]
    window_ms = max((one.window_ms for one in series), default=0)
    return window_ms + int(trigger.thresholds.get(_MAX_ACTIVE, 0)) + trigger.for_ms + trigger.cooldown_period


def _compiler() -> Compiler:
    return Compiler(stable_version)
