"""What the group's moves mean for a sink."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from aiokafka import ConsumerRebalanceListener, TopicPartition


class Assignments(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types here
    """Notes that positions must be read anew; the worker does it between two flushes."""

    def __init__(self, patience_ms: int) -> None:
        self.changed = False
        self.seen = False
        self.flushing = asyncio.Lock()
        self._patience_ms = patience_ms

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Let a running flush end before the group moves on, so that the next owner reads what it stored."""
        self.changed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience_ms / 1000):
                await self.flushing.acquire()
                self.flushing.release()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.changed = True
        self.seen = True
