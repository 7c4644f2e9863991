"""``EmergencyStopSystem``: the guide's operations for programs, over topics alone.

A request goes out as a record, acknowledged by every in-sync replica, before anything is read; what became of it is
read from the coordinator's topics. ClickHouse is not needed, and a stop needs no ``start``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from aiokafka.errors import KafkaError

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_sign_in import KafkaSignInError
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.adapters.schemas_ready import SchemasReady
from emergency_stop.adapters.trigger_publishing import publish_versions
from emergency_stop.config import DEFAULT_SERVICES
from emergency_stop.config.kafka import Brokers
from emergency_stop.domain import topics
from emergency_stop.domain.ids import emergency_id, request_cause
from emergency_stop.domain.messages import AuditRecord, Emergency, Freshness, Lease, Recovery, Request
from emergency_stop.domain.texts import NAME_LENGTH_MAX, fit, fit_name
from emergency_stop.domain.trigger_definitions import parse_trigger
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import ALL_SERVICES, Action, LifecycleKind, RecoveryOutcome, Scope, StopLevel
from emergency_stop.ports import Clock
from emergency_stop.sdk.emergency_book import UNDER_WAY, EmergencyBook, EmergencyEvent, SystemMetrics
from emergency_stop.sdk.events import EventHandler, EventsStartError, LifecycleEvents
from emergency_stop.sdk.sign_in import signed_in
from emergency_stop.sdk.trigger_desk import TriggerDesk, TriggerReader
from emergency_stop.wire.codec import Codec, WireError
from emergency_stop.wire.registry import LocalRegistry, Registry, UnknownSchemaError
from emergency_stop.wire.registry_http import RegistryError

log = logging.getLogger(__name__)
M = TypeVar("M")

START_MS: Final = 60_000
WRITE_MS: Final = 15_000
#: A recovery's phases and its monitoring, at the guide's settings, and some.
RECOVERY_MS: Final = 900_000
STALE_MS: Final = 30_000
_READ: Final = (
    topics.EMERGENCIES, topics.RECOVERIES, topics.FRESHNESS, topics.TRIGGERS, topics.LEASES, topics.AUDIT,
    topics.LIFECYCLE,
)  # fmt: skip


class SystemStartError(RuntimeError):
    """The system's topics could not be read; the text says which. Stops can be asked for all the same."""


class NotWrittenError(RuntimeError):
    """No broker acknowledged the record. It may still be carried out; asking again under the same id does no harm."""


class RecoveryRefusedError(RuntimeError):
    """The coordinator did not start the recovery; the text has its reason. Nothing was resumed."""


@dataclass(frozen=True, slots=True)
class SystemStatus:
    """``is_running``: within ``stale_after_ms`` a coordinator was heard, since ``start``, and detectors evaluated every
    partition of which they ever told.
    """

    is_running: bool
    active_triggers: int
    active_emergencies: int
    metrics: SystemMetrics


