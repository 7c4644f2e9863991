"""The sink's shell: poll, decide, dead-letter, store, commit; one flush at a time, the next taken in meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.kafka import KafkaPublisher, stop_consumer
from emergency_stop.adapters.kafka_ranges import ranges
from emergency_stop.adapters.lane_consumer import lane_consumer
from emergency_stop.adapters.sink_ledger import FrozenRange, SinkLedger
from emergency_stop.apps.sink.heads import HeadKeeper
from emergency_stop.apps.sink.in_flight import InFlight
from emergency_stop.apps.sink.intake import DEAD_LETTERS, TABLES, Intake, Intaker
from emergency_stop.apps.sink.metrics import SinkMetrics
from emergency_stop.apps.sink.ranges import Place, Standing, Waiting
from emergency_stop.apps.sink.store import Storing, freeze, plan_inserts, take_over
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.config.kafka import Brokers
from emergency_stop.domain import topics

log = logging.getLogger(__name__)

_POLL_MS: Final = 100
_TELL_S: Final = 10
_ENDS_WITHIN_S: Final = 30
_RETRY_MS_MAX: Final = 10_000
#: Frozen longer ago than this, a range is looked for before it is inserted: others may have taken it over.
_FRESH_MS: Final = 5_000
T = TypeVar("T")


class StoppedError(Exception):
    """Told to stop while the database does not answer: what waits is read again at the next start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkSpec:
    """``flush_interval_ms`` bounds a row's wait. ``flush_bytes`` bounds what waits for the next flush; the one that is
    on its way has as much again.
    """

    brokers: str | Brokers
    group: str
    client_id: str
    session_timeout_ms: int
    records: dict[str, str | None]
    cluster: str
    flush_interval_ms: int = 1_000
    flush_bytes: int = 32 * 1024 * 1024


