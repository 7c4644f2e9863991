"""The broker as the judge sees it: everything that was written, read back from the first to the last offset."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from tests.campaign.telemetry import Record

READ_TIMEOUT_S = 30.0
#: Of one question; a broker that was just started on a busy machine takes its time.
ANSWER_TIMEOUT_S = 60.0
FLUSH_TIMEOUT_S = 60.0
_OFFSET_INVALID = -1001


@dataclass(frozen=True, slots=True)
class Position:
    """How far a consumer group has come in one partition."""

    topic: str
    partition: int
    committed: int
    end: int

    @property
    def lag(self) -> int:
        return self.end - self.committed


class Log:
    """Reads topics of one broker without joining any group. Blocking; not thread-safe."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._consumer = self._open("campaign-reader")

    def _open(self, group: str) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
                "log_level": 2,
                "fetch.message.max.bytes": 4 << 20,
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def partitions(self, topic: str) -> list[int]:
        """Partition numbers of ``topic``; empty where there is no such topic."""
        found = self._consumer.list_topics(topic, timeout=ANSWER_TIMEOUT_S).topics[topic]
        return [] if found.error else sorted(found.partitions)

    def topics(self) -> list[str]:
        return sorted(self._consumer.list_topics(timeout=ANSWER_TIMEOUT_S).topics)

    def end(self, topic: str, partition: int) -> int:
        low_high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWER_TIMEOUT_S)
        return int(low_high[1])

    def read(self, *topics: str, only: Sequence[int] | None = None) -> Iterator[Message]:
        """Every record now in ``topics`` (``only`` in these partitions); in order within a partition.

        Raises ``TimeoutError`` when the broker falls silent before the end.
        """
        everything = [TopicPartition(topic, number, 0) for topic in topics for number in self.partitions(topic)]
        wanted = [at for at in everything if only is None or at.partition in only]
        unread = {(at.topic, at.partition) for at in wanted}
        self._consumer.assign(wanted)
        silent_since_s = time.monotonic()
        while unread:
            # Waits for the whole count or the whole timeout, whichever comes first: both are kept small.
            messages = self._consumer.consume(500, timeout=0.05)
            if messages:
                silent_since_s = time.monotonic()
            elif time.monotonic() - silent_since_s > READ_TIMEOUT_S:
                raise TimeoutError(f"nothing read for {READ_TIMEOUT_S} s before the end of {sorted(unread)}")
            for message in messages:
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread.discard((message.topic(), message.partition()))
                else:
                    raise KafkaException(error)
        self._consumer.unassign()

    def positions(self, group: str, topics: Iterable[str]) -> list[Position]:
        """Where ``group`` stands by its commits; 0 for a partition without one."""
        wanted = [TopicPartition(topic, number) for topic in topics for number in self.partitions(topic)]
        consumer = self._open(group)  # a group's name is fixed per consumer; this one never joins
        try:
            committed = consumer.committed(wanted, timeout=ANSWER_TIMEOUT_S)
        finally:
            consumer.close()
        return [
            Position(
                at.topic,
                at.partition,
                0 if at.offset == _OFFSET_INVALID else at.offset,
                self.end(at.topic, at.partition),
            )
            for at in committed
        ]


class Sender(threading.Thread):
    """Sends records when they are due; ends when the last one is acknowledged.

    One idempotent producer, so that what is sent is in the log once; ``failures`` holds what the
    broker refused, and must be empty.
    """

    def __init__(self, bootstrap: str, records: Iterator[Record]) -> None:
        super().__init__(name="sender", daemon=True)
        self._records = records
        self.sent = 0
        self.failures: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 20,
                "log_level": 2,
                "partitioner": "murmur2_random",
                "queue.buffering.max.messages": 500_000,
            }
        )

    def send_backlog(self, count: int) -> None:
        """Send the first ``count`` records at once, and wait until the broker has them."""
        for _ in range(count):
            self._send(next(self._records))
        self._flush()

    def run(self) -> None:
        start_s = time.monotonic()
        for record in self._records:
            while (early_s := record.due_ms / 1000 - (time.monotonic() - start_s)) > 0:
                self._producer.poll(min(early_s, 0.05))
            self._send(record)
        self._flush()

    def _send(self, record: Record) -> None:
        while True:
            try:
                self._producer.produce(record.topic, record.value, record.key, on_delivery=self._delivered)
                break
            except BufferError:
                self._producer.poll(0.1)
        self.sent += 1
        if self.sent % 512 == 0:
            self._producer.poll(0)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failures.append(f"{message.topic()}: {error}")

    def _flush(self) -> None:
        left = self._producer.flush(FLUSH_TIMEOUT_S)
        if left:
            self.failures.append(f"{left} records not acknowledged within {FLUSH_TIMEOUT_S} s")
