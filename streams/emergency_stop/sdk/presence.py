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
from emergency_stop.domain.texts import NAME_LENGTH_MAX, fit
from emergency_stop.domain.values import DEPENDS_ON_MAX, SERVICE_NAME_LENGTH_MAX, InstanceState
from emergency_stop.sdk.gate import Gate
from emergency_stop.sdk.health import Health
from emergency_stop.sdk.leases import Leases
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry_http import RegistryError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Instance:
    """Who announces itself. Raises ``ValueError`` for what cannot be announced."""

    service: str
    instance_id: str
    depends_on: tuple[str, ...] = ()
    version: str = ""

    def __post_init__(self) -> None:
        self._check("service", self.service, SERVICE_NAME_LENGTH_MAX)
        self._check("instance_id", self.instance_id, NAME_LENGTH_MAX)
        self._check("version", self.version, NAME_LENGTH_MAX)
        for other in self.depends_on:
            self._check("depends_on", other, SERVICE_NAME_LENGTH_MAX)
        if len(self.depends_on) > DEPENDS_ON_MAX:
            raise ValueError(
                f"depends_on has {len(self.depends_on)} services; allowed: at most {DEPENDS_ON_MAX}. Name those that"
                " the service calls itself, not what they need in turn"
            )

    def _check(self, field_name: str, value: str, length_max: int) -> None:
        if fit(value, length_max) != value:
            raise ValueError(
                f"{field_name}={fit(value, 120)!r} cannot be announced; allowed: at most {length_max} characters that"
                " UTF-8 can carry"
            )

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
            await self._announce_or_log("what ails it was not announced")  # the next heartbeat tells it as well
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
            await self._announce_or_log("heartbeat failed")

    async def _announce_or_log(self, failed: str) -> None:
        """Whatever is wrong with one heartbeat, the next may go out: without any the instance counts as lost."""
        name = f"{self.instance.service}/{self.instance.instance_id}"
        try:
            await self.announce(InstanceState.UP)
        except (KafkaError, RegistryError) as error:
            log.warning("%s: %s: %r", name, failed, error)
        except Exception:
            log.exception("%s: %s", name, failed)

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
