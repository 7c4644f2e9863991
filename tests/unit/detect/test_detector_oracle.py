"""The detector's hits are its naive twin's, through disorder, stragglers and crashes between pages."""

from __future__ import annotations

import os
from collections.abc import Callable

from tests.oracle import changes, ranges, rule_streams
from tests.oracle.streams import campaign

SEED = int(os.environ.get("SEED", "20"))


def test_hits_equal_the_naive_twins_on_random_streams() -> None:
    """150 random trigger sets over random streams, killed and restored at random points."""
    compared = 0
    for comparison in campaign(SEED, 150, 400):
        assert comparison.problem() is None, f"seed {comparison.seed}"
        compared += len(comparison.wanted)
    assert compared > 1_000


def test_every_account_is_watched_by_the_triggers_that_are_meant_for_it() -> None:
    """Overrides, triggers of one account, and canaries with and without a stable version, through crashes."""
    assert _compared(ranges.difference, 100, 300) > 1_000


def test_rules_over_several_topics_fire_as_their_naive_twins_do() -> None:
    """Counts, shares, last values, arithmetic and silence, with ticks, through crashes."""
    assert _compared(rule_streams.difference, 60, 200) > 500


def test_triggers_that_change_while_it_runs_keep_what_they_should() -> None:
    """Triggers are added, edited and removed, canaries begin, move and end; the detector dies in between."""
    assert _compared(changes.difference, 100, 200) > 1_000


def _compared(difference: Callable[[int, int], tuple[int, str | None]], seeds: int, events: int) -> int:
    """How many hits were compared over so many seeds, of which none may differ."""
    compared = 0
    for seed in range(SEED * 1_000, SEED * 1_000 + seeds):
        hits, problem = difference(seed, events)
        assert problem is None, f"seed {seed}: {problem}"
        compared += hits
    return compared