class _Assignments(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types here
    """Notes that positions must be read anew; the worker does it between two flushes."""

    def __init__(self, patience_ms: int) -> None:
        self.changed = False
        self.seen = False
        self.flushing = asyncio.Lock()
        self._patience_ms = patience_ms

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Let a running flush end before the group moves on, so that the next owner reads what it stored."""
        self.changed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience_ms / 1000):
                await self.flushing.acquire()
                self.flushing.release()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.changed = True
        self.seen = True


class SinkWorker:
    """Runs until told to stop. Everything that blocks on the database runs on one thread of its own."""

    def __init__(
        self,
        spec: SinkSpec,
        database: ClickHouse,
        intaker: Intaker,
        publisher: KafkaPublisher,
        metrics: SinkMetrics,
        heads: HeadKeeper | None = None,
    ) -> None:
        """Without ``heads`` the audit is chained, and nobody signs how far."""
        self._spec = spec
        self._database = database
        self._intaker = intaker
        self._publisher = publisher
        self._metrics = metrics
        self._heads = heads
        self._clock = SystemClock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="clickhouse")
        self._assignments = _Assignments(spec.session_timeout_ms)
        self._positions: dict[TopicPartition, int] = {}
        self._standings: dict[Place, Standing] = {}
        self._waiting = Waiting()
        self._in_flight = InFlight()
        self._consumer: AIOKafkaConsumer | None = None
        self._storing = True
        #: Partitions whose log ends before what is stored of them.
        self._foreign: list[TopicPartition] = []
        self._stop = asyncio.Event()

    def ready_conditions(self) -> dict[str, bool]:
        """Readiness by name."""
        return {"assigned": self._assignments.seen, "clickhouse": self._storing, "same_topics": not self._foreign}

    def told_to(self, stop: asyncio.Event) -> None:
        """``stop`` ends what waits for the database."""
        self._stop = stop

    async def in_database(self, work: Callable[[ClickHouse], T]) -> T:
        """Run ``work`` on the database's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._database)

    async def serve(self, stop: asyncio.Event) -> None:
        """Consume until ``stop``; what was taken in is stored before this returns, if the database answers."""
        self.told_to(stop)
        spec = self._spec
        consumer = lane_consumer(
            spec.brokers,
            spec.group,
            spec.records,
            client_id=spec.client_id,
            session_timeout_ms=spec.session_timeout_ms,
            listener=self._assignments,
        )
        await consumer.start()
        self._consumer = consumer
        try:
            await self._consume(consumer, stop)
        except StoppedError as error:
            log.warning("%s", error)
        finally:
            await stop_consumer(consumer)
            self._thread.shutdown(wait=True, cancel_futures=True)

    async def _consume(self, consumer: AIOKafkaConsumer, stop: asyncio.Event) -> None:
        try:
            await self._take_in(consumer, stop)
            await self._in_flight.ended()
            if self._waiting and not self._assignments.changed:
                await self._flush_whole(consumer)
            if not self._assignments.changed:
                await self._sign_heads(at_once=True)
        finally:
            await self._in_flight.abandon()

    async def _take_in(self, consumer: AIOKafkaConsumer, stop: asyncio.Event) -> None:
        """Poll until ``stop``; nothing more while two flushes' worth is in memory."""
        loop = asyncio.get_running_loop()
        flush_at = loop.time()
        while not stop.is_set():
            if self._assignments.changed:
                await self._in_flight.ended()
                await self._reposition(consumer)
            fetched = await consumer.getmany(timeout_ms=_POLL_MS)
            if self._assignments.changed:
                continue  # fetched before the positions were read
            for where, messages in fetched.items():
                for message in messages:
                    self._take(where, message.value)
            full = self._waiting.size >= self._spec.flush_bytes
            if self._in_flight.running and not full:
                continue
            await self._in_flight.ended()
            # Between two flushes: what a flush notes of the audit must not come while a head is made.
            if not self._assignments.changed:
                await self._sign_heads()
            if full or (self._waiting and loop.time() >= flush_at):
                await self._in_flight.begin(self._flush_whole(consumer))
                flush_at = loop.time() + self._spec.flush_interval_ms / 1000

    async def _reposition(self, consumer: AIOKafkaConsumer) -> None:
        """After a rebalance only the database knows what is stored; whatever waited is read again. No flush runs."""
        self._assignments.changed = False
        self._waiting.reset()
        tables = {topic: TABLES[record] if record else DEAD_LETTERS for topic, record in self._spec.records.items()}
        places = [Place(where.topic, where.partition) for where in consumer.assignment()]

        def claim(database: ClickHouse) -> dict[Place, Standing]:
            return take_over(database, self._spec.cluster, places, self._spec.client_id, tables)

        self._standings = await self.until_done("read positions", claim)
        self._positions.clear()
        for place, standing in self._standings.items():
            where = TopicPartition(*place)
            self._positions[where] = standing.position
            with contextlib.suppress(IllegalStateError):  # revoked meanwhile; the next round sees to it
                consumer.seek(where, standing.position)
        pending = [one for standing in self._standings.values() for one in standing.pending]
        self._waiting.reset(pending)
        if self._heads is not None:
            self._heads.take_over(self._standings)
        log.info("positions read for %d partitions, ranges to repeat: %d", len(self._positions), len(pending))
        await self._refuse_foreign(consumer)
        # A predecessor may have died between its rows and its commit; on a quiet topic nothing else would say so.
        await self._commit(consumer, {where: position for where, position in self._positions.items() if position > 0})

    async def _refuse_foreign(self, consumer: AIOKafkaConsumer) -> None:
        """A topic that was made anew has other records at the same offsets: stored ones would look like its own."""
        ends = await consumer.end_offsets(list(self._positions))
        beyond = {where: position for where, position in self._positions.items() if position > ends[where]}
        self._foreign = sorted(beyond.keys() - await self._still_there(beyond))
        for where in self._foreign:
            log.error(
                "%s, partition %d: stored up to offset %d, but its log ends at %d; the topic was made anew, or its log"
                " was cut. Nothing of it is stored: give the sink an empty database (ESTOP_CLICKHOUSE_URL, or another"
                " ESTOP_DATA_DIR), or drop what is stored of that topic",
                where.topic, where.partition, self._positions[where], ends[where],
            )  # fmt: skip
            del self._positions[where]
            with contextlib.suppress(IllegalStateError):
                consumer.pause(where)

    async def _still_there(self, positions: Mapping[TopicPartition, int]) -> set[TopicPartition]:
        """Those whose record before the position exists: the embedded broker tells its last batch's end too low."""
        if not positions:
            return set()
        found: set[TopicPartition] = set()
        async with ranges(self._spec.brokers, f"{self._spec.client_id}-ends") as records:
            for where, position in positions.items():

                def take(record: Any, where: TopicPartition = where, last: int = position - 1) -> None:
                    if record.offset == last:
                        found.add(where)

                await records.read(where.topic, where.partition, position - 1, take, within_s=_ENDS_WITHIN_S)
        return found

    def _take(self, where: TopicPartition, batch: FetchedBatch) -> None:
        expected = self._positions.get(where)
        if expected is None or batch.next_offset <= expected:
            return
        if batch.fetch_offset > expected:
            self._note_gone(where, expected, batch)
        place, start = Place(where.topic, where.partition), max(expected, batch.fetch_offset)
        for first, following in self._waiting.cut(place, start, batch.next_offset):
            self._waiting.add(self._intaker.take(batch, first, following))
        self._positions[where] = batch.next_offset

    def _note_gone(self, where: TopicPartition, expected: int, batch: FetchedBatch) -> None:
        """``expected`` was sought here: a fetch from beyond it means that the broker no longer has it."""
        if expected > 0:
            self._metrics.lost(where.topic, batch.fetch_offset - expected)
            log.error(
                "%s: offsets %d to %d were deleted by retention before they were stored",
                where, expected, batch.fetch_offset - 1,
            )  # fmt: skip

    async def _flush_whole(self, consumer: AIOKafkaConsumer) -> None:
        async with self._assignments.flushing:
            if not self._assignments.changed:
                await self._flush(consumer)

    async def _flush(self, consumer: AIOKafkaConsumer) -> None:
        """Freeze, dead letters, rows, positions, commit: in this order, each before the next."""
        intakes, repeated = self._waiting.take()
        if not await self._frozen(intakes, repeated):
            self._assignments.changed = True
            return
        loop = asyncio.get_running_loop()
        late_at = loop.time() + _FRESH_MS / 1000
        dead = [letter for intake in intakes for letter in intake.dead]
        await asyncio.gather(
            *(
                self._publisher.publish(topics.DEAD_LETTER, one.key, one.value, headers=one.error_headers())
                for one in dead
            )
        )
        inserts = await loop.run_in_executor(self._thread, plan_inserts, self._intaker, intakes, self._spec.records)
        storing = Storing(inserts, intakes, self._spec.cluster, late=lambda: bool(repeated) or loop.time() > late_at)
        await self.until_done("store rows", storing.run)
        self._metrics.stored(inserts, dead)
        if self._heads is not None:
            self._heads.note(intakes, self._clock.now_ms())
        await self._commit(consumer, {TopicPartition(one.topic, one.partition): one.next_offset for one in intakes})

    async def _frozen(self, intakes: list[Intake], repeated: set[Place]) -> bool:
        """Freeze what was not frozen before; whether the partitions are this sink's still."""
        ranges = [
            FrozenRange(one.topic, one.partition, one.fetch_offset, one.next_offset, self._standings[place].claim)
            for one in intakes
            if (place := Place(one.topic, one.partition)) not in repeated
        ]
        kept = await self.until_done(
            "freeze ranges", lambda database: freeze(SinkLedger(database, self._spec.cluster), ranges)
        )
        if not kept:
            log.warning("another sink has claimed partitions of this one meanwhile; positions are read anew")
        return kept

    async def _sign_heads(self, *, at_once: bool = False) -> None:
        """Heads of the audit that are due: stored, appended to the file, then published.

        A broker that does not take one delays nothing else: the next head, or the next start, tells as much and more.
        """
        heads = self._heads
        if heads is None:
            return
        now_ms = self._clock.now_ms()
        places = heads.due(now_ms, at_once=at_once)
        if not places:
            return
        told = await self.until_done("store heads of the audit", lambda database: heads.make(database, places, now_ms))
        await asyncio.to_thread(heads.append_to_file, told)
        heads.told(places)
        try:
            async with asyncio.timeout(_TELL_S):
                await self._publisher.publish_all([heads.record(head) for head in told])
        except (KafkaError, TimeoutError) as error:
            log.warning("heads of the audit are stored, but %s does not take them: %s", topics.AUDIT_HEADS, error)

    async def _commit(self, consumer: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]) -> None:
        """A hint for lag monitors; the positions table decides. So a commit that fails is left to the next one."""
        with contextlib.suppress(CommitFailedError, IllegalStateError, KafkaError):
            if offsets:
                await consumer.commit(dict(offsets))

    async def until_done(self, what: str, work: Callable[[ClickHouse], T]) -> T:
        """The same work until the database takes it. Meanwhile no more than another flush is polled.

        Raises ``StoppedError`` when the process is told to stop while the database refuses.
        """
        delay_ms = 100
        while True:
            try:
                result = await self.in_database(work)
            except Exception as error:
                self._storing = False
                self._metrics.retried()
                log.warning("could not %s (%s); trying the same again in %d ms", what, error, delay_ms)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), delay_ms / 1000)
                if self._stop.is_set():
                    raise StoppedError(f"stopping; could not {what}: it is read from Kafka again") from error
                delay_ms = min(delay_ms * 2, _RETRY_MS_MAX)
            else:
                self._storing = True
                return result
