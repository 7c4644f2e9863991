"""What must be there before the processes start: topics, registered schemas, and the triggers of a new installation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.adapters.trigger_publishing import publish_versions
from emergency_stop.config import Settings
from emergency_stop.domain.default_triggers import default_pack
from emergency_stop.domain.topics import TRIGGERS
from emergency_stop.domain.triggers import Trigger
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry_http import RegistryError, build_registry


class PreparationError(RuntimeError):
    """A new installation is without its triggers; the text says how to bring them into force."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The topics that were created, and how many default triggers were brought into force."""

    created: tuple[str, ...]
    triggers: int


async def prepare_topics(settings: Settings, now_ms: int, register: Callable[[], object] | None = None) -> Prepared:
    """Create the topics that are missing; bring the default pack into force where ``estop.triggers`` was one of them.

    Never where it was there: an operator may have removed some of the pack. So it is created last, after ``register``,
    which blocks, has put the schemas where the pack needs them: what fails before leaves the pack to the next start.
    Raises ``PreparationError`` where only the pack could not be written.
    """
    specs, count = settings.topics(), settings.replication_factor
    others = [spec for spec in specs if spec.name != TRIGGERS]
    created = await ensure_topics(settings.kafka, others, replication=count)
    if register is not None:
        await asyncio.to_thread(register)
    last = [spec for spec in specs if spec.name == TRIGGERS]
    if not await ensure_topics(settings.kafka, last, replication=count):
        return Prepared(created, 0)
    pack = default_pack(now_ms)
    try:
        await _publish(settings, pack)
    except (KafkaError, RegistryError, OSError) as error:
        raise PreparationError(
            f"{TRIGGERS} was created, and the default triggers could not be written to it: {error}. Only the built-in"
            " ones are in force, and no later start writes them: 'estop triggers add --default-pack' does"
        ) from error
    return Prepared((*created, TRIGGERS), len(pack))


async def _publish(settings: Settings, pack: tuple[Trigger, ...]) -> None:
    publisher = KafkaPublisher(settings.kafka, client_id="estop-preparation")
    await publisher.start()
    try:
        await publish_versions(publisher, Codec(build_registry(settings.registry_url)), pack)
    finally:
        await publisher.stop()
