"""Standby copies on a real broker: a takeover that reads only the tail restores what a full read restores."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.adapters.state_log import StateCopy, StateLog, read_state
from emergency_stop.adapters.state_standby import StandbyReader
from emergency_stop.domain.topics import TopicSpec
from emergency_stop.testing.brokers import ApacheKafka
from tests.integration.counting_worker import Names, lane_worker

pytestmark = pytest.mark.needs("java", "maven")
PARTITIONS = 2
NUMBERS = itertools.count(1)
DEADLINE_S = 90


class Office:
    """A state topic, who writes it, and a reader that keeps copies."""

    def __init__(self, brokers: str, topic: str, publisher: KafkaPublisher, standby: StandbyReader) -> None:
        self.brokers, self.topic, self.publisher, self.standby = brokers, topic, publisher, standby

    async def owner(self, partition: int, generation: int) -> StateLog:
        restored = await read_state(self.brokers, self.topic, partition, client_id="office")
        return StateLog(self.publisher, self.topic, partition, generation, restored)

    async def copied(self, partition: int, offset: int) -> StateCopy:
        await until(lambda: (copy := self.standby.lend(partition)) is not None and copy.next_offset >= offset)
        found = self.standby.lend(partition)
        assert found is not None
        return found


@asynccontextmanager
async def office(brokers: str, bytes_max: int = 1 << 20) -> AsyncIterator[Office]:
    topic = f"standby-{next(NUMBERS)}"
    await ensure_topics(brokers, [TopicSpec(topic, None, compacted=True, partitions=PARTITIONS)])
    publisher = KafkaPublisher(brokers, client_id="office")
    await publisher.start()
    standby = StandbyReader(brokers, topic, client_id="standby", bytes_max=bytes_max)
    reading = asyncio.create_task(standby.run())
    try:
        yield Office(brokers, topic, publisher, standby)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await publisher.stop()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():  # noqa: ASYNC110  (a state to poll, not an event)
            await asyncio.sleep(0.02)


async def test_a_takeover_from_a_copy_equals_one_from_the_whole_log(apache_kafka: ApacheKafka) -> None:
    """The first owner is replaced, and goes on writing as a zombie after its successor has tidied up.

    ```
    owner 1   a=1 b=1 pos=5 ─────────── zombie: a=zombie pos=9
    owner 2              a=2 b removed pos=7
    copy      ...........................|taken here     ^ read as the tail
    ```
    """
    async with office(apache_kafka.bootstrap) as here:
        here.standby.follow_all_but(())
        first = await here.owner(0, 1)
        await first.write_records([(b"a", b"1"), (b"b", b"1")])
        await first.write_positions({"t": 5})
        second = await here.owner(0, 2)
        await second.write_records([(b"a", b"2"), (b"b", None)])
        await second.write_positions({"t": 7})
        copy = await here.copied(0, 6)
        here.standby.follow_all_but((0,))
        await first.write_records([(b"a", b"zombie")])
        await first.write_positions({"t": 9})

        known = copy.next_offset
        warm = await read_state(here.brokers, here.topic, 0, client_id="warm", copy=copy)
        cold = await read_state(here.brokers, here.topic, 0, client_id="cold")
        assert copy.next_offset > known
        assert warm == cold
        assert (warm.records, warm.positions) == ({b"a": b"2"}, {"t": 7})


async def test_ownership_that_comes_and_goes_leaves_a_sound_copy(apache_kafka: ApacheKafka) -> None:
    """A restore that is cancelled leaves the copy; one that ended lets it go, and losing the partition begins anew."""
    async with office(apache_kafka.bootstrap) as here:
        here.standby.follow_all_but(())
        owner = await here.owner(1, 1)
        await owner.write_records([(b"a", b"1")])
        lent = await here.copied(1, 1)
        here.standby.follow_all_but((1,))
        await owner.write_records([(b"a", b"2"), (b"c", b"1")])
        here.standby.follow_all_but(())
        assert await here.copied(1, 3) is lent
        here.standby.follow_all_but((1,))
        here.standby.forget(1)
        assert here.standby.lend(1) is None
        here.standby.follow_all_but(())
        anew = await here.copied(1, 3)
        assert anew.restored().records == {b"a": b"2", b"c": b"1"}


async def test_what_exceeds_the_bound_is_dropped_and_the_rest_kept(apache_kafka: ApacheKafka) -> None:
    async with office(apache_kafka.bootstrap, bytes_max=50_000) as here:
        here.standby.follow_all_but(())
        large, small = await here.owner(0, 1), await here.owner(1, 1)
        await small.write_records([(b"a", b"1")])
        await here.copied(1, 1)
        await large.write_records([(str(number).encode(), bytes(10_000)) for number in range(10)])
        await until(lambda: here.standby.dropped == 1)
        assert here.standby.lend(0) is None
        assert here.standby.size_bytes < 50_000
        assert (await here.copied(1, 1)).restored().records == {b"a": b"1"}


async def test_copies_that_are_given_up_come_back_whole(apache_kafka: ApacheKafka) -> None:
    """And one that a restore uses stays."""
    async with office(apache_kafka.bootstrap) as here:
        here.standby.follow_all_but(())
        owners = [await here.owner(number, 1) for number in range(PARTITIONS)]
        for owner in owners:
            await owner.write_records([(b"a", b"1")])
        lent = await here.copied(0, 1)
        await here.copied(1, 1)
        here.standby.follow_all_but((0,))
        assert here.standby.give_up() > 0
        assert (here.standby.lend(0), here.standby.lend(1)) == (lent, None)
        assert here.standby.given_up == 1
        here.standby.forget(0)
        here.standby.follow_all_but(())
        await owners[1].write_records([(b"a", b"2"), (b"b", b"1")])
        # The reader has had its turn: it knows of the records by now, and keeps nothing.
        await until(lambda: not here.standby._fed)
        assert here.standby.partitions == 0
        here.standby.take_up()
        assert (await here.copied(1, 3)).restored().records == {b"a": b"2", b"b": b"1"}
        assert (await here.copied(0, 1)).restored().records == {b"a": b"1"}


async def test_a_worker_takes_over_from_its_copies_when_another_leaves(apache_kafka: ApacheKafka) -> None:
    brokers, names = apache_kafka.bootstrap, Names(f"standby-worker-{next(NUMBERS)}")
    specs = [TopicSpec(name, None, partitions=4) for name in (*names.topics, names.effects)]
    await ensure_topics(brokers, [*specs, TopicSpec(names.state, None, compacted=True, partitions=4)])
    publisher = KafkaPublisher(brokers, client_id="takeover")
    await publisher.start()
    lanes = [lane_worker(brokers, names, f"unnamed-{n}", publisher, static_member=False) for n in range(2)]
    stops = [asyncio.Event() for _ in lanes]
    serving = [asyncio.create_task(lane.serve(stop)) for lane, stop in zip(lanes, stops, strict=True)]
    standby = lanes[1].standby
    assert standby is not None
    try:
        await until(lambda: all(0 < len(lane._restored()) < 4 for lane in lanes))
        await asyncio.gather(*(publisher.publish(names.topics[0], None, b"x", partition=n % 4) for n in range(400)))
        await until(lambda: sum((lane.position(names.topics[0], n) or 0) for lane in lanes for n in range(4)) == 400)
        others = [one.number for one in lanes[0]._restored()]
        # Records and a position of each partition that the other one owns are in the copies.
        await until(lambda: all((copy := standby.lend(n)) and copy.restored().positions for n in others))
        stops[0].set()
        assert await serving[0] == 0
        await until(lambda: len(lanes[1]._restored()) == 4)
        assert sum((lanes[1].position(names.topics[0], n) or 0) for n in range(4)) == 400
        assert standby.partitions == 0
    finally:
        for stop in stops:
            stop.set()
        assert await serving[1] == 0
        await publisher.stop()
