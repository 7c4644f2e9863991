"""What a coordinator must find on the broker before it starts, and what it can do without: asked in one go."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from emergency_stop.adapters.kafka_topics import TopicReport, describe_topics
from emergency_stop.adapters.schemas_ready import SchemasReady
from emergency_stop.apps.coordinator_telling import TOLD
from emergency_stop.config import Settings
from emergency_stop.domain import topics
from emergency_stop.wire.registry import Registry

log = logging.getLogger(__name__)

INPUTS: Final = tuple(spec.name for spec in topics.COORDINATOR_INPUTS)
#: Whoever waited for one of these could make no stop durable, and services without leases stop.
_WRITTEN: Final = (topics.HOLDS, topics.EMERGENCIES, topics.RECOVERIES, topics.AUDIT, topics.LEASES)


class TopicsError(ValueError):
    """The topics on the broker cannot be used as they are; the text says which and what to do."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Partitions of the inputs, of telemetry, and of questions that may be asked; which of ``TOLD`` exist."""

    partitions: int
    telemetry: int
    questions: int
    told: frozenset[str]


async def find_layout(settings: Settings) -> Layout:
    """Raises ``TopicsError`` where the inputs miss or differ, or a topic misses that is written."""
    wanted = (*INPUTS, topics.COORDINATOR_STATE, topics.TELEMETRY_HEALTH, topics.QUESTIONS, *_WRITTEN, *TOLD)
    found = await describe_topics(settings.kafka, wanted)
    counts = {name: found[name].partitions if name in found else 0 for name in (*INPUTS, topics.COORDINATOR_STATE)}
    if 0 in counts.values() or len(set(counts.values())) != 1:
        shown = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise TopicsError(f"these topics must all exist with one number of partitions, but there are {shown}")
    missing = [name for name in _WRITTEN if name not in found]
    if missing:
        raise TopicsError(f"{', '.join(missing)} must exist before a coordinator starts; create them (estop check)")
    health = found.get(topics.TELEMETRY_HEALTH)
    telemetry = health.partitions if health else settings.telemetry_partitions
    return Layout(counts[topics.HITS], telemetry, _questions(found, telemetry), _told(found))


def coordinator_schemas(registry: Registry, settings: Settings, layout: Layout) -> SchemasReady:
    """The schemas of all that a coordinator writes, which it would otherwise miss with a stop in its hands; and of what
    it reads, or tells people: these may be missing.
    """
    specs = {spec.name: spec for spec in topics.all_topics(settings.services)}
    written = (topics.HITS, *_WRITTEN, *([topics.QUESTIONS] if layout.questions else []))
    commands = [topics.commands_spec(service) for service in settings.services]
    read = (*INPUTS, topics.SERVICES, topics.FRESHNESS, topics.TRIGGERS, *sorted(layout.told))
    return SchemasReady(registry, [*(specs[name] for name in written), *commands], [specs[name] for name in read])


def _questions(found: Mapping[str, TopicReport], telemetry: int) -> int:
    """How many partitions may be asked: as many as telemetry has, or none where the topic is missing or does not fit.

    Waiting for one that does not exist would keep stops from being made durable. What cannot be asked stays unknown,
    and recovers by a person's word only.
    """
    questions = found.get(topics.QUESTIONS)
    if questions is not None and questions.partitions == telemetry:
        return telemetry
    log.error(
        "%s has %d partitions, and telemetry has %d: whether conditions have cleared stays unknown; create the topic"
        " anew with as many as telemetry ('estop check'), then restart",
        topics.QUESTIONS, questions.partitions if questions else 0, telemetry,
    )  # fmt: skip
    return 0


def _told(found: Mapping[str, TopicReport]) -> frozenset[str]:
    """Those of the topics for people and subscribers that exist; stops do not depend on them."""
    for name in sorted(set(TOLD) - set(found)):
        log.error("there is no topic %s, so nobody hears on it: create it ('estop check'), then restart", name)
    return frozenset(TOLD) & frozenset(found)
