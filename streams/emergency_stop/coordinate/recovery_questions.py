"""Questions to detectors: whether the condition that caused a stop has cleared. Silence and doubt are no."""

from __future__ import annotations

from emergency_stop.coordinate.recovery_state import Asked
from emergency_stop.coordinate.state import Case
from emergency_stop.domain.ids import derived_id
from emergency_stop.domain.messages import ConditionAnswer, ConditionQuestion
from emergency_stop.domain.values import ConditionState


def asked_anew(case: Case, asker: str, now_ms: int) -> tuple[Asked, ConditionQuestion]:
    """A question about the case's trigger; ``asker`` tells apart who asks at one moment."""
    question_id = derived_id("question", asker, now_ms)
    question = ConditionQuestion(question_id, case.trigger_id or "", case.scope, case.emergency_id, now_ms)
    return Asked(question_id, now_ms), question


def heard(asked: Asked | None, answer: ConditionAnswer) -> Asked | None:
    """The question with its answer; the same object where it answers another one, or was answered."""
    if asked is None or asked.question_id != answer.question_id or asked.state is not None:
        return asked
    return Asked(asked.question_id, asked.asked_at, answer.state, answer.detail)


def answer_of(asked: Asked | None) -> tuple[ConditionState, str]:
    """(how the condition stands, why); unknown where nobody has answered."""
    if asked is None or asked.state is None:
        return ConditionState.UNKNOWN, "no detector answered"
    return asked.state, f"the condition is {asked.state.value}: {asked.detail}"
