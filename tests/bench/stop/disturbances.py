"""What may happen while emergencies are under way: telemetry beyond measure, a broker that goes, a group that moves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

from emergency_stop.testing.brokers import ApacheKafka
from emergency_stop.testing.kafka_cluster import KafkaCluster
from tests.bench.stop.installation import READY_MS, Installation
from tests.bench.stop.phase_names import Loss
from tests.bench.stop.witness import now_ms

#: What a detector here is meant to bear every day; overload is ten times as much.
NOMINAL_EVENTS_PER_S: Final = 20_000
_SETTLE_S: Final = 3.0
#: Should the bench end without a word, the load ends by itself.
_LONGEST_S: Final = 900
_BEFORE_BOUNCE_S: Final = 5.0
_STAY_S: Final = 8.0
#: One that is killed or hangs comes back long after the others have found that it is gone.
_AWAY_S: Final = 10.0
_IN_SYNC_S: Final = 0.5
_NICENESS: Final = 10
#: So begin the names of processes that nobody expects back: their group does not wait for them.
UNNAMED: Final = "unnamed-"


@contextlib.asynccontextmanager
async def overload(brokers: str, events_per_s: int, report: dict[str, Any]) -> AsyncIterator[None]:
    """Harmless telemetry at ``events_per_s``; the rate that it reached is added to ``report``."""
    command = ["-m", "tests.bench.background", brokers, str(events_per_s), str(_LONGEST_S)]
    background = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    try:
        await asyncio.sleep(_SETTLE_S)
        yield
    finally:
        background.terminate()
        out, _ = await background.communicate()
    report["background_events_per_s"] = json.loads(out)["events_per_s"]


@dataclass
class Outages:
    """When the broker was told to go, and when it answered again; milliseconds since the epoch."""

    spans: list[tuple[int, int]] = field(default_factory=list)

    def since_answering(self, at_ms: int) -> int:
        """``at_ms``, or when the broker next answered where it was away at that moment."""
        return next((back for gone, back in self.spans if gone <= at_ms < back), at_ms)

    def began_within(self, first_ms: int, last_ms: int) -> bool:
        """Whether the broker went between the two moments."""
        return any(first_ms <= gone <= last_ms for gone, _ in self.spans)


@contextlib.asynccontextmanager
async def bounces(kafka: ApacheKafka, outages: Outages, times: int, every_s: float) -> AsyncIterator[None]:
    """The broker is stopped in good order and started again, ``times`` over; waits for the last one to be over.

    Not by ``kill -9``: a single KRaft node then waits nine seconds for its own former registration to expire, which
    says nothing about ours.
    """

    async def bounce() -> None:
        for number in range(times):
            await asyncio.sleep(_BEFORE_BOUNCE_S if number == 0 else every_s)
            gone = now_ms()
            await asyncio.to_thread(kafka.restart)
            outages.spans.append((gone, now_ms()))

    async with asyncio.TaskGroup() as group:
        group.create_task(bounce())
        yield


@contextlib.asynccontextmanager
async def rolling(cluster: KafkaCluster, outages: Outages, every_s: float, loss: Loss) -> AsyncIterator[None]:
    """One broker after the other goes and comes back; waits for the last one.

    The next one goes when all replicas are in sync again. Each has a machine of its own in production: here it starts
    with what the others leave of this one.
    """

    async def roll() -> None:
        for number, node in enumerate(cluster.nodes):
            await asyncio.sleep(_BEFORE_BOUNCE_S if number == 0 else every_s)
            gone = now_ms()
            await _lose(node, loss)
            outages.spans.append((gone, now_ms()))
            while not await cluster.in_sync():  # noqa: ASYNC110  (a broker tells nobody when it is)
                await asyncio.sleep(_IN_SYNC_S)

    async with asyncio.TaskGroup() as group:
        group.create_task(roll())
        yield


async def _lose(node: ApacheKafka, loss: Loss) -> None:
    """Returns when it is there again."""
    if loss is Loss.HUNG:
        pid = node.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(_AWAY_S)
        finally:
            os.kill(pid, signal.SIGCONT)
        return
    await asyncio.to_thread(node.kill if loss is Loss.KILLED else node.stop)
    await asyncio.sleep(_AWAY_S if loss is Loss.KILLED else 0)
    node.launch(niceness=_NICENESS)
    await asyncio.to_thread(node.wait_until_ready)


@contextlib.asynccontextmanager
async def rebalances(installation: Installation, report: dict[str, Any]) -> AsyncIterator[None]:
    """A second detector and a second coordinator join and leave, over and over."""
    over = asyncio.Event()
    moves = 0

    async def move() -> None:
        nonlocal moves
        while not over.is_set():
            joined = [installation.add(f"{UNNAMED}{name}-2", [name]) for name in ("detector", "coordinator")]
            await asyncio.gather(*(child.ready(READY_MS) for child in joined))
            await _unless(over, _STAY_S)
            for child in joined:
                await child.stop()
            moves += 2 * len(joined)
            await _unless(over, _STAY_S)

    moving = asyncio.create_task(move())
    try:
        yield
    finally:
        over.set()
        await moving
    report["rebalances"] = moves


async def _unless(over: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until it is ``over``."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), seconds)
