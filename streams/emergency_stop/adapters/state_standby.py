"""Warm copies of the state log's partitions that other workers own, so that a takeover reads only their tail.

Theory of operation. One consumer without a group follows every partition that this worker does not own. A copy is
never trusted to be complete: whoever restores from it reads on from ``next_offset`` to the log's end. So a copy that
lags, or that is missing, costs time and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from emergency_stop.adapters.kafka import stop_consumer
from emergency_stop.adapters.kafka_security import client_arguments
from emergency_stop.adapters.kafka_tail import partitions_of
from emergency_stop.adapters.state_log import StateCopy
from emergency_stop.config.kafka import Brokers

log = logging.getLogger(__name__)

RETRY_MS: Final = 1_000
_POLL_MS: Final = 500
#: Small, because taking a fetch in happens on the thread that also looks for emergencies.
_FETCH_BYTES_MAX: Final = 1024 * 1024
_RECORDS_MAX: Final = 100


class StandbyReader:
    """Keeps copies within ``bytes_max`` in total. Use from one event loop; ``run`` is its background job."""

    def __init__(self, brokers: str | Brokers, topic: str, *, client_id: str, bytes_max: int) -> None:
        self._brokers = brokers
        self._topic = topic
        self._client_id = client_id
        self._bytes_max = bytes_max
        self._owned: frozenset[int] = frozenset()
        self._knows_owned = asyncio.Event()
        self._copies: dict[int, StateCopy] = {}
        #: Partitions whose copies did not fit; left out until ownership changes.
        self._refused: set[int] = set()
        #: Which copy the consumer's positions belong to.
        self._fed: dict[int, StateCopy] = {}
        self.dropped = 0
        #: Copies that were let go for want of memory; see ``give_up``.
        self.given_up = 0
        self._is_idle = False

    @property
    def size_bytes(self) -> int:
        return sum(copy.size_bytes for copy in self._copies.values())

    @property
    def partitions(self) -> int:
        """How many partitions are copied."""
        return len(self._copies)

    def follow_all_but(self, owned: Iterable[int]) -> None:
        """Copy what is not ``owned``. Copies of what is no longer grow by themselves, and stay until ``forget``."""
        self._owned = frozenset(owned)
        self._refused.clear()
        self._knows_owned.set()

    def lend(self, partition: int) -> StateCopy | None:
        """The copy to restore an owned partition from. A restore that is cancelled leaves it usable."""
        return self._copies.get(partition)

    def forget(self, partition: int) -> None:
        """The partition is restored."""
        self._copies.pop(partition, None)

    def give_up(self) -> int:
        """Let go of every copy of what others own, and follow nothing until ``take_up``; returns the bytes they took.

        A copy that is lent stays. What is taken over meanwhile is read from its log.
        """
        self._is_idle = True
        copies = [self._copies.pop(partition) for partition in list(self._followed())]
        self.given_up += len(copies)
        return sum(copy.size_bytes for copy in copies)

    def take_up(self) -> None:
        """Copy again, from the beginning of the logs."""
        self._is_idle = False

    async def run(self) -> None:
        """Follow until cancelled. A lost broker, or a log that was truncated, makes it begin anew."""
        await self._knows_owned.wait()
        while True:
            consumer = AIOKafkaConsumer(
                **client_arguments(self._brokers),
                client_id=self._client_id,
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                max_partition_fetch_bytes=_FETCH_BYTES_MAX,
            )
            try:
                await consumer.start()
                await self._follow(consumer)
            except (KafkaError, OSError) as error:
                log.warning("standby copies of %s are read anew: %s", self._topic, error)
                for partition in self._followed():
                    del self._copies[partition]
                await asyncio.sleep(RETRY_MS / 1000)
            finally:
                self._fed = {}
                await stop_consumer(consumer)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        known = await partitions_of(consumer, self._topic)
        while True:
            if not await self._assign(consumer, known):
                await asyncio.sleep(_POLL_MS / 1000)
                continue
            fetched = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_RECORDS_MAX)
            for where, records in fetched.items():
                self._take(where.partition, records)
            self._keep_within_bound()

    async def _assign(self, consumer: AIOKafkaConsumer, known: set[int]) -> bool:
        """Bring the consumer in line with what is to be copied; false while that is nothing."""
        wanted = set[int]() if self._is_idle else known - self._owned - self._refused
        copies = {partition: self._copies.setdefault(partition, StateCopy()) for partition in sorted(wanted)}
        if any(self._fed.get(partition) is not copy for partition, copy in copies.items()) or self._fed.keys() - wanted:
            await self._seek(consumer, copies)
        return bool(copies)

    async def _seek(self, consumer: AIOKafkaConsumer, copies: dict[int, StateCopy]) -> None:
        self._fed = {}
        where = {TopicPartition(self._topic, partition): copy for partition, copy in copies.items()}
        firsts = await consumer.beginning_offsets(list(where)) if where else {}
        consumer.assign(list(where))  # and sought before anything else may run: there is no position to fall back on
        for partition, copy in where.items():
            if copy.next_offset < firsts[partition]:
                copy.restart(firsts[partition])
            consumer.seek(partition, copy.next_offset)
        self._fed = copies

    def _take(self, partition: int, records: list[Any]) -> None:
        """Only into the copy that the consumer was positioned for, and not while a restore brings it up to date."""
        copy = self._copies.get(partition)
        if copy is None or copy is not self._fed.get(partition) or partition in self._owned:
            return
        for record in records:
            if record.key is not None:
                copy.take(record.key, record.value, record.offset, record.timestamp)

    def _followed(self) -> Iterator[int]:
        return (partition for partition in list(self._copies) if partition not in self._owned)

    def _keep_within_bound(self) -> None:
        while self.size_bytes > self._bytes_max and (followed := list(self._followed())):
            largest = max(followed, key=lambda partition: self._copies[partition].size_bytes)
            size = self._copies.pop(largest).size_bytes
            self._refused.add(largest)
            self.dropped += 1
            log.warning(
                "no standby copy of %s partition %d is kept: with its %d bytes copies exceed"
                " ESTOP_STANDBY_BYTES_MAX=%d; taking it over will read its whole log",
                self._topic, largest, size, self._bytes_max,
            )  # fmt: skip
