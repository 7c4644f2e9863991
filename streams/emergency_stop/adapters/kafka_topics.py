"""Creating the topics of an installation and telling how the existing ones differ."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import InvalidConfigurationError, KafkaError, TopicAlreadyExistsError, for_code

from emergency_stop.adapters.kafka_answers import install_answers
from emergency_stop.adapters.kafka_security import client_arguments
from emergency_stop.config.kafka import Brokers
from emergency_stop.domain.reasons import FUTURE_MS_MAX
from emergency_stop.domain.topics import TELEMETRY, TopicSpec

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
#: The broker's defaults, a week in most, are not for evidence.
KEPT_CONFIG: Final = {**PLAIN_CONFIG, "retention.ms": "-1", "retention.bytes": "-1"}
#: A record says itself when it was sent, and what is later than that by a minute is dead-lettered: so the broker must
#: not take a record that says so of the future. Brokers know this since Kafka 3.6.
FUTURE_CONFIG: Final = "message.timestamp.after.max.ms"
TIMESTAMP_CONFIG: Final = "message.timestamp.type"
#: With this the broker says when a record came, and no producer's clock counts.
LOG_APPEND_TIME: Final = "LogAppendTime"
_TELEMETRY: Final = frozenset(spec.name for spec in TELEMETRY)


@dataclass(frozen=True, slots=True)
class TopicReport:
    """A topic as the broker has it; ``None`` where the broker does not say. Bounds below 0 mean none.

    ``future_ms_max`` is how far ahead of the broker's clock a record's timestamp may be.
    """

    name: str
    partitions: int
    cleanup_policy: str | None
    retention_ms: int | None = None
    retention_bytes: int | None = None
    timestamp_type: str | None = None
    future_ms_max: int | None = None


def topic_config(spec: TopicSpec) -> dict[str, str]:
    """The broker settings that ``spec`` needs."""
    config = dict(COMPACTED_CONFIG if spec.compacted else KEPT_CONFIG if spec.kept else PLAIN_CONFIG)
    return config | ({FUTURE_CONFIG: str(FUTURE_MS_MAX)} if spec.name in _TELEMETRY else {})


async def ensure_topics(brokers: str | Brokers, specs: Iterable[TopicSpec], *, replication: int = 1) -> tuple[str, ...]:
    """Create what is missing of ``specs``; returns the names created. Existing topics are left alone."""
    wanted = list(specs)
    admin = await _admin(brokers)
    try:
        existing = set(await admin.list_topics())
        created = [spec for spec in wanted if spec.name not in existing]
        if created:
            await _create(admin, created, replication)
    finally:
        await admin.close()
    return tuple(spec.name for spec in created)


async def _create(admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec], replication: int) -> None:
    """A broker from before ``FUTURE_CONFIG`` refuses topics that have it: they are created without."""
    refused = _refused_settings(await admin.create_topics([_new(spec, replication) for spec in specs]))
    older = [spec for spec in specs if spec.name in refused & _TELEMETRY]
    if refused - _TELEMETRY:
        raise InvalidConfigurationError(f"creating topic {min(refused - _TELEMETRY)} failed: settings were refused")
    if older:
        log.warning(
            "the broker does not know %s: one producer with a wrong clock can make all later events of its accounts"
            " late; set %s=%s for the topics of telemetry",
            FUTURE_CONFIG, TIMESTAMP_CONFIG, LOG_APPEND_TIME,
        )  # fmt: skip
        _raise_for(await admin.create_topics([_new(spec, replication, leave_out=FUTURE_CONFIG) for spec in older]))


def _new(spec: TopicSpec, replication: int, leave_out: str = "") -> NewTopic:
    config = {name: value for name, value in topic_config(spec).items() if name != leave_out}
    return NewTopic(spec.name, spec.partitions, replication, topic_configs=config)


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
        settings = await _settings(admin, present)
    finally:
        await admin.close()
    return {name: _report(name, partitions.get(name, 0), settings.get(name, {})) for name in present}


def _report(name: str, partitions: int, settings: Mapping[str, str]) -> TopicReport:
    return TopicReport(
        name,
        partitions,
        settings.get("cleanup.policy"),
        retention_ms=_whole(settings.get("retention.ms")),
        retention_bytes=_whole(settings.get("retention.bytes")),
        timestamp_type=settings.get(TIMESTAMP_CONFIG),
        future_ms_max=_whole(settings.get(FUTURE_CONFIG)),
    )


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.lstrip("-").isdigit() else None


async def _admin(brokers: str | Brokers) -> AIOKafkaAdminClient:
    admin = AIOKafkaAdminClient(**client_arguments(brokers), client_id="estop-admin")
    try:
        await admin.start()
    except BaseException:
        await admin.close()
        raise
    return admin


def _refused_settings(response: Any) -> frozenset[str]:
    """Topics whose settings were refused. Raises for whatever else went wrong."""
    refused = {name for name, code, *_ in response.topic_errors if for_code(code) is InvalidConfigurationError}
    _raise_for(response, refused)
    return frozenset(refused)


def _raise_for(response: Any, but_for: Collection[str] = ()) -> None:
    """Another process may create the same topic at the same moment: that is success."""
    for name, code, *_ in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError and name not in but_for:
            raise error(f"creating topic {name} failed")


async def _settings(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    """What the broker says of each topic; nothing where it says nothing."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    try:
        responses = await admin.describe_configs(resources)
    except (KafkaError, NotImplementedError) as error:
        log.info("the broker does not describe topic settings: %s", error)
        return {}
    return {
        name: {entry[0]: entry[1] for entry in entries if entry[1] is not None}
        for response in responses
        for _, _, _, name, entries in response.resources
    }
