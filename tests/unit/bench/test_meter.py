"""The meter of the benchmarks: what it calls the whole, and what it calls warm."""

from __future__ import annotations

import pytest

from tests.bench.meter import Meter, Reading


def test_the_warm_part_begins_where_half_of_the_events_were_first_seen(capsys: pytest.CaptureFixture[str]) -> None:
    meter = Meter(1_000)
    meter.start()
    for seen in (100, 499, 620, 1_000):
        meter.note(seen)
        sum(range(20_000))  # something to measure
    meter.stop()
    reading = Reading.from_line(capsys.readouterr().out)
    assert (reading.events, reading.warm_events) == (1_000, 380)
    assert 0 <= reading.warm_wall_s <= reading.wall_s
    assert 0 <= reading.warm_cpu_s <= reading.cpu_s
    assert reading.peak_rss_mb > 1


def test_a_second_start_changes_nothing_and_a_stop_before_the_middle_is_refused() -> None:
    meter = Meter(10)
    with pytest.raises(RuntimeError, match="before it had seen a start"):
        meter.stop()
    meter.start()
    meter.note(4)
    meter.start()
    with pytest.raises(RuntimeError, match="half of the events"):
        meter.stop()


def test_rates_are_per_second_of_the_cpu_of_their_part() -> None:
    reading = Reading(
        events=100, wall_s=9.0, cpu_s=4.0, peak_rss_mb=1.0, warm_events=60, warm_wall_s=5.0, warm_cpu_s=2.0
    )
    assert (reading.per_cpu_s, reading.warm_per_cpu_s) == (25.0, 30.0)
