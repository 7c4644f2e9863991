"""When a process is past its bounds, drawn over time.

```
memory 110  ─────┐         ┌──┐
bound  100  ─ ─ ─│─ ─ ─ ─ ─│─ │─ ─ ─ ─ ─ ─ ─ ─ ─
calm    90  ─ ─ ─└─────────┘ ─└────────────────
over        ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓│ 30 s of calm
```
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emergency_stop.domain.usage import (
    CALM_MS,
    WINDOW_MS,
    Bounds,
    Crossing,
    Resource,
    Sample,
    Usage,
    observe,
)

BOUNDS = Bounds(cpu_percent_max=80.0, memory_bytes_max=100, processors=2.0)
STEP_MS = 1_000


def seen(samples: Sequence[Sample], bounds: Bounds = BOUNDS) -> tuple[Usage, list[Crossing]]:
    usage, found = Usage(), list[Crossing]()
    for sample in samples:
        usage, crossings = observe(usage, sample, bounds)
        found += crossings
    return usage, found


def memory(*values: int) -> list[Sample]:
    """A sample a second, the processor idle."""
    return [Sample(number * STEP_MS, 0.0, value) for number, value in enumerate(values)]


def busy(*processors: float) -> list[Sample]:
    """A sample a second; each second used so many processors."""
    total, found = 0.0, [Sample(0, 0.0, 0)]
    for number, share in enumerate(processors, start=1):
        total += share * STEP_MS
        found.append(Sample(number * STEP_MS, total, 0))
    return found


def test_memory_is_over_at_once_and_at_its_bound_it_is_not() -> None:
    assert not seen(memory(99, 100))[0].is_over()
    usage, crossings = seen(memory(99, 100, 101))
    assert usage.is_over(Resource.MEMORY)
    assert usage.is_over()
    assert not usage.is_over(Resource.CPU)
    assert crossings == [Crossing(Resource.MEMORY, is_over=True, used=101.0, bound=100.0)]


def test_it_is_over_until_it_was_calm_for_long_enough_without_a_break() -> None:
    seconds = CALM_MS // STEP_MS
    nearly = [101, *[90] * seconds, 91]
    usage, _ = seen(memory(*nearly))
    assert usage.is_over(Resource.MEMORY), "one sample above the calm level, a second before the end"
    usage, _ = seen(memory(*nearly, *[90] * seconds))
    assert usage.is_over(Resource.MEMORY)
    usage, crossings = seen(memory(*nearly, *[90] * (seconds + 1)))
    assert not usage.is_over()
    assert [one.is_over for one in crossings] == [True, False]


def test_a_use_that_wavers_around_the_bound_crosses_it_once() -> None:
    _, crossings = seen(memory(*[99, 101] * 200))
    assert len(crossings) == 1


@pytest.mark.parametrize(
    ("shares", "percent", "is_over"),
    [
        ([2.0] * 9, None, False),  # nobody knows before there is a whole window
        ([2.0] * 10, 200.0, True),
        ([1.6] * 10, 160.0, False),  # 80 % of two processors
        ([1.7] * 10, 170.0, True),
        ([2.0] * 5 + [0.0] * 5, 100.0, False),  # half of the window
        ([0.0] * 10 + [2.0] * 8, 160.0, False),
        ([0.0] * 10 + [2.0] * 9, 180.0, True),
        ([2.5] * 10, 250.0, True),
    ],
)
def test_processor_time_counts_over_the_window_and_of_all_processors(
    shares: list[float], percent: float | None, *, is_over: bool
) -> None:
    usage, _ = seen(busy(*shares))
    assert usage.cpu_percent == (None if percent is None else pytest.approx(percent))
    assert usage.is_over(Resource.CPU) is is_over


def test_clocks_that_round_do_not_make_more_than_all_processors() -> None:
    """So 100 % is a bound that is never exceeded."""
    assert not seen(busy(*[2.01] * 30), Bounds(100.0, 100, 2.0))[0].is_over()


def test_a_process_that_was_paused_has_not_used_what_it_did_before() -> None:
    samples = busy(*[2.0] * 12)
    late = Sample(samples[-1].at_ms + 60_000, samples[-1].cpu_ms, 0)
    usage, _ = seen([*samples, late])
    assert usage.cpu_percent == pytest.approx(0.0, abs=0.1)


def test_a_sample_that_is_not_newer_changes_nothing() -> None:
    usage, _ = seen(memory(50, 50))
    for at_ms in (0, 1_000):
        assert observe(usage, Sample(at_ms, 9e9, 9_000), BOUNDS) == (usage, ())


def test_what_was_over_lately_is_known_for_a_while_and_then_not() -> None:
    assert not seen(memory(50))[0].was_over(10**9)
    seconds = CALM_MS // STEP_MS
    calm, _ = seen(memory(101, *[50] * (seconds + 6)))
    assert not calm.is_over()
    # over until a second before the calm was long enough
    assert calm.was_over(6 * STEP_MS)
    assert not calm.was_over(5 * STEP_MS)


def naive_over(values: Sequence[float], bound: float) -> list[bool]:
    """By the words of the module, looking back from every second."""
    found: list[bool] = []
    for at in range(len(values)):
        calm_since = 1 + max((n for n in range(at + 1) if values[n] > 0.9 * bound), default=-1)
        if found and found[-1]:
            found.append(calm_since > at or (at - calm_since) * STEP_MS < CALM_MS)
        else:
            found.append(values[at] > bound)
    return found


@given(st.lists(st.sampled_from([0, 50, 89, 90, 91, 100, 101, 200]), max_size=150))
def test_it_agrees_with_a_naive_reading_of_the_rule(values: list[int]) -> None:
    usage, found = Usage(), list[bool]()
    for sample in memory(*values):
        usage, _ = observe(usage, sample, BOUNDS)
        found.append(usage.is_over(Resource.MEMORY))
    assert found == naive_over([float(value) for value in values], 100.0)


@given(st.lists(st.tuples(st.integers(1, 4_000), st.floats(0, 1)), min_size=1, max_size=60))
def test_the_window_is_never_shorter_than_it_says_nor_longer_than_it_must(steps: list[tuple[int, float]]) -> None:
    at_ms, cpu_ms, samples = 0, 0.0, [Sample(0, 0.0, 0)]
    for step_ms, share in steps:
        at_ms, cpu_ms = at_ms + step_ms, cpu_ms + share * step_ms
        samples.append(Sample(at_ms, cpu_ms, 0))
    usage, _ = seen(samples)
    old = [one for one in samples if at_ms - one.at_ms >= WINDOW_MS]
    assert usage.samples[0] == (old[-1] if old else samples[0])
    wanted = 100.0 * (cpu_ms - old[-1].cpu_ms) / (at_ms - old[-1].at_ms) if old else None
    assert usage.cpu_percent == (None if wanted is None else pytest.approx(wanted, abs=1e-6))
