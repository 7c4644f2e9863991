"""What goes out behind decisions: kept until it is told, within bounds."""

from __future__ import annotations

import asyncio

import pytest

from emergency_stop.apps import lane_afterwards
from emergency_stop.apps.lane_afterwards import KEY, Afterwards
from emergency_stop.ports import Publish
from tests.unit.apps.logs_in_memory import Logs, Producer

NOTICES, HOLDS = "notices", "holds"


def notice(name: str, size: int = 1) -> Publish:
    return Publish(NOTICES, b"k", name.encode() * size)


class Told:
    """Afterwards on a producer, by a clock that stands still."""

    def __init__(self) -> None:
        self.logs, self.now_s = Logs(), 0.0
        self.producer = Producer(self.logs)
        self.afterwards = Afterwards(self.producer, {NOTICES}, lambda: self.now_s)

    async def records(self) -> list[tuple[bytes, bytes | None]]:
        await self.afterwards.wait()
        return self.afterwards.records()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setattr(lane_afterwards, "WAIT_S", 0.02)
    return Told()


async def test_only_records_of_its_topics_go_this_way(told: Told) -> None:
    hold = Publish(HOLDS, b"k", b"hold")
    assert list(told.afterwards.split([notice("1"), hold, notice("2")])) == [hold]
    assert list(told.afterwards.split([hold])) == [hold]
    assert await told.records() == []
    assert told.logs.values(NOTICES) == [b"1", b"2"]


async def test_what_is_not_told_in_a_moment_goes_on_record_once_and_off_it_when_it_is(told: Told) -> None:
    told.producer.cut(NOTICES)
    told.afterwards.split([notice("1")])
    ((key, value),) = await told.records()
    assert key == KEY
    assert value is not None
    assert await told.records() == [], "it says so already"
    told.producer.heal(NOTICES)
    while not told.logs.values(NOTICES):  # noqa: ASYNC110  (a state to poll, not an event)
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await told.records() == [(KEY, None)]


async def test_nobody_waits_a_second_time_while_something_is_stuck(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    told.producer.cut(NOTICES)
    told.afterwards.split([notice("1")])
    await told.records()
    monkeypatch.setattr(lane_afterwards, "WAIT_S", 3600)
    told.afterwards.split([notice("2")])
    async with asyncio.timeout(5):
        assert len(await told.records()) == 1


async def test_a_successor_tells_what_was_owed_and_what_was_refused_is_tried_again_later(told: Told) -> None:
    told.producer.refused.add(NOTICES)
    told.afterwards.split([notice("1")])
    ((_, value),) = await told.records()
    assert value is not None
    told.producer.refused.clear()
    await told.records()
    assert told.logs.values(NOTICES) == [], "not at once: a topic that is gone would be asked for all the time"

    successor = Told()
    successor.afterwards.restore(value)
    await successor.records()
    await successor.records()
    assert successor.logs.values(NOTICES) == [b"1"]

    told.now_s += lane_afterwards.RETRY_S
    await told.records()
    assert await told.records() == [(KEY, None)]
    assert told.logs.values(NOTICES) == [b"1"]


async def test_of_more_than_may_be_owed_the_newest_is_kept(told: Told) -> None:
    told.producer.refused.add(NOTICES)
    most = lane_afterwards.OWED_BYTES_MAX // 4
    for name in "abcdef":
        told.afterwards.split([notice(name, most)])
        await told.records()
    assert told.afterwards.lost == 3, "four would fit without their keys"
    told.producer.refused.clear()
    told.now_s += lane_afterwards.RETRY_S
    await told.records()
    await told.records()
    assert [value[:1] for value in told.logs.values(NOTICES) if value] == [b"d", b"e", b"f"]


async def test_a_topic_that_is_gone_is_owed_nothing(told: Told) -> None:
    told.producer.cut(NOTICES)
    told.afterwards.split([notice("1")])
    ((_, value),) = await told.records()
    assert value is not None
    without = Afterwards(told.producer, ())
    without.restore(value)
    assert without.records() == [(KEY, None)]
    assert without.lost == 1


async def test_a_producer_that_takes_no_more_is_given_no_more(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_afterwards, "UNDER_WAY_MAX", 2)
    told.producer.cut(NOTICES)
    for name in "abc":
        told.afterwards.split([notice(name)])
    ((_, value),) = await told.records()
    told.producer.heal(NOTICES)
    while len(told.logs.values(NOTICES)) < 2:  # noqa: ASYNC110  (a state to poll, not an event)
        await asyncio.sleep(0)
    await told.records()
    await told.records()
    assert sorted(filter(None, told.logs.values(NOTICES))) == [b"a", b"b", b"c"]
    assert value is not None
