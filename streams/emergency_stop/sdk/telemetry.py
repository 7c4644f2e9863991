"""Telemetry from within a service: handed over without waiting, published beside the stop path.

Whoever reports trouble must not get into trouble by it. ``offer`` neither waits nor raises; what it took is
kept within a bound of bytes and published by a task with a connection of its own, so that neither a
flood nor a broker that is gone can delay an answer to a stop. What is lost is counted, by the reason.

Where master keys are configured, sensitive fields are sealed before they leave (docs/privacy.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import uuid
from collections import deque
from dataclasses import dataclass
from enum import StrEnum, unique
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from aiokafka.errors import KafkaError

from emergency_stop.adapters.account_keys import AccountKeyring
from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.config.kafka import Brokers
from emergency_stop.domain.telemetry import TelemetryEvent
from emergency_stop.domain.topics import TELEMETRY
from emergency_stop.domain.values import ACCOUNT_ID_LENGTH_MAX, is_account_id, is_service_name
from emergency_stop.ports import Clock
from emergency_stop.sdk.sign_in import signed_in
from emergency_stop.wire.codec import encode_body, frame, to_plain
from emergency_stop.wire.registry import LocalRegistry, Registry
from emergency_stop.wire.sensitive import has_sensitive

log = logging.getLogger(__name__)

QUEUE_BYTES_MAX: Final = 8 * 1024 * 1024
#: What an event costs beside its key and value: the queue's entry, and the task that sends it.
ENTRY_BYTES: Final = 2_048
#: So many events wait for the broker's acknowledgement; a larger number would only move the queue.
UNACKNOWLEDGED_MAX: Final = 500
LINGER_MS: Final = 5
RETRY_MS: Final = 1_000
LEAVE_MS: Final = 5_000
#: A sealed text is longer than the text: what an event with such texts may grow by.
SEALED_BYTES: Final = 512
PRIVACY_KEYS_VARIABLE: Final = "ESTOP_PRIVACY_KEYS"
_TOPIC_OF: Final = {spec.record: spec.name for spec in TELEMETRY if spec.record}


@unique
class Loss(StrEnum):
    """Why an event was not published."""

    #: Its fields do not fit the schema, or a number in it is not finite.
    INVALID = "invalid"
    #: The queue was full: of what waited, the oldest gave way.
    OVERFLOW = "overflow"
    #: The broker did not take it in time.
    UNDELIVERED = "undelivered"
    #: It was offered after ``stop``.
    CLOSED = "closed"


class TelemetrySink(Protocol):
    """Where events go; ``Telemetry`` is one."""

    def offer(self, event: TelemetryEvent) -> bool:
        """Take ``event`` over without waiting; ``False`` where it is lost already. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class TelemetryStats:
    """``offered`` = ``delivered`` + ``waiting`` + the sum of ``lost``, at any time."""

    offered: int
    delivered: int
    waiting: int
    lost: dict[Loss, int]
    #: Of those that were sealed: how many nobody can ever open, because no key could be had in time.
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class _Entry:
    record: str
    key: bytes
    body: bytes
    #: What is to be sealed before it goes out; ``None``: ``body`` goes out as it is.
    plain: dict[str, Any] | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.key) + len(self.body) + ENTRY_BYTES + (0 if self.plain is None else SEALED_BYTES)


