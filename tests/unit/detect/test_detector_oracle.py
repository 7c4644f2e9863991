"""The detector's hits are its naive twin's, through disorder, stragglers and crashes between pages."""

from __future__ import annotations

import os

from tests.oracle.streams import campaign

SEED = int(os.environ.get("SEED", "20"))


def test_hits_equal_the_naive_twins_on_random_streams() -> None:
    """150 random trigger sets over random streams, killed and restored at random points."""
    compared = 0
    for comparison in campaign(SEED, 150, 400):
        assert comparison.problem() is None, f"seed {comparison.seed}"
        compared += len(comparison.wanted)
    assert compared > 1_000
