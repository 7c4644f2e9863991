"""The publisher and the tail on a real broker."""

from __future__ import annotations

import asyncio

import pytest

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.adapters.kafka_topics import describe_topics, ensure_topics
from emergency_stop.domain.topics import TopicSpec
from emergency_stop.wire.registry import SchemaUnansweredError
from tests.integration.sdk_office import until

pytestmark = pytest.mark.needs("broker")


async def publish(broker: str, topic: str, *values: bytes) -> None:
    publisher = KafkaPublisher(broker, client_id="test")
    await publisher.start()
    for value in values:
        publisher.publish(topic, b"key", value)  # not awaited: stop() delivers
    await publisher.stop()


async def read_all(broker: str, topic: str, *, from_end: bool = False) -> tuple[CompactedTail, list[TailRecord]]:
    records: list[TailRecord] = []
    tail = CompactedTail(broker, topic, records.append, client_id="test-tail", from_end=from_end)
    await tail.start()
    await tail.caught_up()
    return tail, records


async def test_what_was_published_before_stop_is_delivered_in_order(broker: str) -> None:
    await ensure_topics(broker, [TopicSpec("ordered", None)])
    values = [str(number).encode() for number in range(500)]
    await publish(broker, "ordered", *values)
    tail, records = await read_all(broker, "ordered")
    assert [record.value for record in records] == values
    assert len({record.partition for record in records}) == 1
    await tail.stop()


async def test_a_tail_of_an_empty_topic_is_caught_up_and_follows(broker: str) -> None:
    await ensure_topics(broker, [TopicSpec("empty", None, compacted=True)])
    tail, records = await read_all(broker, "empty")
    assert records == []
    await publish(broker, "empty", b"later")
    await until(lambda: [record.value for record in records] == [b"later"], "the tail follows")
    await until(lambda: tail.silent_ms() < 5_000, "the broker answers")
    await tail.stop()


async def test_a_tail_from_the_end_hands_over_only_what_comes_after_it(broker: str) -> None:
    await ensure_topics(broker, [TopicSpec("commands", None)])
    await publish(broker, "commands", b"before")
    tail, records = await read_all(broker, "commands", from_end=True)
    await publish(broker, "commands", b"after")
    await until(lambda: records, "the tail follows")
    assert [record.value for record in records] == [b"after"]
    await tail.stop()


async def test_who_reads_up_has_all_that_was_acknowledged_before(broker: str) -> None:
    await ensure_topics(broker, [TopicSpec("states", None, compacted=True)])
    tail, records = await read_all(broker, "states")
    await tail.read_up()
    for number in range(1, 21):
        await publish(broker, "states", str(number).encode())
        await tail.read_up()
        assert len(records) == number
    await tail.stop()


async def test_a_record_that_its_reader_cannot_take_in_does_not_end_the_tail(broker: str) -> None:
    await ensure_topics(broker, [TopicSpec("poison", None)])
    seen: list[bytes | None] = []

    def take(record: TailRecord) -> None:
        if record.value == b"poison":
            raise RuntimeError("a bug")
        seen.append(record.value)

    tail = CompactedTail(broker, "poison", take, client_id="test-tail")
    await tail.start()
    await publish(broker, "poison", b"a", b"poison", b"b")
    await until(lambda: seen == [b"a", b"b"], f"the records around it are handed over once, not {seen}")
    await tail.stop()


async def test_a_record_that_nobody_can_read_yet_is_waited_for(broker: str) -> None:
    await ensure_topics(broker, [TopicSpec("unread", None, compacted=True)])
    seen: list[bytes | None] = []
    is_away = True

    def take(record: TailRecord) -> None:
        if is_away and record.value == b"new":
            raise SchemaUnansweredError("the registry is away")
        seen.append(record.value)

    await publish(broker, "unread", b"a", b"new", b"b")
    tail = CompactedTail(broker, "unread", take, client_id="test-tail")
    await tail.start()
    await until(lambda: tail.held_up_by, "the tail waits")
    assert (seen, tail.is_caught_up) == ([b"a"], False)
    is_away = False
    async with asyncio.timeout(30):
        await tail.caught_up()
    assert seen == [b"a", b"new", b"b"]
    await tail.stop()


async def test_topics_are_created_once_and_described(broker: str) -> None:
    specs = [TopicSpec("made-a", None, partitions=2), TopicSpec("made-b", None, compacted=True, partitions=1)]
    assert await ensure_topics(broker, specs) == ("made-a", "made-b")
    assert await ensure_topics(broker, specs) == ()
    found = await describe_topics(broker, ["made-a", "made-b", "absent"])
    assert {name: report.partitions for name, report in found.items()} == {"made-a": 2, "made-b": 1}
