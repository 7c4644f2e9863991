"""The notifier's shell: read notices, let the cores decide, deliver, write down what became of it, commit.

Theory of operation. Whoever of the group owns the one partition of ``estop.notices`` is active; another notifier stands
by, with its books up to date. On becoming active it reads ``estop.notifier-state`` to its end. A turn of the loop takes
what came, starts deliveries (each in a thread, so that none keeps the loop), writes the state records that changed, and
then commits. So a crash repeats at worst what was delivered and not yet written, and loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from emergency_stop.adapters.kafka import stop_consumer
from emergency_stop.adapters.kafka_security import client_arguments
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.apps.notifier import last_resort, telling
from emergency_stop.apps.notifier.books import ChannelBook, EmergencyBook, SilenceBook
from emergency_stop.apps.notifier.channels import Channel, LastResortPost
from emergency_stop.apps.notifier.hiding import Hidden
from emergency_stop.apps.notifier.last_resort import LastResort
from emergency_stop.apps.notifier.metrics import NotifierMetrics
from emergency_stop.apps.notifier.resorting import RETRY_MS, Resorting
from emergency_stop.apps.notifier.telling import Message, Telling, TellingPolicy
from emergency_stop.apps.process import unless_stopped
from emergency_stop.config.kafka import Brokers
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Emergency, Notice
from emergency_stop.ports import Clock, DeliveryError, Publish, Publisher
from emergency_stop.wire.codec import Codec, WireError
from emergency_stop.wire.registry import UnknownSchemaError

log = logging.getLogger(__name__)

POLL_MS: Final = 100
RECORDS_MAX: Final = 500
#: How long silences and triggers are waited for at start; pages do not wait for them any longer.
BOOKS_WITHIN_MS: Final = 10_000
#: How long the state is waited for before the group is looked at again.
STATE_WITHIN_MS: Final = 30_000
#: How long the last state may take to be written when it is time to end; what it says is told again otherwise.
HAND_OVER_S: Final = 5.0
_WHERE: Final = TopicPartition(topics.NOTICES, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifierSpec:
    brokers: str | Brokers
    group: str
    client_id: str
    session_timeout_ms: int
    #: Comes back under this name after a restart; ``None``: leaves the group when it ends.
    group_instance_id: str | None
    policy: TellingPolicy
    patience_ms: int


@dataclass(frozen=True, slots=True)
class Books:
    """What the tails keep up to date, and the tails."""

    silences: SilenceBook
    channels: ChannelBook
    emergencies: EmergencyBook
    tails: Mapping[str, CompactedTail]

    def caught_up(self, topic: str) -> bool:
        return self.tails[topic].is_caught_up


class _Assignments(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types here
    """Notes that the group has moved; the worker sees to it between two turns. ``before`` runs ahead of the move."""

    def __init__(self, before: Callable[[], Awaitable[None]]) -> None:
        self.changed = False
        self.seen = False
        self._before = before

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self.changed = True
        await self._before()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.changed = True
        self.seen = True


class _Active:
    """The cores of the notifier whose turn it is. ``resort`` waits until the emergencies were read whole."""

    def __init__(self, spec: NotifierSpec) -> None:
        self.telling = Telling(spec.policy)
        self.resort = LastResort(spec.patience_ms)
        self.resort_knows = False
        self.position: int | None = None


class NotifierWorker:
    """Runs until told to stop. ``post`` is ``None`` where there is no last resort."""

    def __init__(
        self,
        spec: NotifierSpec,
        channels: Mapping[str, Channel],
        post: LastResortPost | None,
        books: Books,
        publisher: Publisher,
        codec: Codec,
        clock: Clock,
        metrics: NotifierMetrics,
    ) -> None:
        self._spec = spec
        self._channels = channels
        self._resorting = Resorting(post, publisher, codec, clock, metrics) if post is not None else None
        self._books = books
        self._publisher = publisher
        self._codec = codec
        self._clock = clock
        self._metrics = metrics
        self._assignments = _Assignments(self._hand_over)
        self._active: _Active | None = None
        #: State records that the broker has not acknowledged yet; the newest per key.
        self._unsaved: dict[bytes, bytes | None] = {}
        self._threads = {name: ThreadPoolExecutor(1, thread_name_prefix=f"notify-{name}") for name in channels}
        self._deliveries: set[asyncio.Task[None]] = set()

    def ready_conditions(self) -> dict[str, bool]:
        """Readiness by name."""
        followed = {topic: tail.is_caught_up for topic, tail in self._books.tails.items()}
        return {"assigned": self._assignments.seen, **followed}

    async def serve(self, stop: asyncio.Event) -> None:
        """Tell people until ``stop``. Raises ``KafkaError`` where no broker answers at start."""
        consumer = AIOKafkaConsumer(
            **client_arguments(self._spec.brokers),
            group_id=self._spec.group,
            group_instance_id=self._spec.group_instance_id,
            client_id=self._spec.client_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=self._spec.session_timeout_ms,
            heartbeat_interval_ms=max(100, self._spec.session_timeout_ms // 3),
            fetch_max_wait_ms=POLL_MS,
        )
        consumer.subscribe([topics.NOTICES], listener=self._assignments)
        await consumer.start()
        try:
            await self._books_read()
            while not stop.is_set():
                try:
                    await unless_stopped(self._turn(consumer), stop)
                except KafkaError as error:
                    log.warning("the broker does not take or give records (%s); going on in %d ms", error, RETRY_MS)
                    await asyncio.sleep(RETRY_MS / 1000)
            await self._hand_over()
        finally:
            await stop_consumer(consumer)
            for threads in self._threads.values():
                threads.shutdown(wait=False, cancel_futures=True)
            if self._resorting is not None:
                self._resorting.close()

    async def _books_read(self) -> None:
        waited_for = (topics.SILENCES, topics.TRIGGERS)
        reading = asyncio.gather(*(self._books.tails[topic].caught_up() for topic in waited_for))
        try:
            await asyncio.wait_for(reading, BOOKS_WITHIN_MS / 1000)
        except TimeoutError:
            late = ", ".join(topic for topic in waited_for if not self._books.caught_up(topic))
            text = "%s is not read after %d ms: telling people without it"
            log.error(text, late, BOOKS_WITHIN_MS)  # noqa: TRY400  # the text says all

    async def _turn(self, consumer: AIOKafkaConsumer) -> None:
        if self._assignments.changed:
            await self._settle_role(consumer)
        fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=RECORDS_MAX)
        records = fetched.get(_WHERE, [])
        if self._assignments.changed:
            if records:  # fetched under the former role: they are read again under the new one
                with contextlib.suppress(IllegalStateError):
                    consumer.seek(_WHERE, records[0].offset)
            return
        changed = self._books.emergencies.take_changed()
        if self._books.emergencies.failure is not None:
            raise self._books.emergencies.failure
        active = self._active
        if active is None:
            return
        now_ms = self._clock.now_ms()
        self._take(active, records, now_ms)
        self._look_after(active, changed, now_ms)
        self._deliver(active, now_ms)
        await self._save(active)
        await self._commit(consumer, active)
        self._metrics.waiting(active.telling.waiting(), now_ms)

    async def _settle_role(self, consumer: AIOKafkaConsumer) -> None:
        """Become active, or stand by. What is still being delivered ends where nobody listens, and is told again."""
        self._assignments.changed = False
        self._active = None
        self._unsaved.clear()
        for delivery in self._deliveries:
            delivery.cancel()
        if _WHERE not in consumer.assignment():
            log.info("another notifier is active; standing by")
            return
        active = _Active(self._spec)
        try:
            records = await self._read_state()
        except TimeoutError:
            self._assignments.changed = True  # and so tried again, unless somebody else is to do it by then
            log.error("%s cannot be read: nobody is told of anything yet", topics.NOTIFIER_STATE)  # noqa: TRY400
            return
        active.telling.restore(_those(records, telling.KEY_PREFIX))
        active.resort.restore(_those(records, last_resort.KEY_PREFIX))
        self._active = active
        log.info("active, with %d state records; channels: %s", len(records), ", ".join(self._channels))

    async def _read_state(self) -> dict[bytes, bytes]:
        """Everything that a former turn wrote. Raises ``TimeoutError`` where the broker does not give it."""
        records: dict[bytes, bytes] = {}

        def take(record: TailRecord) -> None:
            if record.value is None:
                records.pop(record.key or b"", None)
            else:
                records[record.key or b""] = record.value

        tail = CompactedTail(self._spec.brokers, topics.NOTIFIER_STATE, take, client_id=f"{self._spec.client_id}-state")
        await tail.start()
        try:
            await asyncio.wait_for(tail.caught_up(), STATE_WITHIN_MS / 1000)
        finally:
            await tail.stop()
        return records

    def _take(self, active: _Active, records: Iterable[Any], now_ms: int) -> None:
        for record in records:
            active.position = record.offset + 1
            try:
                notice = self._codec.decode(Notice, record.value)
            except (WireError, UnknownSchemaError) as error:
                self._metrics.unreadable(topics.NOTICES)
                log.warning("%s offset %d is no notice: %s", topics.NOTICES, record.offset, error)
                continue
            self._metrics.taken(notice)
            named = self._books.channels.named_by(notice.trigger_id)
            self._note_hidden(active.telling.take(notice, named, now_ms))

    def _look_after(self, active: _Active, changed: Sequence[Emergency], now_ms: int) -> None:
        """Emergencies that need the last resort, or need it no longer. Nothing is lost before all were read."""
        if self._resorting is None or not self._books.caught_up(topics.EMERGENCIES):
            return
        if not active.resort_knows:
            active.resort_knows = True
            changed = self._resorting.begin(active.resort, self._books.emergencies.standing, now_ms)
        for job in self._resorting.work(active.resort, changed, now_ms):
            self._start(job)

    def _deliver(self, active: _Active, now_ms: int) -> None:
        silences = self._books.silences.silences(now_ms)
        messages, hidden = active.telling.due(silences, self._books.emergencies.under_way, now_ms)
        self._note_hidden(hidden)
        for message in messages:
            self._start(self._send(active, message, now_ms))

    async def _send(self, active: _Active, message: Message, now_ms: int) -> None:
        channel = self._channels[message.channel]
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._threads[message.channel], lambda: channel.send(message, now_ms))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is one channel's fault, and tried again
            self._metrics.failed(message)
            pause_ms = active.telling.failed(message, self._clock.now_ms())
            level = logging.WARNING if isinstance(error, DeliveryError) else logging.ERROR
            text = "%s did not take %d notices (%s); trying again in %d ms"
            log.log(level, text, message.channel, len(message.notices), error, pause_ms)
        else:
            self._metrics.sent(message)
            active.telling.sent(message, self._clock.now_ms())

    def _start(self, delivery: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(delivery)
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)

    def _note_hidden(self, hidden: list[Hidden]) -> None:
        self._metrics.hidden(hidden)
        for one in hidden:
            log.info(
                "not told by %s: %s (%s): %s by %s",
                one.channel, one.notice.subject, one.notice.notice_id, one.reason.value, one.by,
            )  # fmt: skip

    async def _save(self, active: _Active) -> None:
        """Write what changed. Raises ``KafkaError``; the records are then written in a later turn."""
        self._unsaved.update([*active.telling.take_dirty(), *active.resort.take_dirty()])
        records = dict(self._unsaved)
        await self._publisher.publish_all(
            [Publish(topics.NOTIFIER_STATE, key, value, partition=0) for key, value in records.items()]
        )
        for key, value in records.items():
            if self._unsaved.get(key, b"") == value:
                del self._unsaved[key]

    async def _commit(self, consumer: AIOKafkaConsumer, active: _Active) -> None:
        """Of what was taken; that it waits is in the state by now."""
        position, active.position = active.position, None
        if position is None or self._assignments.changed:
            return
        try:
            await consumer.commit({_WHERE: position})
        except (CommitFailedError, IllegalStateError) as error:
            log.info("the group has moved on: %s", error)

    async def _hand_over(self) -> None:
        """What is being delivered may end, within half a session; what became of it is written for whoever is next."""
        if self._deliveries:
            await asyncio.wait(set(self._deliveries), timeout=self._spec.session_timeout_ms / 2_000)
        if self._active is not None:
            try:
                async with asyncio.timeout(HAND_OVER_S):
                    await self._save(self._active)
            except (KafkaError, TimeoutError) as error:
                log.warning("the last state was not written (%s): what it says is told again", error)


def _those(records: Mapping[bytes, bytes], prefix: bytes) -> list[tuple[bytes, bytes]]:
    return [(key, value) for key, value in records.items() if key.startswith(prefix)]
