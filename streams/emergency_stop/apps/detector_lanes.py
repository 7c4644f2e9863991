"""A lane's state on the broker: its own topic, the other lane's where there is one, and a copy for takeovers."""

from __future__ import annotations

import asyncio
from typing import Final

from emergency_stop.adapters.kafka_topics import describe_topics, ensure_topics
from emergency_stop.adapters.state_seed import StateSource
from emergency_stop.adapters.state_standby import StandbyReader
from emergency_stop.config import Settings
from emergency_stop.domain import topics
from emergency_stop.domain.topics import EVALUATIONS_SPEC, FRESHNESS_SPEC, QUESTIONS_SPEC, TopicSpec

GROUP: Final = "estop-detector"
_CREATED_POLL_S: Final = 0.1


class LanesError(ValueError):
    """The lanes' topics on the broker do not fit together; the text says which and what to do."""


def group_of(lane: str) -> str:
    """The consumer group of a lane's detectors."""
    return GROUP if lane == topics.LANES[0] else f"{GROUP}-{lane}"


def standby_of(settings: Settings, name: str, state_topic: str) -> StandbyReader | None:
    if settings.standby_replicas == 0:
        return None
    client_id = f"{name}-standby"
    return StandbyReader(settings.kafka, state_topic, client_id=client_id, bytes_max=settings.standby_bytes_max)


async def state_source(settings: Settings) -> StateSource:
    """The lane's state topic, created where it is missing (as what detectors have been given since the first
    version), and the other lane's where there is one.

    Raises ``LanesError`` where they differ: without the other's state a new lane would repeat hits of long ago.
    """
    own = topics.detector_state(settings.detector_lane)
    specs = (
        TopicSpec(own, None, compacted=True),
        FRESHNESS_SPEC,
        QUESTIONS_SPEC,
        topics.ANSWERS_SPEC,
        EVALUATIONS_SPEC,
    )
    wanted = [settings.partitioned(spec) for spec in specs]
    await ensure_topics(settings.kafka, wanted, replication=settings.replication_factor)
    (other,) = [topics.detector_state(lane) for lane in topics.LANES if lane != settings.detector_lane]
    # Brokers hear of a new topic one after the other.
    while own not in (found := await describe_topics(settings.kafka, [own, other])):  # noqa: ASYNC110  # no event
        await asyncio.sleep(_CREATED_POLL_S)
    if other not in found:
        return StateSource(settings.kafka, own)
    if found[other].partitions != found[own].partitions:
        counts = ", ".join(f"{name}: {found[name].partitions}" for name in (own, other))
        raise LanesError(
            f"both lanes' state topics must have the same number of partitions, but there are {counts};"
            " delete the topic of the lane that is to begin anew"
        )
    return StateSource(settings.kafka, own, other)
