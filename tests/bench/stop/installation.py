"""What the bench runs on: topics, keys, triggers, a detector, a coordinator, and two instances of every service."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.adapters.trigger_publishing import publish_versions
from emergency_stop.apps.coordinator_keys import with_own_key
from emergency_stop.apps.stack.child import Child
from emergency_stop.config import Settings
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.bench.stop.causes import triggers
from tests.bench.stop.witness import Who, Witness

READY_MS: Final = 120_000
INSTANCES_EACH: Final = 2
ACTIONS_PER_S: Final = 10.0
_INSTANCE: Final = ("-m", "tests.bench.stop.instance")


@dataclass
class Installation:
    """An async context manager: inside it everything is ready. ``crowds`` are what instances watch, by size."""

    settings: Settings
    folder: Path
    accounts: int
    crowds: Mapping[str, int]
    instances_each: int = INSTANCES_EACH
    children: dict[str, Child] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # crowds are stopped on purpose: each account's own stop is measured, no common one
        self.settings = replace(with_own_key(self.settings, self.folder), blast_percent=0)
        self.publisher = KafkaPublisher(self.settings.brokers, client_id="bench-stop")
        self.witness = Witness(self.settings.brokers, self.settings.services)
        self._stack = AsyncExitStack()

    @property
    def who(self) -> list[Who]:
        """Every instance, as (service, instance)."""
        numbers = range(1, self.instances_each + 1)
        return [(service, f"{service}-{number}") for service in self.settings.services for number in numbers]

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        replicas = self.settings.replication_factor
        await ensure_topics(self.settings.brokers, self.settings.topics(), replication=replicas)
        await self.publisher.start()
        self._stack.push_async_callback(self.publisher.stop)
        await publish_versions(self.publisher, Codec(LocalRegistry()), triggers(self.settings.services))
        self._stack.push_async_callback(self._stop_children)
        for name in ("detector", "coordinator"):
            self.add(name, [name])
        crowds = [f"{name}={count}" for name, count in self.crowds.items()]
        for service, instance in self.who:
            work = [service, str(self.accounts), str(ACTIONS_PER_S), str(self.folder), *crowds]
            self.add(instance, work, _INSTANCE)
        await asyncio.gather(*(child.ready(READY_MS) for child in self.children.values()))
        await self._stack.enter_async_context(self.witness)

    def add(self, name: str, arguments: list[str], program: tuple[str, ...] | None = None) -> Child:
        """Start one more process; it ends with the installation."""
        child = Child(name, arguments, self.settings, self.folder / f"{name}.log")
        if program is not None:
            child.program = program
        self.children[name] = child
        child.start()
        return child

    async def _stop_children(self) -> None:
        await asyncio.gather(*(child.stop() for child in self.children.values()))
