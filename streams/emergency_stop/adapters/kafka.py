"""Writing to the broker: one producer configuration for everything whose loss would matter.

aiokafka's defaults (``acks=1``, no idempotence) lose acknowledged records when a leader dies; here
every record is acknowledged by all in-sync replicas and numbered, so a retry cannot double it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Coroutine, Iterator, Sequence
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import IncompatibleBrokerVersion, KafkaConnectionError, UnknownError, UnsupportedVersionError

from emergency_stop.adapters.kafka_answers import install_answers
from emergency_stop.adapters.kafka_patience import install_patience
from emergency_stop.adapters.kafka_security import client_arguments
from emergency_stop.config.kafka import Brokers, brokers_of
from emergency_stop.ports import Publish, Publisher

install_patience()
install_answers()
log = logging.getLogger(__name__)

T = TypeVar("T")

REQUEST_BYTES_MAX: Final = 8 * 1024 * 1024
BATCH_BYTES_MAX: Final = 512 * 1024
#: How long a producer that is stopped goes on trying. One that numbers its records would for ever.
DELIVER_WITHIN_MS: Final = 5_000
#: A consumer that is stopped tells its group; without a broker, nobody answers.
STOP_WITHIN_S: Final = 10.0
#: Of many records so many are enqueued before the event loop has its turn, about five milliseconds.
RECORDS_AT_ONCE: Final = 200


class KafkaPublisher(Publisher):
    """A ``ports.Publisher`` on its own connection; the stop path gets an instance to itself.

    Records of one partition keep the order of the ``publish`` calls. ``start`` and ``stop`` are
    idempotent. Must be used from the event loop that called ``start``.
    """

    def __init__(
        self, brokers: str | Brokers, *, client_id: str, compression: str | None = None, linger_ms: int = 0
    ) -> None:
        self._brokers = brokers_of(brokers)
        self._settings: dict[str, Any] = {
            "client_id": client_id,
            "acks": "all",
            "compression_type": compression,
            "linger_ms": linger_ms,
            "max_request_size": REQUEST_BYTES_MAX,
            "max_batch_size": BATCH_BYTES_MAX,
            "request_timeout_ms": 30_000,
        }
        self._producer: AIOKafkaProducer | None = None
        #: First come, first served: a full batch makes send() wait, and later calls must not overtake.
        self._order = asyncio.Lock()
        self._sending: set[asyncio.Future[Any]] = set()

    async def start(self) -> None:
        """Connect. Raises ``KafkaConnectionError`` when no broker answers, ``KafkaSignInError`` when one refuses."""
        if self._producer is None:
            self._producer = await _start_idempotent(self._brokers, self._settings)

    async def stop(self) -> None:
        """Deliver what is enqueued, then disconnect; what is not delivered within ``DELIVER_WITHIN_MS`` fails."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DELIVER_WITHIN_MS / 1000
        if self._sending:
            await asyncio.wait([*self._sending], timeout=DELIVER_WITHIN_MS / 1000)
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop_producer(producer, max(0.0, deadline - loop.time()))
        for waiting in self._sending:  # for a partition, or for room
            waiting.cancel()

    async def flush(self) -> None:
        """Wait until everything published so far is acknowledged, or has failed."""
        if self._sending:
            await asyncio.wait([*self._sending])
        await self._running().flush()

    def publish_all(self, records: Sequence[Publish]) -> Awaitable[None]:
        """Start sending now, in call order; await the result for the acknowledgement of all. Raises the first error."""
        return self._begin(self._publish(records))

    def append(self, records: Sequence[Publish]) -> Awaitable[Sequence[int]]:
        """See ``ports.Publisher``. There is none of a batch that was sent again and that the broker took long ago."""
        return self._begin(self._send(records))

    def _begin(self, sending: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        begun = asyncio.ensure_future(sending)
        self._sending.add(begun)
        begun.add_done_callback(self._sending.discard)
        return begun

    async def _publish(self, records: Sequence[Publish]) -> None:
        await self._send(records)

    async def _send(self, records: Sequence[Publish]) -> list[int]:
        """The offset of each record, once all are acknowledged."""
        try:
            return await self._send_in_order(records)
        except asyncio.CancelledError:
            if self._producer is not None:
                raise
            raise _undelivered() from None

    async def _send_in_order(self, records: Sequence[Publish]) -> list[int]:
        """In one task and without a pause per record, so that whole batches are full when the sender looks."""
        if not records:  # nothing need wait for its turn
            return []
        acknowledged: list[asyncio.Future[Any]] = []
        async with self._order:
            producer = self._running()
            for number, one in enumerate(records, start=1):
                acknowledged.append(
                    await producer.send(
                        one.topic, one.value, one.key, one.partition, one.timestamp_ms, headers=list(one.headers)
                    )
                )
                if number % RECORDS_AT_ONCE == 0:
                    await asyncio.sleep(0)
        return [int(one.offset) for one in await asyncio.gather(*acknowledged)]

    def _running(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise RuntimeError("publisher is not started; await start() first")
        return self._producer


async def _start_idempotent(brokers: Brokers, settings: dict[str, Any]) -> AIOKafkaProducer:
    try:
        with _without_traceback():
            return await _started(brokers, {**settings, "enable_idempotence": True})
    except (IncompatibleBrokerVersion, UnsupportedVersionError, UnknownError) as error:
        # Tansu answers InitProducerId with UNKNOWN_SERVER_ERROR; Apache Kafka has no such answer to it.
        log.warning(
            "the broker refuses InitProducerId (%s; the embedded development broker lacks it): producing without"
            " idempotence, so a retried record may appear twice; ids make that harmless",
            type(error).__name__,
        )
        return await _started(brokers, settings)


@contextlib.contextmanager
def _without_traceback() -> Iterator[None]:
    """Aiokafka logs the refusal as an unexpected error; below it is expected, and said in one line."""

    def keep(record: logging.LogRecord) -> bool:
        return "InitProducerIdRequest" not in record.getMessage()

    sender = logging.getLogger("aiokafka.producer.sender")
    sender.addFilter(keep)
    try:
        yield
    finally:
        sender.removeFilter(keep)


async def _started(brokers: Brokers, settings: dict[str, Any]) -> AIOKafkaProducer:
    producer = AIOKafkaProducer(**client_arguments(brokers), **settings)
    try:
        await producer.start()
    except BaseException:
        await producer.stop()
        raise
    return producer


async def _stop_producer(producer: AIOKafkaProducer, within_s: float) -> None:
    """As its own ``stop``, which waits for the broker for ever; a process that is told to end must end without one."""
    stopping = asyncio.ensure_future(producer.stop())
    await asyncio.wait({stopping}, timeout=within_s)
    if stopping.done():
        stopping.result()
        return
    log.warning("records were not delivered: no broker took them within %d ms of the end", DELIVER_WITHIN_MS)
    stopping.cancel()
    producer._message_accumulator.fail_all(_undelivered())  # noqa: SLF001  # what stop() does not do
    await producer.client.close()
    await asyncio.wait({asyncio.ensure_future(producer._sender.close())}, timeout=1.0)  # noqa: SLF001


def _undelivered() -> KafkaConnectionError:
    return KafkaConnectionError("the producer was stopped before a broker took the record")


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Close ``consumer`` whatever state the broker is in; never raises for the broker's sake.

    aiokafka's own ``stop()`` lets the CancelledError of a fetch that waits for a lost broker escape: its
    caller would end as if cancelled, in silence, and the connection would stay open.
    """
    stopping = asyncio.ensure_future(consumer.stop())
    await asyncio.wait({stopping}, timeout=STOP_WITHIN_S)
    if not stopping.done():
        log.warning("a consumer was not let go by its broker within %g s; it is left", STOP_WITHIN_S)
        stopping.cancel()
        await asyncio.wait({stopping}, timeout=1.0)
    if not stopping.done() or stopping.cancelled() or stopping.exception() is not None:
        await consumer._client.close()  # noqa: SLF001  # what stop() did not come to
