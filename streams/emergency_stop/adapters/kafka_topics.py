"""Creating the topics of an installation and telling how the existing ones differ."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from emergency_stop.adapters.kafka_answers import install_answers
from emergency_stop.adapters.kafka_security import client_arguments
from emergency_stop.config.kafka import Brokers
from emergency_stop.domain.topics import TopicSpec

install_answers()
log = logging.getLogger(__name__)

#: A compacted topic's segments roll quickly so that compaction keeps restores short.
COMPACTED_CONFIG: Final = {
    "cleanup.policy": "compact",
    "segment.ms": "600000",
    "min.cleanable.dirty.ratio": "0.3",
    "max.message.bytes": "8388608",
}
PLAIN_CONFIG: Final = {"cleanup.policy": "delete", "max.message.bytes": "8388608"}


@dataclass(frozen=True, slots=True)
class TopicReport:
    """A topic as the broker has it. ``cleanup_policy`` is ``None`` where the broker does not say."""

    name: str
    partitions: int
    cleanup_policy: str | None


def topic_config(spec: TopicSpec) -> dict[str, str]:
    """The broker settings that ``spec`` needs."""
    return dict(COMPACTED_CONFIG if spec.compacted else PLAIN_CONFIG)


async def ensure_topics(brokers: str | Brokers, specs: Iterable[TopicSpec], *, replication: int = 1) -> tuple[str, ...]:
    """Create what is missing of ``specs``; returns the names created. Existing topics are left alone."""
    wanted = list(specs)
    admin = await _admin(brokers)
    try:
        existing = set(await admin.list_topics())
        created = [spec.name for spec in wanted if spec.name not in existing]
        fresh = [
            NewTopic(spec.name, spec.partitions, replication, topic_configs=topic_config(spec))
            for spec in wanted
            if spec.name not in existing
        ]
        if fresh:
            _raise_for(await admin.create_topics(fresh))
    finally:
        await admin.close()
    return tuple(created)


async def describe_topics(brokers: str | Brokers, names: Iterable[str]) -> dict[str, TopicReport]:
    """What the broker has of ``names``; missing ones are absent from the result."""
    asked = list(names)
    admin = await _admin(brokers)
    try:
        existing = set(await admin.list_topics())
        present = [name for name in asked if name in existing]
        if not present:
            return {}
        partitions = {entry["topic"]: len(entry["partitions"]) for entry in await admin.describe_topics(present)}
        policies = await _cleanup_policies(admin, present)
    finally:
        await admin.close()
    return {name: TopicReport(name, partitions.get(name, 0), policies.get(name)) for name in present}


async def _admin(brokers: str | Brokers) -> AIOKafkaAdminClient:
    admin = AIOKafkaAdminClient(**client_arguments(brokers), client_id="estop-admin")
    try:
        await admin.start()
    except BaseException:
        await admin.close()
        raise
    return admin


def _raise_for(response: Any) -> None:
    """Another process may create the same topic at the same moment: that is success."""
    for name, code, *_ in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise error(f"creating topic {name} failed")


async def _cleanup_policies(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, str]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    try:
        responses = await admin.describe_configs(resources)
    except (KafkaError, NotImplementedError) as error:
        log.info("the broker does not describe topic settings: %s", error)
        return {}
    policies: dict[str, str] = {}
    for response in responses:
        for _, _, _, name, entries in response.resources:
            policies.update((name, entry[1]) for entry in entries if entry[0] == "cleanup.policy")
    return policies
