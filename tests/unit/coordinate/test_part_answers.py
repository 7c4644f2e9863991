"""Answers of all partitions as one: holds decides, unknown is next, and clear needs evidence."""

from __future__ import annotations

from itertools import permutations

import pytest

from emergency_stop.coordinate.part_answers import OPEN_MAX, PartAnswers
from emergency_stop.domain.messages import ConditionAnswer
from emergency_stop.domain.values import ConditionState

C, H, U = ConditionState.CLEAR, ConditionState.HOLDS, ConditionState.UNKNOWN
Given = tuple[ConditionState, int]


def answer(question_id: str, state: ConditionState, subjects: int = 1) -> ConditionAnswer:
    detail = f"{state.value} {subjects}"
    return ConditionAnswer(question_id, "t", "global", "e", state, detail, 5, subjects=subjects)


@pytest.mark.parametrize(
    ("given", "state", "subjects", "detail"),
    [
        ([(C, 1), (C, 2), (C, 0)], C, 3, "clear"),
        ([(C, 0), (C, 0), (C, 0)], U, 0, "nobody had evidence"),
        ([(C, 1), (U, 0), (C, 1)], U, 2, "unknown 0"),
        ([(U, 1), (U, 0), (C, 0)], U, 1, "unknown"),
    ],
)
def test_answers_of_all_partitions_are_one(
    given: list[Given], state: ConditionState, subjects: int, detail: str
) -> None:
    for order in permutations(range(3)):
        parts = PartAnswers()
        found = [parts.take(answer(f"q#{number}/3", *given[number])) for number in order]
        assert found[:2] == [None, None]
        whole = found[2]
        assert whole is not None
        assert (whole.question_id, whole.state, whole.subjects) == ("q", state, subjects)
        assert detail in whole.detail


def test_one_that_holds_is_not_waited_for() -> None:
    parts = PartAnswers()
    assert parts.take(answer("q#0/3", C)) is None
    whole = parts.take(answer("q#2/3", H))
    assert whole is not None
    assert (whole.question_id, whole.state) == ("q", H)


def test_the_other_lanes_answer_is_no_partitions_that_is_missing() -> None:
    parts = PartAnswers()
    assert [parts.take(answer(f"q#{number}/2", C)) for number in (0, 0, 0)] == [None] * 3
    assert parts.take(answer("q#1/2", C)) is not None


def test_an_answer_to_a_question_without_parts_is_whole() -> None:
    one = answer("q", U, 0)
    assert PartAnswers().take(one) is one


def test_what_is_never_complete_is_forgotten() -> None:
    parts = PartAnswers()
    for number in range(OPEN_MAX + 1):
        parts.take(answer(f"{number}#0/2", C))
    assert parts.take(answer("0#1/2", C)) is None, "its first half is gone"
    assert parts.take(answer(f"{OPEN_MAX}#1/2", C)) is not None
