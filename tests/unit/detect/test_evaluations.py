"""What is recorded of evaluations is what their naive twin finds, through disorder and crashes."""

from __future__ import annotations

import os

import pytest

from tests.oracle.evaluations import changes_difference, periods_difference

SEED = int(os.environ.get("SEED", "20"))


@pytest.mark.parametrize("crashing", [False, True], ids=["late events", "crashes"])
def test_conditions_become_true_and_clear_as_the_naive_twins_do(*, crashing: bool) -> None:
    """150 random trigger sets over random streams."""
    compared = 0
    for seed in range(SEED * 1_000, SEED * 1_000 + 150):
        changes, problem = changes_difference(seed, 400, crashing=crashing)
        assert problem is None, f"seed {seed}: {problem}"
        compared += changes
    assert compared > 1_000


@pytest.mark.parametrize("rows_max", [3, 1_000])
def test_the_nearest_accounts_of_every_minute_are_the_naive_twins(rows_max: int) -> None:
    """150 random trigger sets over random streams; with room for few, the nearest have it."""
    compared = 0
    for seed in range(SEED * 1_000, SEED * 1_000 + 150):
        rows, problem = periods_difference(seed, 400, rows_max)
        assert problem is None, f"seed {seed}: {problem}"
        compared += rows
    assert compared > 1_000
