"""The sink's shell: poll, decide, dead-letter, store, commit; one flush at a time, the next taken in meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.kafka import KafkaPublisher, stop_consumer
from emergency_stop.adapters.lane_consumer import lane_consumer
from emergency_stop.adapters.sink_ledger import FrozenRange, SinkLedger
from emergency_stop.apps.sink.assignments import Assignments
from emergency_stop.apps.sink.blocks import BlockMaker
from emergency_stop.apps.sink.database_thread import RETRY_MS, RETRY_MS_MAX, DatabaseThread, StoppedError
from emergency_stop.apps.sink.heads import HeadKeeper
from emergency_stop.apps.sink.in_flight import InFlight
from emergency_stop.apps.sink.intake import Intake, Intaker
from emergency_stop.apps.sink.letters import publish_letters
from emergency_stop.apps.sink.metrics import SinkMetrics
from emergency_stop.apps.sink.ranges import Place, Standing, Waiting
from emergency_stop.apps.sink.remade import still_there
from emergency_stop.apps.sink.store import Storing, freeze, plan_inserts, take_over
from emergency_stop.apps.sink.tables import DEAD_LETTERS, TABLES
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.config.kafka import Brokers
from emergency_stop.domain import topics
from emergency_stop.wire.registry import Registry
from emergency_stop.wire.registry_http import RegistryError

log = logging.getLogger(__name__)

_POLL_MS: Final = 100
_TELL_S: Final = 10
#: Frozen longer ago than this, a range is looked for before it is inserted: others may have taken it over.
_FRESH_MS: Final = 5_000
#: While the process spares memory, the next flush is due with this share of what it may have otherwise.
_SPARED_PARTS: Final = 4
T = TypeVar("T")


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


class SinkWorker:
    """Runs until told to stop. Everything that blocks on the database runs on one thread of its own."""

    def __init__(
        self,
        spec: SinkSpec,
        database: ClickHouse,
        registry: Registry,
        publisher: KafkaPublisher,
        metrics: SinkMetrics,
        heads: HeadKeeper | None = None,
        *,
        spares_memory: Callable[[], bool] = lambda: False,
    ) -> None:
        """Without ``heads`` the audit is chained, and nobody signs how far. While ``spares_memory`` says so, less waits
        for a flush than ``SinkSpec`` allows: the blocks are smaller and more, and every row is stored all the same.
        """
        self._spec = spec
        self._database = DatabaseThread(database, metrics.retried)
        self._intaker = Intaker(registry, spec.records)
        self._blocks = BlockMaker(registry)
        self._publisher = publisher
        self._metrics = metrics
        self._heads = heads
        self._spares_memory = spares_memory
        self._clock = SystemClock()
        self._assignments = Assignments(spec.session_timeout_ms)
        self._positions: dict[TopicPartition, int] = {}
        self._standings: dict[Place, Standing] = {}
        self._waiting = Waiting()
        self._in_flight = InFlight()
        self._registry_answers = True
        #: Partitions whose log ends before what is stored of them.
        self._foreign: list[TopicPartition] = []
        self._stop = asyncio.Event()

    def ready_conditions(self) -> dict[str, bool]:
        """Readiness by name."""
        return {
            "assigned": self._assignments.seen,
            "clickhouse": self._database.answers,
            "registry": self._registry_answers,
            "same_topics": not self._foreign,
        }

    async def in_database(self, work: Callable[[ClickHouse], T]) -> T:
        """Run ``work`` on the database's thread."""
        return await self._database.run(work)

    async def serve(self, stop: asyncio.Event) -> None:
        """Consume until ``stop``; what was taken in is stored before this returns, if the database answers."""
        self._stop = stop
        self._database.told_to(stop)
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
        try:
            await self._consume(consumer, stop)
        except StoppedError as error:
            log.warning("%s", error)
        finally:
            await stop_consumer(consumer)
            self._database.end()

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
            await self._take_all((where, message.value) for where, found in fetched.items() for message in found)
            full = self._waiting.size >= self._flush_bytes()
            if self._in_flight.running and not full:
                continue
            await self._in_flight.ended()
            # Between two flushes: what a flush notes of the audit must not come while a head is made.
            if not self._assignments.changed:
                await self._sign_heads()
            if full or (self._waiting and loop.time() >= flush_at):
                await self._in_flight.begin(self._flush_whole(consumer))
                flush_at = loop.time() + self._spec.flush_interval_ms / 1000

    def _flush_bytes(self) -> int:
        """How much may wait for the next flush now."""
        return self._spec.flush_bytes // (_SPARED_PARTS if self._spares_memory() else 1)

    async def _reposition(self, consumer: AIOKafkaConsumer) -> None:
        """After a rebalance only the database knows what is stored; whatever waited is read again. No flush runs."""
        self._assignments.changed = False
        self._waiting.reset()
        tables = {topic: TABLES[record] if record else DEAD_LETTERS for topic, record in self._spec.records.items()}
        places = [Place(where.topic, where.partition) for where in consumer.assignment()]

        def claim(database: ClickHouse) -> dict[Place, Standing]:
            return take_over(database, self._spec.cluster, places, self._spec.client_id, tables)

        self._standings = await self._database.until_done("read positions", claim)
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
        there = await still_there(self._spec.brokers, self._spec.client_id, beyond)
        self._foreign = sorted(beyond.keys() - there)
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

    async def _take_all(self, fetched: Iterable[tuple[TopicPartition, FetchedBatch]]) -> None:
        """Take all of it in, however long the registry that names its schemas is away.

        Ends early on a rebalance, after which it is read again, and when told to stop.
        """
        for where, batch in fetched:
            delay_ms = RETRY_MS
            while not self._taken(where, batch):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), delay_ms / 1000)
                if self._stop.is_set() or self._assignments.changed:
                    return
                delay_ms = min(delay_ms * 2, RETRY_MS_MAX)

    def _taken(self, where: TopicPartition, batch: FetchedBatch) -> bool:
        """Whether the registry answered; where it did not, the rest of the batch is to be taken in again."""
        try:
            self._take(where, batch)
        except RegistryError as error:
            if self._registry_answers:
                log.warning("%s: waiting for the registry (%s)", where, error)
            self._registry_answers = False
        else:
            self._registry_answers = True
        return self._registry_answers

    def _take(self, where: TopicPartition, batch: FetchedBatch) -> None:
        """May be repeated: what was taken in is not taken in again."""
        expected = self._positions.get(where)
        if expected is None or batch.next_offset <= expected:
            return
        if batch.fetch_offset > expected:
            self._note_gone(where, expected, batch)
        place, start = Place(where.topic, where.partition), max(expected, batch.fetch_offset)
        self._positions[where] = start
        for first, following in self._waiting.cut(place, start, batch.next_offset):
            self._waiting.add(self._intaker.take(batch, first, following))
            self._positions[where] = following

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
        await publish_letters(self._publisher, dead)
        inserts = await self._database.run(lambda _: plan_inserts(self._blocks, intakes, self._spec.records))
        storing = Storing(inserts, intakes, self._spec.cluster, late=lambda: bool(repeated) or loop.time() > late_at)
        await self._database.until_done("store rows", storing.run)
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
        kept = await self._database.until_done(
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
        told = await self._database.until_done(
            "store heads of the audit", lambda database: heads.make(database, places, now_ms)
        )
        await asyncio.to_thread(heads.append_to_file, told)
        heads.told(places)
        try:
            async with asyncio.timeout(_TELL_S):
                await self._publisher.publish_all([heads.record(head) for head in told])
        except (KafkaError, RegistryError, TimeoutError) as error:
            log.warning("heads of the audit are stored, but %s does not take them: %s", topics.AUDIT_HEADS, error)

    async def _commit(self, consumer: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]) -> None:
        """A hint for lag monitors; the positions table decides. So a commit that fails is left to the next one."""
        with contextlib.suppress(CommitFailedError, IllegalStateError, KafkaError):
            if offsets:
                await consumer.commit(dict(offsets))
