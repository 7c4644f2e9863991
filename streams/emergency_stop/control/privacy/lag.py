"""What of telemetry the sink has not stored yet: rows of an account that are still to come."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from aiokafka.errors import KafkaError

from emergency_stop.adapters.kafka_ranges import ranges
from emergency_stop.config import Settings
from emergency_stop.control.errors import UnavailableError
from emergency_stop.domain.topics import TELEMETRY

_WITHIN_S: Final = 15.0


async def records_not_stored(settings: Settings, positions: Mapping[tuple[str, int], int]) -> int:
    """How many telemetry records lie behind ``positions``, which are the sink's, by topic and partition.

    Raises ``UnavailableError``.
    """
    count = 0
    try:
        async with asyncio.timeout(_WITHIN_S), ranges(settings.kafka, "estop-cli") as reader:
            for topic in TELEMETRY:
                for partition in range(settings.partitioned(topic).partitions):
                    end = await reader.end(topic.name, partition)
                    count += max(0, end - positions.get((topic.name, partition), 0))
    except (KafkaError, TimeoutError) as error:
        raise UnavailableError(
            f"the ends of telemetry could not be read from ESTOP_BROKERS={settings.brokers}: {error!r}; rows that the"
            " sink stores from now on would stay, so run the same command again"
        ) from error
    return count
