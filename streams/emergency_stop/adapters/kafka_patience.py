"""A pause before aiokafka asks for metadata again: the third, smallest part of the seam into it.

Where a partition has no leader, aiokafka's producer and consumer ask for metadata until it has one, each time at once.
While a broker stops, it tells of partitions without a leader, and then refuses connections: every client of a process
then asks thousands of times per second, and on a machine that the broker shares, keeps it from starting again. Here an
answer that is none, or that lacks leaders, takes the client's own ``retry_backoff_ms`` longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from aiokafka.client import AIOKafkaClient

_ASK: Final = AIOKafkaClient._metadata_update  # noqa: SLF001  # private API: pinned, and under a contract test
_pause = asyncio.sleep


def _lacks_leaders(cluster: Any, topics: Iterable[str]) -> bool:
    return any(cluster.available_partitions_for_topic(one) != cluster.partitions_for_topic(one) for one in topics)


async def _ask_patiently(client: Any, cluster: Any, topics: Iterable[str] | None) -> bool:
    answered = bool(await _ASK(client, cluster, topics))
    if not answered or _lacks_leaders(cluster, topics or ()):
        await _pause(client._retry_backoff)  # noqa: SLF001
    return answered


def install_patience() -> None:
    """From now on all of aiokafka's clients in this process are patient. Idempotent."""
    AIOKafkaClient._metadata_update = _ask_patiently  # noqa: SLF001
