"""Which frozen ranges count, and what of the waiting records is one range."""

from __future__ import annotations

import pytest

from emergency_stop.adapters.sink_ledger import FrozenRange
from emergency_stop.apps.sink.intake import Intake
from emergency_stop.apps.sink.ranges import Place, Waiting, still_pending

HERE = Place("telemetry.health", 0)


def frozen(first: int, following: int, claim: int = 1) -> FrozenRange:
    return FrozenRange(*HERE, first, following, claim)


def intake(first: int, following: int) -> Intake:
    made = Intake(*HERE, first, following)
    made.add(1, b"r" * (following - first), following - first)
    return made


def taken(waiting: Waiting) -> list[tuple[int, int]]:
    return [(one.fetch_offset, one.next_offset) for one in waiting.take()[0]]


def feed(waiting: Waiting, start: int, stop: int) -> None:
    for first, following in waiting.cut(HERE, start, stop):
        waiting.add(intake(first, following))


@pytest.mark.parametrize(
    ("ranges", "position", "pending"),
    [
        # frozen                                          rows up to   counts
        ([],                                              0,           []),
        ([frozen(0, 100)],                                0,           [(0, 100)]),
        ([frozen(0, 100)],                                100,         []),
        ([frozen(0, 100)],                                98,          []),           # its last two had no rows
        ([frozen(0, 100), frozen(100, 180)],              100,         [(100, 180)]),
        ([frozen(0, 100), frozen(100, 180)],              0,           [(0, 100), (100, 180)]),
        ([frozen(0, 100, 1), frozen(0, 150, 2)],          0,           [(0, 150)]),   # the former claim gave it up
        ([frozen(120, 180, 1), frozen(100, 150, 2)],      100,         [(100, 150)]),
        ([frozen(0, 90, 2), frozen(90, 120, 3), frozen(80, 130, 1)], 80, [(90, 120)]),
        ([frozen(130, 180)],                              100,         [(130, 180)]),  # 100 to 129 were deleted
    ],
)  # fmt: skip
def test_ranges_that_were_interrupted(ranges: list[FrozenRange], position: int, pending: list[tuple[int, int]]) -> None:
    found = still_pending(ranges, position)
    assert [(one.first_offset, one.next_offset) for one in found] == pending
    assert found == still_pending(reversed(ranges), position)


def test_without_frozen_ranges_all_that_waits_is_one_range() -> None:
    waiting = Waiting()
    feed(waiting, 0, 40)
    feed(waiting, 40, 70)
    assert waiting.size == 70
    assert taken(waiting) == [(0, 70)]
    assert (waiting.size, bool(waiting)) == (0, False)


def test_a_frozen_range_is_repeated_with_its_own_bounds() -> None:
    """What was fetched does not matter.

    ``` text
     fetched   |----60----|------------------|
     frozen            |==50 ... 100==|
     ranges    |--50--|               |--130-|
    ```
    """
    waiting = Waiting()
    waiting.reset([frozen(50, 100)])
    feed(waiting, 0, 60)
    assert taken(waiting) == [(0, 50)]
    assert taken(waiting) == []  # not all of it is here
    assert waiting.size == 10
    feed(waiting, 60, 130)
    intakes, repeated = waiting.take()
    assert [(one.fetch_offset, one.next_offset, one.counts[1]) for one in intakes] == [(50, 100, 50)]
    assert repeated == {HERE}
    assert taken(waiting) == [(100, 130)]
    assert waiting.size == 0


def test_what_the_broker_has_deleted_of_a_frozen_range_does_not_change_its_bounds() -> None:
    waiting = Waiting()
    waiting.reset([frozen(0, 100), frozen(100, 120)])
    feed(waiting, 60, 100)
    assert taken(waiting) == [(0, 100)]
    feed(waiting, 150, 160)  # and nothing is left of the second one
    intakes, repeated = waiting.take()
    assert [(one.fetch_offset, one.next_offset) for one in intakes] == [(150, 160)]
    assert not repeated


def test_partitions_do_not_wait_for_each_other() -> None:
    waiting, other = Waiting(), Place("telemetry.health", 1)
    waiting.reset([frozen(0, 100)])
    feed(waiting, 0, 50)
    for first, following in waiting.cut(other, 0, 9):
        waiting.add(Intake(*other, first, following))
    intakes, _ = waiting.take()
    assert [(one.partition, one.fetch_offset, one.next_offset) for one in intakes] == [(1, 0, 9)]