class EmergencyStopSystem:
    """An async context manager. All methods belong to one event loop.

    ``requested_by`` is who asks, for the audit. ``services`` are the names that triggers may target, ``read`` reads
    their definitions (see ``trigger_desk``). ``status`` and ``get_…`` answer from memory, without I/O.
    """

    def __init__(
        self,
        brokers: str | Brokers,
        *,
        requested_by: str = "sdk",
        services: Sequence[str] = DEFAULT_SERVICES,
        read: TriggerReader = parse_trigger,
        stale_after_ms: int = STALE_MS,
        registry: Registry | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._brokers = signed_in(brokers)
        self._requested_by = fit_name(requested_by)
        self._stale_after_ms = stale_after_ms
        self._now_ms = (clock or SystemClock()).now_ms
        registry = registry or LocalRegistry()
        self._codec = Codec(registry)
        specs = {spec.name: spec for spec in topics.CONTROL}
        self._schemas = SchemasReady(registry, [specs[topics.REQUESTS]], [specs[name] for name in _READ])
        self._client_id = f"estop-system-{uuid.uuid4().hex[:8]}"
        self._publisher = KafkaPublisher(self._brokers, client_id=self._client_id)
        self._book = EmergencyBook()
        self._desk = TriggerDesk(read, services, requested_by)
        self._events = LifecycleEvents(self._brokers, registry=registry)
        #: The newest moment up to which any lane evaluated a partition.
        self._fresh_at: dict[int, int] = {}
        #: When the newest lease was issued that was heard.
        self._led_at = 0
        #: Set with every record; waiters look for themselves what it was.
        self._changed = asyncio.Event()
        self._tails = (
            self._tail(topics.EMERGENCIES, self._taking(Emergency, self._book.take)),
            self._tail(topics.RECOVERIES, self._taking(Recovery, self._book.take_recovery)),
            self._tail(topics.FRESHNESS, self._taking(Freshness, self._take_freshness)),
            self._tail(topics.TRIGGERS, self._take_trigger),
            self._tail(topics.LEASES, self._taking(Lease, self._take_lease), from_end=True),
        )

    async def start(self, within_ms: int = START_MS) -> None:
        """Read what stands, and begin to follow it. Raises ``SystemStartError``, ``EventsStartError``."""
        try:
            async with asyncio.timeout(within_ms / 1000):
                await self._schemas.ready()
                for tail in self._tails:
                    await tail.start()
                for tail in self._tails:
                    await tail.caught_up(or_refused=True)
            await self._events.start(within_ms)
        except KafkaSignInError as error:
            await self.stop()
            raise SystemStartError(str(error)) from error
        except EventsStartError:
            await self.stop()
            raise
        except TimeoutError:
            await self.stop()
            hint = self._schemas.waits_for or "'estop check' says what is missing"
            raise SystemStartError(
                f"estop.emergencies, -.recoveries, -.freshness, -.triggers and -.leases could not be read from"
                f" {self._brokers} within {within_ms / 1000:g} s; {hint}"
            ) from None

    async def stop(self) -> None:
        """Follow no more. Idempotent."""
        await self._events.stop()
        for tail in self._tails:
            await tail.stop()
        await self._publisher.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --------------------------------------------------------------------------------------------- triggers

    async def add_trigger(self, definition: Mapping[str, Any]) -> str:
        """Bring a trigger into force; returns its id. Names may be in camelCase.

        Raises ``ValueError`` with all that is wrong with it, ``NotWrittenError``.
        """
        return await self._put(*self._desk.added(definition, self._now_ms()))

    async def update_trigger(self, trigger_id: str, changes: Mapping[str, Any]) -> int:
        """Change a trigger; what ``changes`` does not name stays, named ``thresholds`` are all there are then.

        Returns the new version. Raises as ``add_trigger``.
        """
        newer, standing = self._desk.updated(trigger_id, changes, self._now_ms())
        await self._put(newer, standing)
        return newer.version

    async def remove_trigger(self, trigger_id: str) -> None:
        """Take a trigger out of force; its history stays. Raises as ``add_trigger``."""
        await self._put(*self._desk.removed(trigger_id, self._now_ms()))

    # ------------------------------------------------------------------------------------------ emergencies

    async def manual_emergency_stop(
        self,
        scope: str | Scope,
        reason: str,
        level: str | StopLevel = StopLevel.IMMEDIATE,
        *,
        services: Sequence[str] = (ALL_SERVICES,),
        request_id: str | None = None,
    ) -> str:
        """Stop ``global``, ``service:<name>`` or ``account:<id>``; returns the emergency's id.

        On return the stop is in the log and will be carried out; ``completed`` waits for its proof. The same
        ``request_id`` again is the same stop. A reason that is too long is cut. Raises ``ValueError`` for what is none,
        ``NotWrittenError``.
        """
        request = self._request(Action.STOP, _scope(scope), reason, StopLevel(level), request_id, tuple(services))
        await self._send(request)
        return emergency_id(request_cause(request.request_id))

    async def completed(self, emergency: str, within_ms: int) -> EmergencyEvent:
        """The emergency once it is stopped, or was given up. Raises ``TimeoutError``: then it is **not proven**."""
        try:
            async with asyncio.timeout(within_ms / 1000):
                while True:
                    event = self._book.event(emergency)
                    if event is not None and event.state not in UNDER_WAY:
                        return event
                    await self._change()
        except TimeoutError:
            raise TimeoutError(
                f"emergency {emergency} has not ended within {within_ms / 1000:g} s: it is not proven; its request is"
                " in the log and will be carried out"
            ) from None

    def get_emergency_event(self, emergency: str) -> EmergencyEvent | None:
        """How it stands; ``None`` while no coordinator has told of it."""
        return self._book.event(emergency)

    def get_active_emergencies(self) -> list[EmergencyEvent]:
        """Those that hold something now, from oldest to newest."""
        return self._book.active()

    # ------------------------------------------------------------------------------------------- recoveries

    async def start_recovery(
        self, emergency: str, procedure: str | None = None, *, reason: str = "", within_ms: int = RECOVERY_MS
    ) -> bool:
        """Undo an emergency by the named procedure, or by one that is chosen; whether it came to its end.

        False: it failed, and what it let run is held again. Raises ``ValueError`` for an emergency that nobody has told
        of, ``RecoveryRefusedError``, ``NotWrittenError``, and ``TimeoutError`` where it is not known how it ended.
        """
        found = self._book.emergency(emergency)
        if found is None:
            raise ValueError(
                f"emergency {emergency!r} is not known; get_active_emergencies lists those that can recover"
            )
        asked = self._request(
            Action.RECOVER, found.scope, reason or f"recovery asked for by {self._requested_by}", found.level, None,
            (ALL_SERVICES,), epoch=found.epoch, emergency_id=emergency, procedure=procedure,
        )  # fmt: skip
        ended_before = {one.recovery_id for one in self._book.ended_recoveries(emergency)}
        async with self._refusals(asked) as refusals:
            await self._send(asked)
            try:
                async with asyncio.timeout(within_ms / 1000):
                    while True:
                        new = [r for r in self._book.ended_recoveries(emergency) if r.recovery_id not in ended_before]
                        if new:
                            return new[0].outcome is RecoveryOutcome.COMPLETED
                        if refusals:
                            raise RecoveryRefusedError(f"recovery of {emergency} was refused: {refusals[0]}")
                        await self._change()
            except TimeoutError:
                raise TimeoutError(
                    f"how the recovery of {emergency} ended is not known after {within_ms / 1000:g} s; estop.recoveries"
                    " tells, and until then what it holds stays held"
                ) from None

    # ----------------------------------------------------------------------------------- status and events

    def get_system_status(self) -> SystemStatus:
        """What is watched, held and was achieved."""
        oldest = min(self._led_at, *self._fresh_at.values()) if self._fresh_at else 0
        return SystemStatus(
            is_running=self._now_ms() - oldest <= self._stale_after_ms,
            active_triggers=self._desk.active(),
            active_emergencies=len(self._book.active()),
            metrics=self._book.metrics(),
        )

    def on(self, event: str | LifecycleKind, handler: EventHandler, **filters: Any) -> Callable[[], None]:
        """As ``LifecycleEvents.on``."""
        return self._events.on(event, handler, **filters)

    # -------------------------------------------------------------------------------------------- topics

    def _request(
        self, action: Action, scope: str, reason: str, level: StopLevel, request_id: str | None,
        services: tuple[str, ...], **more: Any,
    ) -> Request:  # fmt: skip
        known_as = request_id or str(uuid.uuid4())
        if fit_name(known_as) != known_as:
            raise ValueError(
                f"request_id={fit(known_as, 120)!r} cannot be sent; allowed: at most {NAME_LENGTH_MAX} characters that"
                " UTF-8 can carry"
            )
        if fit(reason) != reason:  # a stop is not refused for its form
            log.warning("the reason of request %s was cut, or mended for UTF-8: %s", known_as, fit(reason))
        return Request(
            request_id=known_as, action=action, scope=scope, level=level, services=services, reason=fit(reason),
            requested_by=self._requested_by, requested_at=self._now_ms(), correlation_id=known_as, **more,
        )  # fmt: skip

    async def _send(self, request: Request) -> None:
        async with self._writing(f"{request.action.value} of {request.scope}, request {request.request_id}"):
            value = self._codec.encode(request, topics.REQUESTS)
            await self._publisher.publish(topics.REQUESTS, request.scope.encode(), value)

    async def _put(self, trigger: Trigger, superseded: Trigger | None) -> str:
        async with self._writing(f"trigger {trigger.trigger_id} version {trigger.version}"):
            await publish_versions(self._publisher, self._codec, [trigger], [superseded] if superseded else [])
        self._desk.take(trigger)
        return trigger.trigger_id

    @contextlib.asynccontextmanager
    async def _writing(self, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(WRITE_MS / 1000):
                await self._publisher.start()
                yield
        except (KafkaError, RegistryError, OSError, TimeoutError) as error:
            raise NotWrittenError(
                f"{what} was not acknowledged by {self._brokers}: {str(error) or 'no answer'}; ask again under the same"
                " id, and see whether the broker and the registry answer ('estop check')"
            ) from error

    @contextlib.asynccontextmanager
    async def _refusals(self, request: Request) -> AsyncIterator[list[str]]:
        """What the coordinator puts on record against ``request``, while it is waited for."""
        found: list[str] = []

        def take(record: AuditRecord) -> None:
            if record.correlation_id == request.correlation_id and record.action.endswith("_refused"):
                found.append(record.reason)

        tail = self._tail(topics.AUDIT, self._taking(AuditRecord, take), from_end=True)
        await tail.start()
        try:
            await tail.caught_up()
            yield found
        finally:
            await tail.stop()

    def _tail(self, topic: str, take: Callable[[TailRecord], None], *, from_end: bool = False) -> CompactedTail:
        return CompactedTail(self._brokers, topic, take, client_id=self._client_id, from_end=from_end)

    def _taking(self, kind: type[M], take: Callable[[M], None]) -> Callable[[TailRecord], None]:
        def on_record(record: TailRecord) -> None:
            if record.value is None:
                return
            try:
                message = self._codec.decode(kind, record.value)
            except (WireError, UnknownSchemaError) as error:
                log.warning("a record with key %r is no %s and was skipped: %s", record.key, kind.__name__, error)
                return
            take(message)
            self._changed.set()

        return on_record

    def _take_trigger(self, record: TailRecord) -> None:
        if record.value is None:
            self._desk.forget((record.key or b"").decode(errors="replace"))
        self._taking(Trigger, self._desk.take)(record)

    def _take_freshness(self, word: Freshness) -> None:
        self._fresh_at[word.partition] = max(word.fresh_at, self._fresh_at.get(word.partition, 0))

    def _take_lease(self, lease: Lease) -> None:
        self._led_at = max(lease.issued_at, self._led_at)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def _scope(scope: str | Scope) -> str:
    """Raises ``ValueError``; an account's bare id, as the guide has it, is told how to be written."""
    try:
        return str(Scope.parse(str(scope)))
    except ValueError as error:
        raise ValueError(f"{error}; an account is named account:{scope}") from None
