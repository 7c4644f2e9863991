"""An instance's announcements: that it is up, how it fares, that it has left; and the heartbeat that repeats them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from aiokafka.errors import KafkaError

from emergency_stop.adapters.clock import steady_ms
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.domain import topics
from emergency_stop.domain.messages import ServiceInstance
from emergency_stop.domain.values import InstanceState
from emergency_stop.sdk.gate import Gate
from emergency_stop.sdk.health import Health
from emergency_stop.sdk.leases import Leases
from emergency_stop.wire.codec import Codec

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Instance:
    """Who announces itself."""

    service: str
    instance_id: str
    depends_on: tuple[str, ...] = ()
    version: str = ""

    @property
    def key(self) -> bytes:
        """Of its record, of which the newest stands."""
        return f"{self.service}/{self.instance_id}".encode()


@dataclass(kw_only=True)
class Presence:
    """Belongs to the event loop that calls it. ``publisher`` is started and stopped by the caller."""

    instance: Instance
    publisher: KafkaPublisher
    codec: Codec
    gate: Gate
    health: Health
    leases: Callable[[], Leases]
    heartbeat_ms: int
    now_ms: Callable[[], int]
    #: Set it to have the next heartbeat at once.
    beat_now: asyncio.Event = field(default_factory=asyncio.Event)
    started_at: int = 0

    async def ask_health(self) -> str:
        """Ask now, for a probe; what has changed is announced before the answer can be read."""
        before = self.health.problem
        problem = await self.health.ask()
        if problem != before:
            with contextlib.suppress(KafkaError):  # the next heartbeat tells it as well
                await self.announce(InstanceState.UP)
        return problem

    async def beat(self) -> None:
        """For ever: announce, as often as the lease needs it at least."""
        began_ms = steady_ms()
        while True:
            # from beginning to beginning: a slow health check must not make heartbeats rarer
            spent_ms = steady_ms() - began_ms
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout((self.leases().beats_every_ms(self.heartbeat_ms) - spent_ms) / 1000):
                    await self.beat_now.wait()
            self.beat_now.clear()
            began_ms = steady_ms()
            await self.health.ask()
            try:
                await self.announce(InstanceState.UP)
            except KafkaError as error:
                log.warning("%s/%s: heartbeat failed: %r", self.instance.service, self.instance.instance_id, error)

    async def announce(self, state: InstanceState) -> None:
        """Say how the instance is now; returns when the broker has it. Raises ``KafkaError``."""
        heartbeat_at = self.now_ms()
        self.leases().sending(heartbeat_at)
        said = ServiceInstance(
            service=self.instance.service,
            instance_id=self.instance.instance_id,
            state=state,
            started_at=self.started_at,
            heartbeat_at=heartbeat_at,
            in_flight=len(self.gate.in_flight_actions),
            held_scopes=self.gate.held_scopes,
            depends_on=self.instance.depends_on,
            version=self.instance.version,
            healthy=not self.health.problem,
            problem=self.health.problem,
            actions=self.gate.permitted,
            failed_actions=self.gate.failed_actions,
            lease_lost_at=self.leases().lost_at,
        )
        await self.publisher.publish(topics.SERVICES, self.instance.key, self.codec.encode(said, topics.SERVICES))
