"""Partitions of a broker in memory, and producers that reach it, or do not for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

from emergency_stop.adapters.state_log import RestoredState, StateLog, fold
from emergency_stop.adapters.state_tenure import Glance
from emergency_stop.ports import Publish, Publisher

STATE = "state"


class Logs:
    """What was written, by topic, in order."""

    def __init__(self) -> None:
        self.records: dict[str, list[Publish]] = {}

    def of(self, topic: str) -> list[Publish]:
        return self.records.setdefault(topic, [])

    def values(self, topic: str) -> list[bytes | None]:
        return [one.value for one in self.of(topic)]

    def restored(self) -> RestoredState:
        return fold([(one.key or b"", one.value) for one in self.of(STATE)])

    async def look(self, first: int, up_to: int) -> Glance:
        """As ``adapters.state_log.looking``."""
        found = self.of(STATE)[first:]
        assert first + len(found) >= up_to
        return Glance(max(int.from_bytes((one.key or b"")[:8], "big") for one in found), first + len(found))


class Producer(Publisher):
    """Records of a topic reach their log in the order in which they were sent, once ``cut`` is not set for it."""

    def __init__(self, logs: Logs) -> None:
        self.logs = logs
        self._cut: dict[str, asyncio.Event] = {}
        self.refused: set[str] = set()
        self._order: dict[str, asyncio.Lock] = {}

    def cut(self, topic: str) -> None:
        """From now on nothing of ``topic`` arrives, until ``heal``."""
        self._cut[topic] = asyncio.Event()

    def heal(self, topic: str) -> None:
        self._cut.pop(topic).set()

    def publish_all(self, records: Sequence[Publish]) -> Awaitable[None]:
        async def publish() -> None:
            await self._write(records)

        return asyncio.ensure_future(publish())

    def append(self, records: Sequence[Publish]) -> Awaitable[Sequence[int]]:
        return asyncio.ensure_future(self._write(records))

    async def _write(self, records: Sequence[Publish]) -> list[int]:
        offsets = []
        for topic in dict.fromkeys(one.topic for one in records):
            async with self._order.setdefault(topic, asyncio.Lock()):
                while topic in self._cut:
                    await self._cut[topic].wait()
                if topic in self.refused:
                    raise ConnectionError(topic)
                for one in (one for one in records if one.topic == topic):
                    offsets.append(len(self.logs.of(topic)))
                    self.logs.of(topic).append(one)
        return offsets


async def owner(logs: Logs, producer: Publisher, generation: int) -> StateLog:
    """Who takes the log over at that generation."""
    state_log = StateLog(producer, STATE, 0, generation, logs.restored(), logs.look)
    mark = await state_log.mark()
    state_log.begin(logs.restored(), mark)
    return state_log
