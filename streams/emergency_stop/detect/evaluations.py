"""Evaluations as records: what changed, and what a period came nearest to. Pure.

Ids are derived from what was evaluated: of a change from the event's coordinates, of what time alone cleared from the
moment, of a summary from its period. So a replay, and the other lane, write the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from emergency_stop.detect.crossings import Change
from emergency_stop.detect.hits import Source, mode_of, scope_of
from emergency_stop.detect.judge_kernels import CLEARED, LAPSED, SUPPRESSED_AT_FIRST, WAITS
from emergency_stop.detect.nearest import Nearest
from emergency_stop.detect.nearest_kernels import (
    APPROACH,
    MEMBER,
    MOMENT,
    OBSERVED,
    OFFSET,
    PARTS,
    SAMPLES,
    SLOT,
    THRESHOLD,
)
from emergency_stop.detect.plan import Group, compares
from emergency_stop.domain.ids import derived_id
from emergency_stop.domain.messages import Evaluation
from emergency_stop.domain.topics import TRIGGERS
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import GLOBAL_SCOPE, EvaluationOutcome, Scope, ScopeKind

#: Of no single event.
NO_OFFSET: Final = -1
_PERCENT: Final = 100.0
_OUTCOMES: Final = {
    WAITS: EvaluationOutcome.BECAME_TRUE,
    SUPPRESSED_AT_FIRST: EvaluationOutcome.SUPPRESSED,
    CLEARED: EvaluationOutcome.CLEARED,
    LAPSED: EvaluationOutcome.CLEARED,
}


@dataclass(frozen=True, slots=True)
class Period:
    """A topic's period that ended. ``groups`` = (group, how often its first member was asked, what came nearest;
    ``None`` of a rule). ``key_of`` is the key of a slot.
    """

    topic: str
    partition: int
    start: int
    period_ms: int
    groups: tuple[tuple[Group, int, Nearest | None], ...]
    key_of: Callable[[int], bytes]


def change_evaluation(change: Change, scope: Scope, source: Source, now_ms: int, *, enforcing: bool) -> Evaluation:
    """A condition that became true without a hit, or cleared."""
    outcome = _OUTCOMES[change.what]
    observed, threshold, samples = _term(change, is_true=outcome is not EvaluationOutcome.CLEARED)
    offset = NO_OFFSET if change.what == LAPSED else source.offset
    return _evaluation(
        change.member.trigger, scope, outcome, (source.topic, source.partition, offset), now_ms,
        enforcing=enforcing, late=change.late, observed=observed, threshold=threshold,
        window_ms=change.group.shape.series[0].window_ms, samples=samples, at=change.moment,
    )  # fmt: skip


def _term(change: Change, *, is_true: bool) -> tuple[float | None, float | None, int]:
    """(observed, threshold, samples) of the first term that says so."""
    shape = change.group.shape
    if shape.rule is not None or not change.values:
        return None, None, max(change.samples, default=0)
    terms = zip(shape.comparisons, change.member.thresholds, change.values, change.samples, strict=True)
    told = [(value, limit, samples) for how, limit, value, samples in terms if compares(how, value, limit) is is_true]
    return told[0] if told else (change.values[0], change.member.thresholds[0], change.samples[0])


def version_evaluation(trigger: Trigger, offset: int, now_ms: int, *, enforcing: bool) -> Evaluation:
    """A version that is in force from now on; as of when it was written."""
    scope = GLOBAL_SCOPE if trigger.account_id is None else Scope.account(trigger.account_id)
    return _evaluation(
        trigger, scope, EvaluationOutcome.IN_FORCE, (TRIGGERS, 0, offset), now_ms,
        enforcing=enforcing, window_ms=trigger.time_window, at=trigger.updated_at, cause=(),
    )  # fmt: skip


def period_evaluations(period: Period, rows_max: int, now_ms: int, *, enforcing: bool) -> Iterator[Evaluation]:
    """A row for each of the nearest accounts, nearest first, and for each trigger one for all others."""
    chosen = sorted(
        (-float(found.other[index, APPROACH]), int(found.whole[index, OFFSET]), _id(group, found, index), number, index)
        for number, (group, _, found) in enumerate(period.groups)
        if found is not None
        for index in range(len(found.whole))
    )[:rows_max]
    own: dict[int, int] = {}
    for *_, number, index in chosen:
        group, _, found = period.groups[number]
        if found is not None:
            own[number] = own.get(number, 0) + found.evaluations[index] * (int(found.whole[index, MEMBER]) == 0)
            yield _nearest(period, group, found, index, now_ms, enforcing=enforcing)
    for number, (group, asked, _) in enumerate(period.groups):
        others = asked - own.get(number, 0)
        if group.base == 0 and others > 0:
            yield _others(period, group.members[0].trigger, others, now_ms, enforcing=enforcing)


def _id(group: Group, found: Nearest, index: int) -> str:
    return group.members[int(found.whole[index, MEMBER])].trigger.trigger_id


def left_out(period: Period, rows_max: int) -> int:
    """How many accounts came near in a period and get no row of their own."""
    near = [found.near for _, _, found in period.groups if found is not None]
    return max(0, sum(near) - rows_max)


def _nearest(period: Period, group: Group, found: Nearest, index: int, now_ms: int, *, enforcing: bool) -> Evaluation:
    whole, other = found.whole[index].tolist(), found.other[index].tolist()
    scope = scope_of(period.topic, period.key_of(whole[SLOT]).decode(errors="backslashreplace"))
    trigger = group.members[whole[MEMBER]].trigger
    return _evaluation(
        trigger, scope, EvaluationOutcome.UNCHANGED, (period.topic, period.partition, whole[OFFSET]), now_ms,
        enforcing=enforcing, observed=other[OBSERVED], threshold=other[THRESHOLD],
        approach_percent=_PERCENT * other[APPROACH] / PARTS, window_ms=group.shape.series[0].window_ms,
        samples=whole[SAMPLES], evaluations=found.evaluations[index], period_ms=period.period_ms, at=whole[MOMENT],
        cause=(period.topic, period.partition, period.start),
    )  # fmt: skip


def _others(period: Period, trigger: Trigger, evaluations: int, now_ms: int, *, enforcing: bool) -> Evaluation:
    return _evaluation(
        trigger, GLOBAL_SCOPE, EvaluationOutcome.OTHERS, (period.topic, period.partition, NO_OFFSET), now_ms,
        enforcing=enforcing, window_ms=trigger.time_window, evaluations=evaluations, period_ms=period.period_ms,
        at=period.start,
    )  # fmt: skip


def _evaluation(
    trigger: Trigger,
    scope: Scope,
    outcome: EvaluationOutcome,
    where: tuple[str, int, int],
    now_ms: int,
    *,
    enforcing: bool,
    window_ms: int,
    at: int,
    late: bool = False,
    observed: float | None = None,
    threshold: float | None = None,
    approach_percent: float | None = None,
    samples: int = 0,
    evaluations: int = 1,
    period_ms: int = 0,
    cause: tuple[str | int, ...] | None = None,
) -> Evaluation:
    """``cause`` makes the id, beside whom and what it is about; by default ``where``, and ``at`` where that is no
    event.
    """
    if cause is None:
        cause = where if where[2] != NO_OFFSET else (*where[:2], at)
    return Evaluation(
        evaluation_id=derived_id("evaluation", trigger.trigger_id, trigger.version, str(scope), outcome.value, *cause),
        trigger_id=trigger.trigger_id,
        trigger_version=trigger.version,
        mode=mode_of(trigger, scope, enforcing=enforcing),
        scope=str(scope),
        account_id=scope.name if scope.kind is ScopeKind.ACCOUNT else None,
        outcome=outcome,
        late=late,
        observed=observed,
        threshold=threshold,
        margin=None if observed is None or threshold is None else abs(observed - threshold),
        approach_percent=approach_percent,
        window_ms=window_ms,
        window_samples=samples,
        evaluations=evaluations,
        period_ms=period_ms,
        evaluated_at=at,
        detected_at=now_ms,
        source_topic=where[0],
        source_partition=where[1],
        source_offset=where[2],
    )
