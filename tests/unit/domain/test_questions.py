"""Where a question goes, and what the id of a part says."""

from __future__ import annotations

import pytest

from emergency_stop.domain.messages import ConditionQuestion
from emergency_stop.domain.questions import QuestionPart, question_key, question_part, question_routes


def question(scope: str, question_id: str = "q") -> ConditionQuestion:
    return ConditionQuestion(question_id, "t", scope, "e", 1)


def test_what_concerns_an_account_goes_where_its_telemetry_goes() -> None:
    asked = question("account:acc#1/2")
    (route,) = question_routes(asked, 4)
    assert (route.key, route.partition, route.question) == ("acc#1/2", None, asked)


@pytest.mark.parametrize("scope", ["global", "service:alpha"])
def test_what_concerns_more_goes_to_every_partition_in_parts(scope: str) -> None:
    routes = question_routes(question(scope), 3)
    assert [(route.key, route.partition) for route in routes] == [(scope, 0), (scope, 1), (scope, 2)]
    parts = [question_part(route.question.question_id) for route in routes]
    assert parts == [QuestionPart("q", partition, 3) for partition in range(3)]


@pytest.mark.parametrize("scope", ["account:acc", "service:alpha"])
def test_where_no_partition_can_be_asked_none_is(scope: str) -> None:
    assert question_routes(question(scope), 0) == ()


def test_no_scope_has_no_key() -> None:
    with pytest.raises(ValueError, match="not one of"):
        question_key("acc")


@pytest.mark.parametrize("text", ["q", "", "q#", "q#1", "q#1/2/3", "q#a/2", "q#-1/2", "q#2/2", "q#²/3"])
def test_an_id_that_is_no_parts_has_none(text: str) -> None:
    assert question_part(text) is None


def test_a_question_may_have_a_mark_in_its_id() -> None:
    assert question_part("a#b#1/2") == QuestionPart("a#b", 1, 2)
