"""A tail looks for new partitions now and then; a broker that is away for a moment must not cost it its connections."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from emergency_stop.adapters.kafka_sign_in import KafkaSignInError
from emergency_stop.adapters.kafka_tail import REBUILD_AFTER_MS, RESCAN_MS, RETRY_MS, CompactedTail


class Tail(CompactedTail):
    """Asked by hand; the broker answers with ``found``, or is away."""

    def __init__(self, found: set[int] | None, silent_ms: int) -> None:
        super().__init__("127.0.0.1:9", "estop.holds", lambda _: None, client_id="test")
        self._found = found
        self._progress = time.monotonic() - silent_ms / 1000

    async def _assign(self, consumer: Any, known: set[int]) -> set[int]:
        if self._found is None:
            raise KafkaError("nobody answers")
        return self._found


async def test_new_partitions_are_taken_over() -> None:
    assert await Tail({0, 1}, 0)._rescan(None, {0}) == ({0, 1}, RESCAN_MS)


async def test_a_broker_that_is_away_for_a_moment_is_waited_for_with_what_is_known() -> None:
    assert await Tail(None, REBUILD_AFTER_MS // 2)._rescan(None, {0}) == ({0}, RETRY_MS)


async def test_one_that_stays_away_is_looked_for_at_the_bootstrap_addresses() -> None:
    with pytest.raises(KafkaError):
        await Tail(None, REBUILD_AFTER_MS + 1_000)._rescan(None, {0})


class SilentConsumer:
    """Knows the ends of the two partitions, and waits for ever for records."""

    def __init__(self, *ends: int) -> None:
        self._ends = dict(enumerate(ends))

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {one: self._ends[one.partition] for one in partitions}

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[Any]]:
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize(("ends", "is_caught_up"), [((0, 0), True), ((0, 1), False)])
async def test_who_follows_a_topic_that_never_had_a_record_waits_for_none(
    ends: tuple[int, ...], is_caught_up: bool
) -> None:
    tail = Tail({0, 1}, 0)
    following = asyncio.create_task(tail._follow(SilentConsumer(*ends)))
    for _ in range(5):  # turns of the loop, of which following needs three until it waits
        await asyncio.sleep(0)
    assert tail.is_caught_up == is_caught_up
    following.cancel()


class Ends:
    """A consumer that tells the ends it is given, one after the other, and from then on the last."""

    def __init__(self, *ends: int) -> None:
        self._ends = list(ends)

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition("estop.holds", 0)}

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self._ends.pop(0) if len(self._ends) > 1 else self._ends[0])


async def test_who_reads_up_waits_for_the_broker_and_for_the_last_record() -> None:
    tail = Tail({0}, 0)
    reading = asyncio.create_task(tail.read_up())
    await asyncio.sleep(0)
    assert not reading.done(), "nobody knows the end"
    tail._consumer = Ends(3)
    tail._next[0] = 2
    tail._turn()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not reading.done(), "one record is missing"
    tail._next[0] = 3
    tail._turn()
    async with asyncio.timeout(10):
        await reading


async def test_the_end_of_a_topic_that_was_made_anew_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emergency_stop.adapters.kafka_tail.RESCAN_MS", 1)
    tail = Tail({0}, 0)
    tail._consumer, tail._next[0] = Ends(1_000, 2), 2
    reading = asyncio.create_task(tail.read_up())
    async with asyncio.timeout(10):
        while not reading.done():
            tail._turn()
            await asyncio.sleep(0.001)


async def test_who_asks_for_it_is_told_that_brokers_refuse_and_others_wait_on() -> None:
    tail = Tail({0}, 0)
    patient = asyncio.create_task(tail.caught_up())
    asking = asyncio.create_task(tail.caught_up(or_refused=True))
    await asyncio.sleep(0)
    tail._note_refusal(KafkaError("nobody answers"))
    await asyncio.sleep(0)
    assert not asking.done(), "a broker that is away is no refusal"
    tail._note_refusal(KafkaSignInError("no such user"))
    async with asyncio.timeout(10):
        with pytest.raises(KafkaSignInError, match="no such user"):
            await asking
    assert not patient.done()
    tail._caught_up.set()
    async with asyncio.timeout(10):
        await patient
        await tail.caught_up(or_refused=True)
