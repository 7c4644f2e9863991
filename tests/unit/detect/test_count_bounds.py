"""Counts end at their bounds: no window over many accounts, and no part that anybody wrote, makes them start over."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest

from emergency_stop.detect.across import put_together
from emergency_stop.detect.series import Aggregate, Series
from emergency_stop.detect.window_kernels import EMPTY, SAMPLES_MAX, WIDE_CELLS, WIDE_MAX
from emergency_stop.detect.windows import SeriesState
from emergency_stop.domain.topics import TELEMETRY_HEALTH, TELEMETRY_PLATFORM
from tests.oracle.naive_panes import PANES, Part, together

SEED = int(os.environ.get("SEED", "8"))
START = 1_700_000_000_000
WINDOW_MS = 60_000
PANED = (Aggregate.AVG, Aggregate.SUM, Aggregate.MAX, Aggregate.MIN, Aggregate.TALLY)
#: Where a count of a pane may stand.
COUNTS = (0, 1, 7, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)


def paned(aggregate: Aggregate) -> Series:
    return Series(TELEMETRY_HEALTH, aggregate, "health_score", (), WINDOW_MS)


def random_part(rng: random.Random, pane_ms: int) -> Part:
    newest = START + rng.randrange(2 * WINDOW_MS)
    last = newest // pane_ms
    panes = {pane: (float(rng.randint(-9, 9)), rng.choice(COUNTS)) for pane in range(last - PANES + 1, last + 1)}
    return Part(newest, panes)


def row_of(part: Part, empty: float) -> bytes:
    """The part as its partition writes it, by a wide row."""
    row = np.zeros(WIDE_CELLS, np.int64)
    row[0] = part.newest - EMPTY
    for pane, (value, count) in part.panes.items():
        row.view(np.float64)[1 + pane % PANES] = value if count else empty
        row.view(np.uint32)[2 * (1 + PANES) + pane % PANES] = count
    return row.tobytes()


@pytest.mark.parametrize("aggregate", PANED, ids=[one.name for one in PANED])
def test_parts_with_counts_at_their_bounds_add_up_as_the_naive_ones(aggregate: Aggregate) -> None:
    rng, series = random.Random(SEED), paned(aggregate)
    empty = {Aggregate.MAX: -np.inf, Aggregate.MIN: np.inf}.get(aggregate, 0.0)
    at_bound = 0
    for _ in range(300):
        parts = [random_part(rng, series.pane_ms) for _ in range(rng.randint(1, 5))]
        folded, _ = put_together(series, [row_of(part, empty) for part in parts])
        value, samples = together(aggregate.name.lower(), series.pane_ms, parts)
        assert (float(folded.value[0]), int(folded.samples[0])) == (value, samples), f"seed {SEED}: {parts}"
        at_bound += samples == SAMPLES_MAX
    assert at_bound > 100


def test_a_pane_that_is_full_takes_further_samples_without_counting_them() -> None:
    series = paned(Aggregate.SUM)
    state = SeriesState(series)
    state.table.ensure(1)
    state._widen()
    place = START // series.pane_ms % PANES
    state.table.rows[0, 0] = START - EMPTY
    counts = state.table.rows.view(np.uint32)[0]
    counts[2 * (1 + PANES) + place] = WIDE_MAX - 1
    slots, moments = np.zeros(3, np.int32), np.full(3, START, np.int64)
    folded = state._run(slots, moments, np.array((1.0, 2.0, 3.0)))
    assert counts[2 * (1 + PANES) + place] == WIDE_MAX
    assert folded.value.tolist() == [1.0, 3.0, 6.0]
    assert folded.samples.tolist() == [SAMPLES_MAX] * 3


def test_a_run_of_more_events_than_can_be_told_tells_as_many_as_can() -> None:
    state = SeriesState(Series(TELEMETRY_PLATFORM, Aggregate.ACTIVE, "kind", (), WINDOW_MS))
    state.table.ensure(1)
    state.table.rows[0] = (START - EMPTY, START - EMPTY, 2**31 - 2)
    slots, moments = np.zeros(2, np.int32), np.array((START + 1, START + 2), np.int64)
    folded = state._run(slots, moments, None)
    assert folded.samples.tolist() == [SAMPLES_MAX, SAMPLES_MAX]
    assert folded.value.tolist() == [1.0, 2.0]
