"""Reading a compacted topic as shared state: all partitions, no group, from the beginning, for ever."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from emergency_stop.adapters.kafka import stop_consumer
from emergency_stop.adapters.kafka_security import client_arguments
from emergency_stop.adapters.kafka_sign_in import KafkaSignInError
from emergency_stop.config.kafka import Brokers
from emergency_stop.wire.registry import SchemaUnansweredError

log = logging.getLogger(__name__)

RETRY_MS: Final = 500
POLL_MS: Final = 250
RESCAN_MS: Final = 5_000
REBUILD_AFTER_MS: Final = 15_000
RECORDS_MAX: Final = 5_000


@dataclass(frozen=True, slots=True)
class TailRecord:
    """One record of the tailed topic; ``value`` is ``None`` for a tombstone."""

    key: bytes | None
    value: bytes | None
    partition: int
    offset: int
    timestamp_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()


class CompactedTail:
    """Follows ``topic`` and hands every record, in partition order, to ``on_record``.

    ``on_record`` runs on the event loop and must not block. It may raise ``SchemaUnansweredError``, having changed
    nothing: the record is handed over again until it is taken, and nothing behind it before. It must raise nothing
    else: what did is not handed over again. After a lost connection the tail goes on where it was; where that no
    longer exists (the log was truncated), from the beginning: records may then come again. ``caught_up`` ends once
    everything that the topic held at start was handed over. With ``from_end`` only what is appended after start is
    handed over, and ``caught_up`` fixes that point. ``room`` is awaited before more is fetched: a reader that is
    behind leaves it on the broker.
    """

    def __init__(
        self,
        brokers: str | Brokers,
        topic: str,
        on_record: Callable[[TailRecord], None],
        *,
        client_id: str,
        from_end: bool = False,
        room: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._from_end = from_end
        self._room = room
        self._last_poll_ms = 0
        self._is_cut_off = False
        self._brokers = brokers
        self._topic = topic
        self._on_record = on_record
        self._client_id = client_id
        self._caught_up = asyncio.Event()
        #: Set while brokers refuse us, and why.
        self._refused = asyncio.Event()
        self._refusal = ""
        self._task: asyncio.Task[None] | None = None
        self._next: dict[int, int] = {}
        #: Of the consumer that is connected; both change with it.
        self._consumer: AIOKafkaConsumer | None = None
        self._passed: dict[TopicPartition, int] = {}
        self._waiting = 0
        #: Set and replaced whenever the tail has looked for records, or has lost the broker.
        self._turned = asyncio.Event()
        self._progress = time.monotonic()
        #: What the tail waits for before it goes on, for people; empty while nothing keeps it.
        self.held_up_by = ""

    async def start(self) -> None:
        """Begin tailing in the background; returns at once."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"tail {self._topic}")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def caught_up(self, *, or_refused: bool = False) -> None:
        """Wait until all records that the topic held when the tail first connected were handed over.

        Raises what ended the tail, should it have died. A tail that brokers refuse goes on asking;
        ``or_refused`` raises ``KafkaSignInError`` then.
        """
        waiters = [asyncio.create_task(self._caught_up.wait())]
        if or_refused:
            waiters.append(asyncio.create_task(self._refused.wait()))
        watched: set[asyncio.Task[Any]] = {*waiters} if self._task is None else {*waiters, self._task}
        try:
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if self._caught_up.is_set():
                return
            if self._task is not None and self._task.done():
                self._task.result()
            if or_refused and self._refused.is_set():
                raise KafkaSignInError(self._refusal)
        finally:
            for waiter in waiters:
                waiter.cancel()

    async def read_up(self) -> None:
        """Wait until all records that the topic holds now were handed over; while the broker is away, until it is back.

        Only while the tail runs, and after ``caught_up``.
        """
        self._waiting += 1
        try:
            while not await self._reads_up_within(RESCAN_MS / 1000):
                pass  # ends may have fallen since they were asked for: a topic can be made anew
        finally:
            self._waiting -= 1

    async def _reads_up_within(self, seconds: float) -> bool:
        goals: dict[TopicPartition, int] = {}
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            turned = self._turned
            if not goals and self._consumer is not None:
                with contextlib.suppress(KafkaError):
                    goals = await self._consumer.end_offsets([*self._consumer.assignment()])
            if goals and all(self._has_passed(partition, goal) for partition, goal in goals.items()):
                return True
            await turned.wait()
        return False

    def _has_passed(self, partition: TopicPartition, goal: int) -> bool:
        return max(self._next.get(partition.partition, 0), self._passed.get(partition, 0)) >= goal

    def _turn(self) -> None:
        self._turned.set()
        self._turned = asyncio.Event()

    @property
    def is_caught_up(self) -> bool:
        return self._caught_up.is_set()

    def silent_ms(self) -> int:
        """How long ago every partition was last answered for, milliseconds. Large means: the state is stale."""
        return int((time.monotonic() - self._progress) * 1000)

    async def _run(self) -> None:
        while True:
            consumer = AIOKafkaConsumer(
                **client_arguments(self._brokers),
                client_id=self._client_id,
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_max_wait_ms=100,
                metadata_max_age_ms=RESCAN_MS,
            )
            try:
                await consumer.start()
                self._refused.clear()
                await self._follow(consumer)
            except (KafkaError, OSError) as error:
                self._note_refusal(error)
                # once per outage, not twice a second
                level = logging.DEBUG if self._is_cut_off else logging.WARNING
                log.log(level, "tail of %s lost the broker (%s); reconnecting from where it was", self._topic, error)
                self._is_cut_off = True
                await asyncio.sleep(RETRY_MS / 1000)
            except Exception:
                # a tail that dies would leave its reader with a state that silently grows old
                log.exception("tail of %s: a record was not taken in; going on behind it", self._topic)
                await asyncio.sleep(RETRY_MS / 1000)
            finally:
                self._consumer = None
                self._turn()
                await stop_consumer(consumer)

    def _note_refusal(self, error: BaseException) -> None:
        if isinstance(error, KafkaSignInError):
            self._refusal = str(error)
            self._refused.set()

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        partitions = await self._assign(consumer, set())
        goals = await consumer.end_offsets([TopicPartition(self._topic, number) for number in partitions])
        if self._from_end and not self._caught_up.is_set():
            self._start_at(consumer, goals)
        if not any(goals.values()):
            self._caught_up.set()  # nothing was ever written: there is no answer to wait for
        rescan_at = time.monotonic() + RESCAN_MS / 1000
        self._consumer = consumer
        while True:
            if self._room is not None:
                await self._room()
            fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=RECORDS_MAX)
            for records in fetched.values():
                for record in records:
                    await self._hand_over(record)
            self._note_answers(consumer)
            # The embedded broker tells the end of its last batch too low, so all of a batch must have come.
            if sum(map(len, fetched.values())) < RECORDS_MAX:
                await self._note_positions(consumer, goals)
            self._turn()
            if time.monotonic() > rescan_at:
                partitions, again_ms = await self._rescan(consumer, partitions)
                rescan_at = time.monotonic() + again_ms / 1000

    async def _rescan(self, consumer: AIOKafkaConsumer, known: set[int]) -> tuple[set[int], int]:
        """(the partitions, when to look again). Raises ``KafkaError`` where nobody has answered for long.

        A broker that is away for a moment comes back to the connections that are there; only one that does not is
        looked for at the bootstrap addresses, with a new consumer.
        """
        try:
            return await self._assign(consumer, known), RESCAN_MS
        except KafkaError:
            if self.silent_ms() > REBUILD_AFTER_MS:
                raise
            return known, RETRY_MS

    async def _hand_over(self, record: Any) -> None:
        """Again and again, as long as a registry does not say how the record is to be read: what lies behind it must
        not overtake it, and who waits for the end must not go on without it.
        """
        headers = tuple(record.headers)
        taken = TailRecord(record.key, record.value, record.partition, record.offset, record.timestamp, headers)
        while (problem := self._not_taken_yet(taken)) is not None:
            if not self.held_up_by:
                text = "tail of %s waits at offset %d of partition %d until it can be read: %s"
                log.warning(text, self._topic, record.offset, record.partition, problem)
            self.held_up_by = f"offset {record.offset} of partition {record.partition} cannot be read yet: {problem}"
            await asyncio.sleep(RETRY_MS / 1000)
        if self.held_up_by:
            log.info("tail of %s goes on: offset %d was taken in", self._topic, record.offset)
        self.held_up_by = ""

    def _not_taken_yet(self, record: TailRecord) -> SchemaUnansweredError | None:
        """Why the record is to be handed over again; ``None``: it was taken. Raises what else ``on_record`` raises."""
        try:
            self._on_record(record)
        except SchemaUnansweredError as error:
            return error
        except Exception:
            self._next[record.partition] = record.offset + 1  # tried again, it would keep all others from their reader
            raise
        self._next[record.partition] = record.offset + 1
        return None

    async def _assign(self, consumer: AIOKafkaConsumer, known: set[int]) -> set[int]:
        """Take over all partitions, new ones too; positions of known ones stay."""
        partitions = set(await partitions_of(consumer, self._topic))
        if partitions == known:
            return known
        consumer.assign([TopicPartition(self._topic, number) for number in sorted(partitions)])
        for number in partitions:
            consumer.seek(TopicPartition(self._topic, number), self._next.get(number, 0))
        return partitions

    def _start_at(self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> None:
        for partition, end in ends.items():
            self._next.setdefault(partition.partition, end)
            consumer.seek(partition, self._next[partition.partition])

    async def _note_positions(self, consumer: AIOKafkaConsumer, goals: dict[TopicPartition, int]) -> None:
        """Positions, unlike offsets of records, also pass compaction gaps and control records."""
        if self._caught_up.is_set() and not self._waiting:
            return
        self._passed = {partition: await consumer.position(partition) for partition in consumer.assignment()}
        if all(self._passed.get(partition, 0) >= goal for partition, goal in goals.items()):
            self._caught_up.set()

    def _note_answers(self, consumer: AIOKafkaConsumer) -> None:
        """getmany() answers "nothing" when the broker is away too; only the fetch responses tell the difference."""
        polls = [consumer.last_poll_timestamp(partition) for partition in consumer.assignment()]
        oldest = min((poll or 0 for poll in polls), default=0)
        if oldest > self._last_poll_ms:
            self._is_cut_off = False
            self._last_poll_ms = oldest
            self._progress = time.monotonic()


async def partitions_of(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    """The topic's partitions, waiting for the topic to exist."""
    while True:
        # No public call asks the broker anew for the partitions of a topic that may not exist yet.
        metadata = await consumer._client.fetch_all_metadata()  # noqa: SLF001
        found = metadata.partitions_for_topic(topic)
        if found:
            return set(found)
        log.info("waiting for topic %s to be created, or for the right to read it", topic)
        await asyncio.sleep(RETRY_MS / 1000)
