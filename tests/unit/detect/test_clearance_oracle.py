"""What the detector says of a condition that may have cleared is what its naive twin says."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

import pytest

from tests.oracle.clearances import Findings, compare, compare_rules

SEED = int(os.environ.get("SEED", "20"))


@pytest.mark.parametrize(
    ("compared", "seeds", "events"), [(compare, 100, 400), (compare_rules, 50, 150)], ids=["types", "rules"]
)
def test_answers_equal_the_naive_twins_and_no_hit_refutes_one(
    compared: Callable[[int, int], Findings], seeds: int, events: int
) -> None:
    """At random moments after random events; and at the moment of an event that fires, nothing is clear."""
    answers: Counter[str] = Counter()
    refuted = 0
    for seed in range(SEED * 1_000, SEED * 1_000 + seeds):
        found = compared(seed, events)
        assert found.problem is None, found.problem
        answers += found.answers
        refuted += found.refuted
    assert min(answers[state] for state in ("clear", "holds", "unknown")) > 30, answers
    assert refuted > 30
