"""Telling what this process uses on ``telemetry.system``, as any service would: so that triggers watch it too.

Only from when it is past a bound until a while after. A process that is well says nothing: its samples would stand
among those of the user's own services, and fill a topic that nobody else may write to. While it says something, it does
so regularly, because triggers average over what is there: of bad moments alone every average is bad. And it goes on
afterwards, because only samples can say that it is over.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import uuid
from collections.abc import Callable
from typing import Final

import psutil
from aiokafka.errors import KafkaError

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.process_usage import Meter
from emergency_stop.config import Settings
from emergency_stop.domain.telemetry import SystemEvent
from emergency_stop.domain.topics import TELEMETRY_SYSTEM
from emergency_stop.domain.usage import Usage
from emergency_stop.domain.values import is_account_id
from emergency_stop.ports import Clock
from emergency_stop.wire.codec import encode_record, to_plain
from emergency_stop.wire.registry import Registry

log = logging.getLogger(__name__)

#: How long after the last moment past a bound it is still reported: longer than most triggers' windows.
AFTERWARDS_MS: Final = 300_000
#: How long one report may take; a later one says more than an old one.
PATIENCE_S: Final = 5.0
_RECORD: Final = SystemEvent.__name__


def host_of(settings: Settings, service: str, machine: str) -> str:
    """The machine, and the process on it where that has a name: two on one machine are not averaged into one."""
    host = f"{machine}/{settings.instance_id}" if settings.is_named else machine
    return host if is_account_id(f"{service}@{host}") else machine


class UsageReporter:
    """On a connection of its own, made once there is something to tell. Nothing else waits for it, and it never
    raises for the broker's or the registry's sake. ``run`` never ends.
    """

    def __init__(
        self,
        service: str,
        settings: Settings,
        registry: Registry,
        usage: Callable[[], Usage],
        meter: Meter,
        clock: Clock | None = None,
    ) -> None:
        self._service = service
        self._host = host_of(settings, service, socket.gethostname())
        self._interval_ms = settings.usage_report_ms
        self._registry = registry
        self._usage = usage
        self._meter = meter
        self._clock = clock or SystemClock()
        name = f"{service}-{settings.instance_id}-usage"
        self._publisher = KafkaPublisher(settings.kafka, client_id=name)
        self._failing = False
        #: Since start.
        self.written = 0
        self.lost = 0

    async def run(self) -> None:
        try:
            while self._interval_ms:
                await asyncio.sleep(self._interval_ms / 1000)
                if self._usage().was_over(AFTERWARDS_MS):
                    await self._report()
        finally:
            await self._publisher.stop()

    async def _report(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                # Both may block: the one on a registry, the other on a long list of connections.
                schema_id = await asyncio.to_thread(self._registry.schema_id, _RECORD, TELEMETRY_SYSTEM)
                connections = await asyncio.to_thread(self._meter.open_connections)
                event = self._event(self._usage(), connections)
                if event is None:
                    return
                await self._publisher.start()
                value = encode_record(_RECORD, to_plain(event), schema_id)
                await self._publisher.publish(TELEMETRY_SYSTEM, event.account_id.encode(), value)
        except (TimeoutError, KafkaError, OSError, RuntimeError, LookupError, psutil.Error) as error:
            self.lost += 1
            if not self._failing:
                log.warning("what this process uses could not be reported: %r; it is tried again", error)
            self._failing = True
        else:
            self.written += 1
            self._failing = False

    def _event(self, usage: Usage, connections: int) -> SystemEvent | None:
        """``None`` before there is a whole window."""
        if usage.cpu_percent is None:
            return None
        return SystemEvent(
            account_id=f"{self._service}@{self._host}",
            event_id=str(uuid.uuid4()),
            occurred_at=self._clock.now_ms(),
            source=self._service,
            service=self._service,
            host=self._host,
            cpu_percent=usage.cpu_percent,
            memory_bytes=float(usage.memory_bytes),
            open_connections=connections,
        )