class Telemetry:
    """Publishes the events of ``service``. All methods belong to one event loop.

    Events may be offered before ``start`` and while the broker is away: they wait, ``queue_bytes_max`` at most.
    """

    def __init__(
        self,
        service: str,
        brokers: str | Brokers,
        *,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        registry: Registry | None = None,
        clock: Clock | None = None,
        privacy_keys: str | os.PathLike[str] | None = None,
    ) -> None:
        """``privacy_keys`` is the file of master keys; ``None``: the one that ``ESTOP_PRIVACY_KEYS`` names, and where
        that is not set either, sensitive fields go out in the clear. Raises ``KeyFileError`` for a file that cannot
        be used. ``brokers``: see ``sign_in``.
        """
        if queue_bytes_max < ENTRY_BYTES:
            raise ValueError(f"queue_bytes_max {queue_bytes_max} is too small; allowed: {ENTRY_BYTES} bytes or more")
        brokers = signed_in(brokers)
        self.service: Final = service
        self.now_ms: Final = (clock or SystemClock()).now_ms
        self._registry = registry or LocalRegistry()
        self._queue_bytes_max = queue_bytes_max
        name = f"{service}-telemetry-{uuid.uuid4().hex[:8]}"
        self._publisher = KafkaPublisher(brokers, client_id=name, linger_ms=LINGER_MS)
        key_file = privacy_keys or os.environ.get(PRIVACY_KEYS_VARIABLE)
        self._keyring = (
            AccountKeyring(brokers, Path(key_file), client_id=name, registry=self._registry, clock=clock)
            if key_file
            else None
        )
        self._queue: deque[_Entry] = deque()
        self._held_bytes = 0
        self._sending: dict[asyncio.Future[None], _Entry] = {}
        #: Set when something arrived or left; waiters look for themselves what it was.
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self._offered = 0
        self._delivered = 0
        self._lost = dict.fromkeys(Loss, 0)

    @property
    def stats(self) -> TelemetryStats:
        waiting = len(self._queue) + len(self._sending)
        unreadable = self._keyring.unreadable if self._keyring else 0
        return TelemetryStats(self._offered, self._delivered, waiting, dict(self._lost), unreadable)

    def offer(self, event: TelemetryEvent) -> bool:
        """Take ``event`` over; see ``TelemetrySink``. Empty ids, times and sources are filled in here."""
        self._offered += 1
        if self._is_closed:
            return self._lose(Loss.CLOSED)
        try:
            entry = self._entry(event)
        except Exception as error:  # noqa: BLE001  # whatever is wrong with an event, its sender goes on
            log.warning("%s: a %s is not telemetry: %s", self.service, type(event).__name__, error)
            return self._lose(Loss.INVALID)
        while self._queue and self._held_bytes + entry.size_bytes > self._queue_bytes_max:
            # what is newest tells most about what is going on
            self._held_bytes -= self._queue.popleft().size_bytes
            self._lose(Loss.OVERFLOW)
        if self._held_bytes + entry.size_bytes > self._queue_bytes_max:
            return self._lose(Loss.OVERFLOW)
        if self._keyring is not None and entry.plain is not None:
            self._keyring.want(event.account_id)
        self._queue.append(entry)
        self._held_bytes += entry.size_bytes
        self._changed.set()
        return True

    async def start(self) -> None:
        """Begin to publish, in the background: returns at once, whether or not a broker answers. Idempotent."""
        if self._task is None:
            if self._keyring is not None:
                await self._keyring.start()
            self._task = asyncio.create_task(self._run(), name=f"telemetry {self.service}")

    async def stop(self, within_ms: int = LEAVE_MS) -> None:
        """Publish what waits, then disconnect; what has not left after ``within_ms`` is lost, and counted."""
        self._is_closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_ms / 1000 if self._task else 0):
                while self._queue or self._sending:
                    self._changed.clear()
                    await self._changed.wait()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._give_up()
        with contextlib.suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(within_ms / 1000):
                await self._publisher.stop()
                if self._keyring is not None:
                    await self._keyring.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # -------------------------------------------------------------------------------------------- publishing

    async def _run(self) -> None:
        ids = await self._schema_ids()
        await self._connect()
        while True:
            await self._wait_for_work()
            entry = self._queue[0]
            body = await self._sealed(entry)
            if not self._queue or self._queue[0] is not entry:
                continue  # it gave way to others meanwhile, and was counted
            self._queue.popleft()
            value = frame(ids[entry.record], body)
            future = asyncio.ensure_future(self._publisher.publish(_TOPIC_OF[entry.record], entry.key, value))
            self._sending[future] = entry
            future.add_done_callback(self._on_sent)

    async def _sealed(self, entry: _Entry) -> bytes:
        if self._keyring is None or entry.plain is None:
            return entry.body
        return encode_body(entry.record, await self._keyring.seal(entry.record, entry.plain))

    async def _wait_for_work(self) -> None:
        """Until something waits and the broker owes few enough answers."""
        while not self._queue or len(self._sending) >= UNACKNOWLEDGED_MAX:
            self._changed.clear()
            await self._changed.wait()

    async def _schema_ids(self) -> dict[str, int]:
        """A registry may block, and may be away."""
        while True:
            try:
                return {
                    record: await asyncio.to_thread(self._registry.schema_id, record, topic)
                    for record, topic in _TOPIC_OF.items()
                }
            except (RuntimeError, OSError, LookupError) as error:
                log.warning("%s: the ids of telemetry are not known yet: %s", self.service, error)
                await asyncio.sleep(RETRY_MS / 1000)

    async def _connect(self) -> None:
        while True:
            try:
                await self._publisher.start()
            except KafkaError as error:
                log.warning("%s: telemetry waits for the broker: %r", self.service, error)
                await asyncio.sleep(RETRY_MS / 1000)
            else:
                return

    def _on_sent(self, future: asyncio.Future[None]) -> None:
        entry = self._sending.pop(future, None)
        if entry is None:
            return
        self._held_bytes -= entry.size_bytes
        self._changed.set()
        if future.cancelled() or future.exception() is not None:
            self._lose(Loss.UNDELIVERED)
        else:
            self._delivered += 1

    def _give_up(self) -> None:
        """Nothing is sent any more: what still waits is lost."""
        self._lost[Loss.UNDELIVERED] += len(self._queue) + len(self._sending)
        self._queue.clear()
        sending, self._sending = self._sending, {}
        self._held_bytes = 0
        for future in sending:
            future.cancel()

    def _lose(self, loss: Loss) -> bool:
        self._lost[loss] += 1
        if self._lost[loss] & (self._lost[loss] - 1) == 0:  # at 1, 2, 4, 8 …: a flood of losses is no flood of lines
            log.warning("%s: telemetry lost (%s), %d so far", self.service, loss.value, self._lost[loss])
        return False

    # ----------------------------------------------------------------------------------------------- an event

    def _entry(self, event: TelemetryEvent) -> _Entry:
        """Raises whatever is wrong with ``event``."""
        record = type(event).__name__
        if record not in _TOPIC_OF:
            raise TypeError(f"{record} is none of {', '.join(_TOPIC_OF)}")
        plain = to_plain(event)
        _check(record, plain)
        plain["event_id"] = event.event_id or str(uuid.uuid4())
        plain["occurred_at"] = event.occurred_at or self.now_ms()
        plain["source"] = event.source or self.service
        is_open = self._keyring is not None and has_sensitive(record, plain)
        return _Entry(record, event.account_id.encode(), encode_body(record, plain), plain if is_open else None)


def _check(record: str, plain: dict[str, Any]) -> None:
    """What the schema allows and a detector would not take. Raises ``ValueError``."""
    account_id = plain["account_id"]
    if not is_account_id(account_id):
        raise ValueError(
            f"account_id {account_id!r:.80} could not be stopped; allowed: 1 to {ACCOUNT_ID_LENGTH_MAX} characters,"
            " without white space at the ends"
        )
    if record == "SystemEvent" and not is_service_name(account_id.partition("@")[0]):
        raise ValueError(f"account_id {account_id!r:.80} names no service that can be stopped; allowed: service@host")
    for name, value in plain.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is {value}; a finite number is needed")
