"""Freshness: up to which moment everything that existed was applied; and blindness: standing still before the end."""

from __future__ import annotations

import random

from emergency_stop.apps.lane_progress import LaneProgress, TopicProgress

TOPIC = "telemetry.health"


def noted(*looks: tuple[int, int, int]) -> TopicProgress:
    """(time, position, end) of each look."""
    one = TopicProgress(moved_at_ms=looks[0][0])
    for at_ms, position, end in looks:
        one.note(position, end, steady_ms=at_ms, wall_ms=1_000_000 + at_ms)
    return one


def test_under_load_that_never_pauses_freshness_is_one_look_behind() -> None:
    """
    ```
    look      t=0   t=3   t=6
    end       100   200   300
    position   90   190   290     never at the end, but past the end of the look before
    ```
    """  # noqa: D212  (a drawing)
    one = noted((0, 90, 100), (3_000, 190, 200), (6_000, 290, 300))
    assert one.fresh_at_ms == 1_003_000
    assert one.still_ms(6_500) == 500


def test_at_the_end_it_is_fresh_as_of_now_however_long_nothing_came() -> None:
    one = noted((0, 5, 5), (3_000, 5, 5), (6_000, 5, 5))
    assert one.fresh_at_ms == 1_006_000
    assert one.still_ms(6_000) == 0


def test_a_catch_up_moves_and_is_stale_all_the_same() -> None:
    one = noted((0, 0, 1_000), (3_000, 100, 2_000), (6_000, 200, 3_000))
    assert one.fresh_at_ms == 0
    assert one.still_ms(6_000) == 0
    one.note(1_000, 4_000, steady_ms=9_000, wall_ms=1_009_000)
    assert one.fresh_at_ms == 1_000_000


def test_standing_still_before_the_end_counts_from_the_last_move() -> None:
    one = noted((0, 10, 10), (3_000, 10, 20), (6_000, 10, 20), (9_000, 10, 20))
    assert one.still_ms(9_000) == 9_000
    assert one.fresh_at_ms == 1_000_000


def test_freshness_never_claims_what_was_not_applied() -> None:
    """Random appends and applications: everything that existed at ``fresh_at`` is applied."""
    rng = random.Random(0)
    for _ in range(200):
        one, end, position, ends = TopicProgress(0), 0, 0, dict[int, int]()
        for at_ms in range(100, 3_000, 100):
            end += rng.randrange(5)
            position = min(end, position + rng.randrange(6))
            ends[at_ms] = end
            one.note(position, end, steady_ms=at_ms, wall_ms=at_ms)
            assert ends.get(one.fresh_at_ms, 0) <= position
        one.note(end, end, steady_ms=3_000, wall_ms=3_000)
        assert one.fresh_at_ms == 3_000


def test_partitions_that_leave_are_forgotten_and_a_rebalance_is_no_blindness() -> None:
    lane = LaneProgress()
    lane.keep([0, 1], [TOPIC], 0)
    assert lane.blind(2_001, 2_000) == (0, 1)
    lane.forgive(2_001)
    assert lane.blind(2_001, 2_000) == ()
    lane.keep([1, 2], [TOPIC], 3_000)
    assert lane.blind(4_500, 2_000) == (1,)
    assert lane.of(0, TOPIC) is None
    assert sorted(lane.freshness()) == [1, 2]


def test_several_topics_are_as_fresh_as_the_oldest_of_them() -> None:
    progress = LaneProgress()
    progress.keep([1], ("a", "b", "c"), 0)
    for name, wall_ms in (("a", 500), ("b", 400)):
        one = progress.of(1, name)
        assert one is not None
        one.note(7, 7, steady_ms=0, wall_ms=wall_ms)
    assert progress.fresh_at(1, ("a", "b")) == 400
    assert progress.fresh_at(1, ("a", "b", "c")) == 0, "nobody looked yet"
    assert progress.fresh_at(2, ("a",)) == 0, "another's partition"
