"""Hearing what happens: who gets which event, once each, and what a slow or broken listener costs the others."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Lifecycle
from emergency_stop.domain.values import LifecycleKind
from emergency_stop.sdk.events import IDS_MAX, WAITING_MAX, EventStream, LifecycleEvents
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry

CODEC = Codec(LocalRegistry())
OFFSETS = itertools.count()
STARTED, COMPLETED = LifecycleKind.EMERGENCY_STARTED, LifecycleKind.EMERGENCY_COMPLETED


def event(event_id: str, kind: LifecycleKind = STARTED, account: str = "a") -> Lifecycle:
    return Lifecycle(event_id, kind, 1_000, f"account:{account}", account, "corr", "why")


def record(value: bytes | None) -> TailRecord:
    return TailRecord(b"account:a", value, 0, next(OFFSETS), 0)


class Events(LifecycleEvents):
    """Fed by hand instead of by a broker."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1:9", from_start=True)

    def hear(self, *events: Lifecycle) -> None:
        for one in events:
            self._take(record(CODEC.encode(one, topics.LIFECYCLE)))


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def taken(stream: EventStream) -> list[str]:
    return [(await anext(stream)).event_id for _ in range(len(stream))]


async def test_a_handler_gets_its_events_in_order_and_each_once() -> None:
    heard: list[str] = []
    events = Events()
    events.on("emergencyStarted", lambda one: heard.append(one.event_id))
    async with events:
        events.hear(event("1"), event("2", COMPLETED), event("3"), event("1"))
        await settled()
    assert heard == ["1", "3"]
    assert (events.stats.received, events.stats.repeated) == (3, 1)


@pytest.mark.parametrize(
    ("names", "filters", "wanted"),
    [
        ((), {}, ["1", "2", "3"]),
        (("emergencyCompleted",), {}, ["2"]),
        ((STARTED, COMPLETED), {"account_id": "a"}, ["1", "2"]),
        ((), {"scope": "account:b"}, ["3"]),
    ],
)
async def test_a_stream_is_filtered_by_event_scope_and_account(
    names: tuple[str, ...], filters: dict[str, Any], wanted: list[str]
) -> None:
    events = Events()
    stream = events.stream(*names, **filters)
    events.hear(event("1"), event("2", COMPLETED), event("3", account="b"))
    assert await taken(stream) == wanted


@pytest.mark.parametrize("call", ["on", "stream"])
def test_an_unknown_event_is_refused_with_the_nearest_name(call: str) -> None:
    events = Events()
    with pytest.raises(ValueError, match="did you mean 'emergencyStarted'"):
        getattr(events, call)("emergencyStartet", *([print] if call == "on" else []))
    with pytest.raises(ValueError, match="is not one of: global"):
        events.stream(scope="everything")


async def test_a_handler_that_raises_is_called_for_the_next_event_and_disturbs_nobody() -> None:
    heard: list[str] = []

    async def broken(one: Lifecycle) -> None:
        await asyncio.sleep(0)
        raise RuntimeError(one.event_id)

    async with Events() as events:
        events.on(STARTED, broken)
        events.on(STARTED, lambda one: heard.append(one.event_id))
        events.hear(event("1"), event("2"))
        await settled()
        assert heard == ["1", "2"]
        assert events.stats.failed == 2


async def test_one_that_was_taken_off_hears_no_more() -> None:
    heard: list[str] = []
    async with Events() as events:
        off = events.on(STARTED, lambda one: heard.append(one.event_id))
        events.hear(event("1"))
        await settled()
        off()
        events.hear(event("2"))
        await settled()
    assert heard == ["1"]


async def test_what_is_no_event_is_counted_and_skipped() -> None:
    events = Events()
    stream = events.stream()
    for value in (None, b"", b"\0\0\0\0\7", CODEC.encode(event("1"), topics.LIFECYCLE)[:-3]):
        events._take(record(value))
    events.hear(event("1"))
    assert await taken(stream) == ["1"]
    assert events.stats.unreadable == 4


async def test_no_more_is_fetched_while_somebody_is_behind_and_nothing_is_dropped() -> None:
    events = Events()
    slow, quick = events.stream(), events.stream()
    events.hear(*(event(str(number)) for number in range(WAITING_MAX)))
    assert await taken(quick)
    waiting = asyncio.create_task(events._room())
    await settled()
    assert not waiting.done()
    assert (await anext(slow)).event_id == "0"
    async with asyncio.timeout(5):
        await waiting
    assert len(slow) == WAITING_MAX - 1


async def test_a_loop_that_was_left_keeps_nobody_waiting() -> None:
    events = Events()
    events._is_running = True

    async def first() -> str:
        async for one in events:
            return one.event_id
        return "nothing"

    looking = asyncio.create_task(first())
    await settled()
    events.hear(*(event(str(number)) for number in range(WAITING_MAX + 1)))
    async with asyncio.timeout(5):
        assert await looking == "0"
        await events._room()


async def test_a_stream_ends_behind_what_it_has() -> None:
    events = Events()
    stream = events.stream()
    events.hear(event("1"))
    await events.stop()
    assert [one.event_id async for one in stream] == ["1"]


def test_the_memory_of_ids_is_bounded() -> None:
    events = Events()
    events._ids.update(dict.fromkeys(map(str, range(IDS_MAX))))
    events.hear(event("new"))
    assert len(events._ids) == IDS_MAX
    assert "0" not in events._ids
