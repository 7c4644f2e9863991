"""A coordinator's partition changes hands on a real broker: by offsets its former owner learns that it did."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.adapters.state_seed import StateSource
from emergency_stop.adapters.state_tenure import LostPartitionError
from emergency_stop.apps.lane_afterwards import Afterwards
from emergency_stop.apps.lane_partition import LaneCounters, LanePartition
from emergency_stop.domain.topics import TopicSpec
from emergency_stop.testing.brokers import ApacheKafka, EmbeddedBroker
from tests.campaign.log import Log
from tests.unit.apps.logs_in_memory import STATE
from tests.unit.apps.test_lane_partition import HOLDS, LEASES, NOTICES, Deciding

DEADLINE_S = 60.0


async def _alive() -> None:
    """The group always knows us, so nobody but the log can tell."""


async def _always() -> bool:
    return True


class Owner:
    """One life of a partition's owner, whose decisions are names."""

    def __init__(self, partition: LanePartition, core: Deciding) -> None:
        self._partition, self._core = partition, core

    @classmethod
    async def takes_over(cls, brokers: str, publisher: KafkaPublisher, generation: int) -> Owner:
        core = Deciding()
        partition = await LanePartition.restore(
            0, core, publisher, LaneCounters(), source=StateSource(brokers, STATE), generation=generation, now_ms=0,
            afterwards=Afterwards(publisher, {NOTICES}), alive=_alive,
        )  # fmt: skip
        await partition.claim()
        return cls(partition, core)

    async def decides(self, name: str) -> None:
        self._core.decides(name)
        self._core.vouches(f"lease of {name}")
        self._partition.tick(0)
        await self._partition.checkpoint(_always)


async def _changes_hands(brokers: str) -> None:
    """Owner a decides 1 and 2, b takes over; what a decides then is void, and b goes on beside its late records."""
    specs = [TopicSpec(name, None, partitions=1, compacted=name == STATE) for name in (STATE, HOLDS, LEASES, NOTICES)]
    await ensure_topics(brokers, specs)
    publishers = [KafkaPublisher(brokers, client_id=name) for name in "ab"]
    async with asyncio.timeout(DEADLINE_S):
        for publisher in publishers:
            await publisher.start()
        a = await Owner.takes_over(brokers, publishers[0], 1)
        await a.decides("1")
        await a.decides("2")
        b = await Owner.takes_over(brokers, publishers[1], 2)
        with pytest.raises(LostPartitionError, match=f"{STATE}-0: another worker took it over"):
            await a.decides("never")
        await b.decides("3")
        with pytest.raises(LostPartitionError):
            await a.decides("nor this")
        await b.decides("4")
        c = await Owner.takes_over(brokers, publishers[0], 3)
        await c.decides("5")
        for publisher in publishers:
            await publisher.stop()
    with Log(brokers) as log:
        held = [record.value() for record in log.read(HOLDS)]
        vouched = [record.value() for record in log.read(LEASES)]
    assert [*dict.fromkeys(held)] == [b"1", b"2", b"3", b"4", b"5"]
    assert [*dict.fromkeys(vouched)] == [f"lease of {name}".encode() for name in "12345"]


@pytest.mark.needs("broker")
async def test_on_the_embedded_broker(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as broker:
        await _changes_hands(broker.bootstrap)


@pytest.mark.needs("java", "maven")
async def test_on_apache_kafka(apache_kafka: ApacheKafka) -> None:
    await _changes_hands(apache_kafka.bootstrap)
