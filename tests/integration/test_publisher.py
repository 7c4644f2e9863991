"""Many records in one call: in order, all acknowledged at its end, and an error is raised and not lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from emergency_stop.adapters.kafka import RECORDS_AT_ONCE, REQUEST_BYTES_MAX, KafkaPublisher
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.domain.topics import TopicSpec
from emergency_stop.ports import Publish
from emergency_stop.testing.brokers import EmbeddedBroker

pytestmark = pytest.mark.needs("broker")
TOPICS = ("one", "two")


@pytest.fixture
async def publisher(tmp_path: Path) -> AsyncIterator[KafkaPublisher]:
    with EmbeddedBroker(tmp_path) as broker:
        await ensure_topics(broker.bootstrap, [TopicSpec(name, None, partitions=2) for name in TOPICS])
        started = KafkaPublisher(broker.bootstrap, client_id="test")
        await started.start()
        yield started
        await started.stop()


async def read(publisher: KafkaPublisher, topic: str) -> dict[int, list[bytes | None]]:
    """Everything that is in ``topic`` now, by partition."""
    found: dict[int, list[bytes | None]] = {}

    def take(record: TailRecord) -> None:
        found.setdefault(record.partition, []).append(record.value)

    tail = CompactedTail(publisher._brokers, topic, take, client_id="test")
    await tail.start()
    await tail.caught_up()
    await tail.stop()
    return found


async def test_records_keep_their_order_beside_single_ones(publisher: KafkaPublisher) -> None:
    numbers = range(3 * RECORDS_AT_ONCE)
    before = publisher.publish("one", b"k", b"before", partition=0)
    many = publisher.publish_all([Publish(TOPICS[n % 2], b"k", b"%d" % n, partition=n // 2 % 2) for n in numbers])
    after = publisher.publish("one", b"k", b"after", partition=0)
    await many
    found = {topic: await read(publisher, topic) for topic in TOPICS}
    assert found["two"] == {part: [b"%d" % n for n in numbers if n % 2 and n // 2 % 2 == part] for part in (0, 1)}
    assert found["one"][1] == [b"%d" % n for n in numbers if n % 4 == 2]
    await before
    await after
    assert (await read(publisher, "one"))[0] == [b"before", *(b"%d" % n for n in numbers if n % 4 == 0), b"after"]


async def test_what_cannot_be_sent_is_raised_and_what_was_before_it_arrives(publisher: KafkaPublisher) -> None:
    too_large = bytes(REQUEST_BYTES_MAX + 1)
    records = [Publish("one", b"k", value, partition=0) for value in (b"first", too_large, b"never")]
    with pytest.raises(MessageSizeTooLargeError):
        await publisher.publish_all(records)
    await publisher.publish("one", b"k", b"later", partition=0)
    assert await read(publisher, "one") == {0: [b"first", b"later"]}


async def test_nothing_to_send_is_nothing_to_wait_for(publisher: KafkaPublisher) -> None:
    await publisher.publish_all([])
    assert await read(publisher, "one") == {}
