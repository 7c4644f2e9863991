"""The detector's hits are its naive twin's, through disorder, stragglers and crashes between pages."""

from __future__ import annotations

import os

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
    compared = 0
    for number in range(100):
        hits, problem = ranges.difference(SEED * 1_000 + number, 300)
        assert problem is None, f"seed {SEED * 1_000 + number}: {problem}"
        compared += hits
    assert compared > 1_000


def test_rules_over_several_topics_fire_as_their_naive_twins_do() -> None:
    """Counts, shares, last values, arithmetic and silence, with ticks, through crashes."""
    compared = 0
    for number in range(60):
        hits, problem = rule_streams.difference(SEED * 1_000 + number, 200)
        assert problem is None, f"seed {SEED * 1_000 + number}: {problem}"
        compared += hits
    assert compared > 500


def test_triggers_that_change_while_it_runs_keep_what_they_should() -> None:
    """Triggers are added, edited and removed, canaries begin, move and end; the detector dies in between."""
    compared = 0
    for number in range(100):
        hits, problem = changes.difference(SEED * 1_000 + number, 200)
        assert problem is None, f"seed {SEED * 1_000 + number}: {problem}"
        compared += hits
    assert compared > 1_000
