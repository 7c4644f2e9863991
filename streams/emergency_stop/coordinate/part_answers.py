"""Answers to the parts of a question, put together: one that holds decides at once, else all of them are waited for.

An answer that never comes leaves the question open, and whoever asked asks again: nothing is clear by silence. Kept in
memory only, for the same reason.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from emergency_stop.domain.messages import ConditionAnswer
from emergency_stop.domain.questions import question_part
from emergency_stop.domain.values import ConditionState

#: Questions whose answers are not complete; past it the oldest is dropped, and asked again.
OPEN_MAX: Final = 1_000
#: Parts of one question that explain it.
_TOLD_MAX: Final = 5


@dataclass(slots=True)
class PartAnswers:
    """By question; the first answer of a partition stands, whichever lane gave it."""

    _open: dict[str, dict[int, ConditionAnswer]] = field(default_factory=dict)

    def take(self, answer: ConditionAnswer) -> ConditionAnswer | None:
        """The answer to the whole question, once there is one. One to a question without parts is that already."""
        part = question_part(answer.question_id)
        if part is None:
            return answer
        if answer.state is ConditionState.HOLDS:
            self._open.pop(part.question_id, None)
            return replace(answer, question_id=part.question_id)
        given = self._open.setdefault(part.question_id, {})
        given.setdefault(part.partition, answer)
        if len(given) == part.partitions:
            del self._open[part.question_id]
            return _whole(part.question_id, list(given.values()))
        while len(self._open) > OPEN_MAX:
            del self._open[next(iter(self._open))]
        return None


def _whole(question_id: str, answers: Sequence[ConditionAnswer]) -> ConditionAnswer:
    """None of them holds. Clear needs evidence from somebody."""
    unknown = [one for one in answers if one.state is not ConditionState.CLEAR]
    subjects = sum(one.subjects for one in answers)
    is_clear = not unknown and subjects > 0
    told = unknown or [one for one in answers if one.subjects] or answers
    return replace(
        max(answers, key=lambda one: one.answered_at),
        question_id=question_id,
        state=ConditionState.CLEAR if is_clear else ConditionState.UNKNOWN,
        detail=_details([one.detail for one in told]) + ("" if subjects else "; nobody had evidence"),
        subjects=subjects,
    )


def _details(details: Collection[str]) -> str:
    """Each once."""
    different = list(dict.fromkeys(details))
    more = f"; and {len(different) - _TOLD_MAX} more" if len(different) > _TOLD_MAX else ""
    return "; ".join(different[:_TOLD_MAX]) + more
