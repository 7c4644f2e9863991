"""Where a question about a trigger's condition must go, so that whoever can answer gets it.

Questions are partitioned like telemetry. What concerns an account, one partition knows; what concerns a service or
everything, all of them: a part of the question goes to each, under an id that says which part it is. Whoever asks puts
the answers to the parts together, by ``coordinate.part_answers``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from emergency_stop.domain.messages import ConditionQuestion
from emergency_stop.domain.values import Scope, ScopeKind

_MARK, _OF = "#", "/"
#: Of what a part's id consists behind the question's own.
_NUMBERS: Final = 2


@dataclass(frozen=True, slots=True)
class QuestionRoute:
    """One record of ``estop.questions``. Without a ``partition`` the key decides, as it does for telemetry."""

    key: str
    partition: int | None
    question: ConditionQuestion


@dataclass(frozen=True, slots=True)
class QuestionPart:
    """What a part's id says: of which question, and which of how many."""

    question_id: str
    partition: int
    partitions: int


def question_key(scope: str) -> str:
    """The account's id, as telemetry of the account is keyed; the scope where there is none.

    Raises ``ValueError`` for a text that is no scope.
    """
    parsed = Scope.parse(scope)
    return parsed.name if parsed.kind is ScopeKind.ACCOUNT else scope


def question_routes(question: ConditionQuestion, telemetry_partitions: int) -> tuple[QuestionRoute, ...]:
    """All records that ask ``question``; none, where no partition can be asked. Raises ``ValueError`` for no scope."""
    key = question_key(question.scope)
    if telemetry_partitions and Scope.parse(question.scope).kind is ScopeKind.ACCOUNT:
        return (QuestionRoute(key, None, question),)
    return tuple(
        QuestionRoute(key, partition, replace(question, question_id=f"{question.question_id}{_MARK}{partition}{_OF}"
                                              f"{telemetry_partitions}"))
        for partition in range(telemetry_partitions)
    )  # fmt: skip


def question_part(question_id: str) -> QuestionPart | None:
    """``None`` for the id of a question that has no parts."""
    whole, mark, part = question_id.rpartition(_MARK)
    numbers = part.split(_OF)
    if not mark or len(numbers) != _NUMBERS or not all(number.isascii() and number.isdigit() for number in numbers):
        return None
    partition, partitions = map(int, numbers)
    return QuestionPart(whole, partition, partitions) if partition < partitions else None
