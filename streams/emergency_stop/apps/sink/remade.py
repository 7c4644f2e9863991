"""Topics that were made anew: other records at offsets of which the database has some already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiokafka import TopicPartition

from emergency_stop.adapters.kafka_ranges import ranges
from emergency_stop.config.kafka import Brokers

_ENDS_WITHIN_S: Final = 30


async def still_there(
    brokers: str | Brokers, client_id: str, positions: Mapping[TopicPartition, int]
) -> set[TopicPartition]:
    """Those whose record before the position exists: the embedded broker tells its last batch's end too low."""
    if not positions:
        return set()
    found: set[TopicPartition] = set()
    async with ranges(brokers, f"{client_id}-ends") as records:
        for where, position in positions.items():

            def take(record: Any, where: TopicPartition = where, last: int = position - 1) -> None:
                if record.offset == last:
                    found.add(where)

            await records.read(where.topic, where.partition, position - 1, take, within_s=_ENDS_WITHIN_S)
    return found
