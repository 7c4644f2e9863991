"""From an event's production to its hit in the output topic, beside background load, one system at a time."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from emergency_stop.adapters.embedded_broker import die_with_parent
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.domain.messages import Hit
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.bench.latency import Probes, level, probe
from tests.bench.meter import Reading
from tests.bench.peers.systems import OURS, Job, System
from tests.bench.stage import say

READY_WITHIN_S: Final = 120
STOP_WITHIN_S: Final = 30
#: A system that cannot do more than this times the rate when it does nothing else gets less.
HEADROOM: Final = 1.25
#: ... namely this share of what it did, so that queues do not grow.
SUSTAINED_SHARE: Final = 0.6
_RETRY_S: Final = 0.5


def topic_of(system: System) -> str:
    """The topic whose events are new when they are read."""
    return system.topic(live=f"bench.live.{system.name.replace('_', '-')}")


def measure_all(
    wanted: list[System], readings: dict[str, Reading], bootstrap: str, folder: Path, rate_per_s: int, probes: int
) -> dict[str, dict[str, Any]]:
    """Per system: percentiles in ms, the rate beside which they were measured, and why, where it is not the wanted."""
    found = {}
    for system in wanted:
        rate, why = sustainable(readings[system.name], rate_per_s)
        say(f"latency of {system.name} beside {rate} events/s")
        found[system.name] = asyncio.run(_measure(system, bootstrap, folder, rate, probes)) | why
    return found


def sustainable(reading: Reading, wanted_per_s: int) -> tuple[int, dict[str, str]]:
    """The rate to measure beside, and the reason where it is less than ``wanted_per_s``."""
    reached = reading.warm_events / reading.warm_wall_s
    if reached >= HEADROOM * wanted_per_s:
        return wanted_per_s, {}
    share = f"measured beside {SUSTAINED_SHARE:.0%} of that"
    return int(reached * SUSTAINED_SHARE), {"latency_note": f"sustains {reached:.0f} events/s on this machine; {share}"}


async def _measure(system: System, bootstrap: str, folder: Path, rate_per_s: int, count: int) -> dict[str, Any]:
    probes = Probes()
    topic = topic_of(system)
    async with AsyncExitStack() as stack:
        publisher = KafkaPublisher(bootstrap, client_id="bench-peers")
        await publisher.start()
        stack.push_async_callback(publisher.stop)
        await stack.enter_async_context(_tail(system, bootstrap, probes))
        process = await stack.enter_async_context(_running(system, bootstrap, folder, topic))
        try:
            await _first_answer(system, process, publisher, probes, topic)
            # Not reported: code that a JVM still interprets would be what is measured.
            await level(bootstrap, publisher, probes, rate_per_s, count, topic=topic, prefix=f"{system.name}-warm-up")
            found, reached = await level(
                bootstrap, publisher, probes, rate_per_s, count, topic=topic, prefix=f"{system.name}-probe"
            )
        except TimeoutError as error:
            return {"latency_p50_ms": None, "latency_p99_ms": None, "latency_why_not": str(error)}
    return {
        "latency_p50_ms": _at(found, 0.5),
        "latency_p99_ms": _at(found, 0.99),
        "latency_beside_events_per_s": reached,
    }


def _at(found: list[float], share: float) -> float:
    return round(found[min(int(len(found) * share), len(found) - 1)], 1)


@asynccontextmanager
async def _tail(system: System, bootstrap: str, probes: Probes) -> AsyncIterator[None]:
    """Notes the account of every hit as soon as it can be read."""
    codec = Codec(LocalRegistry())

    def take(record: TailRecord) -> None:
        now_s = time.monotonic()
        value = record.value or b""
        is_ours = system.name == OURS
        account = codec.decode(Hit, value).account_id if is_ours else json.loads(value)["account_id"]
        probes.note(account or "", now_s)

    tail = CompactedTail(bootstrap, system.hits_topic(), take, client_id="bench-peers", from_end=True)
    await tail.start()
    try:
        await tail.caught_up()
        yield
    finally:
        await tail.stop()


@asynccontextmanager
async def _running(system: System, bootstrap: str, folder: Path, topic: str) -> AsyncIterator[subprocess.Popen[bytes]]:
    """The system on ``topic`` until the end of the block."""
    own = folder / f"{system.name}-live"
    own.mkdir()
    launch = system.launch(Job(f"bench-{system.name}-live", bootstrap, topic, system.hits_topic(), 0, own))
    with (folder / f"{system.name}-live.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220  (starting takes a millisecond)
            launch.command,
            env={**os.environ, **launch.environment},
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)


async def _first_answer(
    system: System, process: subprocess.Popen[bytes], publisher: KafkaPublisher, probes: Probes, topic: str
) -> None:
    """Send probes until one of them is answered: then it works. Raises ``RuntimeError`` when it ended."""
    deadline = time.monotonic() + READY_WITHIN_S
    number = 0
    while not probes.read:
        if process.poll() is not None:
            raise RuntimeError(f"{system.name} ended with {process.returncode} before its first hit")
        if time.monotonic() > deadline:
            raise TimeoutError(f"no hit within {READY_WITHIN_S} s after its start")
        await probe(publisher, f"{system.name}-first-{number}", topic)
        number += 1
        await asyncio.sleep(_RETRY_S)
