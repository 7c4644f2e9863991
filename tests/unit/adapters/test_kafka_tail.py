"""A tail looks for new partitions now and then; a broker that is away for a moment must not cost it its connections."""

from __future__ import annotations

import time
from typing import Any

import pytest
from aiokafka.errors import KafkaError

from emergency_stop.adapters.kafka_tail import REBUILD_AFTER_MS, RESCAN_MS, RETRY_MS, CompactedTail


class Tail(CompactedTail):
    """Asked by hand; the broker answers with ``found``, or is away."""

    def __init__(self, found: set[int] | None, silent_ms: int) -> None:
        super().__init__("127.0.0.1:9", "estop.holds", lambda _: None, client_id="test")
        self._found = found
        self._progress = time.monotonic() - silent_ms / 1000

    async def _assign(self, consumer: Any, known: set[int]) -> set[int]:
        if self._found is None:
            raise KafkaError("nobody answers")
        return self._found


async def test_new_partitions_are_taken_over() -> None:
    assert await Tail({0, 1}, 0)._rescan(None, {0}) == ({0, 1}, RESCAN_MS)


async def test_a_broker_that_is_away_for_a_moment_is_waited_for_with_what_is_known() -> None:
    assert await Tail(None, REBUILD_AFTER_MS // 2)._rescan(None, {0}) == ({0}, RETRY_MS)


async def test_one_that_stays_away_is_looked_for_at_the_bootstrap_addresses() -> None:
    with pytest.raises(KafkaError):
        await Tail(None, REBUILD_AFTER_MS + 1_000)._rescan(None, {0})
