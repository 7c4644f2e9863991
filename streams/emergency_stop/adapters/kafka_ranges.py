"""Single stretches of partitions: how many partitions there are, where one ends, and what lies in it from there on."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError
from aiokafka.partitioner import DefaultPartitioner

from emergency_stop.adapters.kafka import stop_consumer
from emergency_stop.adapters.kafka_security import client_arguments
from emergency_stop.adapters.kafka_tail import partitions_of
from emergency_stop.config.kafka import Brokers

_POLL_MS: Final = 250


class KafkaRanges:
    """Reads without a group; get one by ``ranges``. Every method raises ``KafkaError`` where the broker is away."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer

    async def partition_for(self, topic: str, key: bytes | None, wanted: int | None) -> int:
        """``wanted`` if the topic has it, else the partition of ``key`` as producers choose it."""
        partitions = sorted(await partitions_of(self._consumer, topic))
        if wanted in partitions:
            return int(wanted)
        return int(DefaultPartitioner()(key, partitions, partitions))

    async def end(self, topic: str, partition: int) -> int:
        """The offset that the next record gets, or a lower one."""
        where = TopicPartition(topic, partition)
        return int((await self._consumer.end_offsets([where]))[where])

    async def read(
        self, topic: str, partition: int, offset: int, take: Callable[[Any], None], *, within_s: float
    ) -> None:
        """Hand over aiokafka's records from ``offset`` to the end at the time of the call.

        Raises ``KafkaTimeoutError`` where that takes longer.
        """
        where = TopicPartition(topic, partition)
        self._consumer.assign([where])
        first = (await self._consumer.beginning_offsets([where]))[where]
        self._consumer.seek(where, max(offset, first))
        goal, deadline = await self.end(topic, partition), time.monotonic() + within_s
        answered_with_records: int | None = None
        while True:
            answered = self._consumer.last_poll_timestamp(where)
            fetched = (await self._consumer.getmany(timeout_ms=_POLL_MS)).get(where, [])
            for record in fetched:
                take(record)
            if fetched:
                answered_with_records = self._consumer.last_poll_timestamp(where)
            # The embedded broker tells the end of its last batch too low: it must have answered that there is no more.
            elif answered not in {None, answered_with_records} and await self._consumer.position(where) >= goal:
                return
            if time.monotonic() > deadline:
                raise KafkaTimeoutError(f"{topic}-{partition} could not be read from {offset} within {within_s:g} s")


@asynccontextmanager
async def ranges(brokers: str | Brokers, client_id: str) -> AsyncIterator[KafkaRanges]:
    """A connection of its own. Raises ``KafkaError`` where no broker answers."""
    consumer = AIOKafkaConsumer(
        **client_arguments(brokers),
        client_id=client_id,
        group_id=None,
        enable_auto_commit=False,
        fetch_max_wait_ms=100,
        auto_offset_reset="earliest",
    )
    try:
        await consumer.start()
        yield KafkaRanges(consumer)
    finally:
        await stop_consumer(consumer)
