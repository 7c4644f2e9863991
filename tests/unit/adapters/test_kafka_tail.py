"""A tail looks for new partitions now and then; a broker that is away for a moment must not cost it its connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from emergency_stop.adapters.kafka_sign_in import KafkaSignInError
from emergency_stop.adapters.kafka_tail import REBUILD_AFTER_MS, RESCAN_MS, RETRY_MS, CompactedTail, TailRecord
from emergency_stop.wire.registry import SchemaUnansweredError


class Tail(CompactedTail):
    """Asked by hand; the broker answers with ``found``, or is away."""

    def __init__(
        self, found: set[int] | None, silent_ms: int, take: Callable[[TailRecord], None] = lambda _: None
    ) -> None:
        super().__init__("127.0.0.1:9", "estop.holds", take, client_id="test")
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


@dataclass(frozen=True)
class Record:
    """As aiokafka hands one over."""

    offset: int
    partition: int = 0
    key: bytes = b"key"
    value: bytes = b"value"
    timestamp: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


class OneBatch(SilentConsumer):
    """Gives ``count`` records at once, and waits for ever for more."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self._records = [Record(offset) for offset in range(count)]

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition("estop.holds", 0)}

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[Any]]:
        given, self._records = self._records, []
        if not given:
            await asyncio.Event().wait()
        return {TopicPartition("estop.holds", 0): given}

    async def position(self, _: TopicPartition) -> int:
        return self._ends[0]

    def last_poll_timestamp(self, _: TopicPartition) -> int:
        return 0


class Taker:
    """Keeps the offsets that it takes; ``problem`` is what is wrong with offset 1, while something is."""

    def __init__(self, problem: Exception | None) -> None:
        self.problem = problem
        self.offsets: list[int] = []
        self.refused = 0

    def take(self, record: TailRecord) -> None:
        if record.offset == 1 and self.problem is not None:
            self.refused += 1
            raise self.problem
        self.offsets.append(record.offset)


async def test_a_record_that_nobody_can_read_yet_is_handed_over_again_and_none_overtakes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("emergency_stop.adapters.kafka_tail.RETRY_MS", 1)
    taker = Taker(SchemaUnansweredError("the registry is away"))
    tail = Tail({0}, 0, taker.take)
    following = asyncio.create_task(tail._follow(OneBatch(3)))
    await until(lambda: taker.refused > 3)
    assert (taker.offsets, tail.is_caught_up) == ([0], False)
    assert tail.held_up_by == "offset 1 of partition 0 cannot be read yet: the registry is away"
    taker.problem = None
    await until(lambda: tail.is_caught_up)
    assert (taker.offsets, tail.held_up_by) == ([0, 1, 2], "")
    following.cancel()


async def test_after_a_lost_connection_it_is_still_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emergency_stop.adapters.kafka_tail.RETRY_MS", 1)
    taker = Taker(SchemaUnansweredError("the registry is away"))
    tail = Tail({0}, 0, taker.take)
    following = asyncio.create_task(tail._follow(OneBatch(3)))
    await until(lambda: taker.refused > 0)
    following.cancel()
    assert tail._next == {0: 1}


async def test_what_nobody_will_ever_take_does_not_keep_the_rest() -> None:
    taker = Taker(RuntimeError("a defect"))
    tail = Tail({0}, 0, taker.take)
    with pytest.raises(RuntimeError):
        await tail._follow(OneBatch(3))
    assert tail._next == {0: 2}, "it goes on behind it"


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_true():  # noqa: ASYNC110  # what is waited for has no event
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
