"""``make bench-failover``: ``kill -9`` of one of two detectors under load; how long until its partitions fire again.

Prints one line of JSON, and ends with 1 where a probe has no hit, or two. A probe is an event that must fire, of an
account of its own; probes go to every partition all the time, so the gap is the longest that a probe waited.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.apps.stack.child import Child
from emergency_stop.config import Settings
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.topics import HITS, all_topics
from emergency_stop.testing.brokers import ApacheKafka
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.bench.latency import READY_MS, SERVICE, Probes, probe, publish_default_triggers

_GAP_S: Final = 0.02
_BEFORE_S: Final = 6.0
_AFTER_S: Final = 25.0
_RATE_PER_S: Final = 20_000
_ANSWER_S: Final = 60.0


@dataclass
class Hits(Probes):
    """Probes whose consequence is a hit; every hit's id is kept."""

    ids: dict[str, set[str]] = field(default_factory=dict)

    def take_hit(self, record: TailRecord) -> None:
        now = time.monotonic()
        hit = self.codec.decode(Hit, record.value)
        name = hit.account_id or ""
        self.read.setdefault(name, now)
        self.ids.setdefault(name, set()).add(hit.hit_id)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.failover", description=__doc__)
    parser.add_argument("--kills", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="estop-failover-") as folder:
        (Path(folder) / "kafka").mkdir()
        with ApacheKafka(Path(folder) / "kafka") as kafka:
            report = asyncio.run(_bench(kafka.bootstrap, Path(folder), options.kills))
    print(json.dumps(report))
    return 1 if report["hits_lost"] or report["hits_doubled"] else 0


async def _bench(bootstrap: str, folder: Path, kills: int) -> dict[str, Any]:
    settings = Settings(brokers=bootstrap, data_dir=folder, services=(SERVICE,))
    await ensure_topics(bootstrap, [settings.partitioned(spec) for spec in all_topics(settings.services)])
    hits = Hits(Codec(LocalRegistry()))
    async with AsyncExitStack() as stack:
        publisher = KafkaPublisher(bootstrap, client_id="bench-failover")
        await publisher.start()
        stack.push_async_callback(publisher.stop)
        await publish_default_triggers(publisher, hits.codec)
        tail = CompactedTail(bootstrap, HITS, hits.take_hit, client_id="bench", from_end=True)
        await tail.start()
        stack.push_async_callback(tail.stop)
        await tail.caught_up()
        detectors = [_detector(settings, folder, "detector-a"), _detector(settings, folder, "detector-b")]
        for child in detectors:
            child.start()
            stack.push_async_callback(child.stop)
        for child in detectors:
            await child.ready(READY_MS)
        gaps_ms = [await _kill_one(bootstrap, publisher, hits, detectors[number % 2]) for number in range(kills)]
    doubled = sum(len(ids) > 1 for ids in hits.ids.values())
    return {
        "kills": kills,
        "gap_ms": {"max": round(max(gaps_ms)), "each": [round(gap) for gap in gaps_ms]},
        "probes": len(hits.sent),
        "hits_lost": hits.missing(),
        "hits_doubled": doubled,
        "background_events_per_s": _RATE_PER_S,
        "session_timeout_ms": settings.session_timeout_ms,
    }


def _detector(settings: Settings, folder: Path, name: str) -> Child:
    return Child(name, ["detector"], replace(settings, instance_id=name), folder / f"{name}.log")


async def _kill_one(bootstrap: str, publisher: KafkaPublisher, hits: Hits, victim: Child) -> float:
    """The longest that a probe waited around one kill, ms. The victim is started again afterwards."""
    seconds = str(_BEFORE_S + _AFTER_S)
    arguments = ["-m", "tests.bench.background", bootstrap, str(_RATE_PER_S), seconds]
    background = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.DEVNULL)
    before, killed_at = set(hits.sent), time.monotonic() + _BEFORE_S
    ends_at, alive = killed_at + _AFTER_S, True
    while time.monotonic() < ends_at:
        if alive and time.monotonic() >= killed_at:
            victim.kill()
            alive = False
        name = f"probe-{len(hits.sent)}"
        hits.sent[name] = time.monotonic()
        await asyncio.gather(probe(publisher, name), asyncio.sleep(_GAP_S))
    await background.wait()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_ANSWER_S):
            while hits.missing():  # noqa: ASYNC110  (a record read is no event of asyncio)
                await asyncio.sleep(_GAP_S)
    victim.start()
    await victim.ready(READY_MS)
    return max((hits.read[name] - hits.sent[name]) * 1_000 for name in hits.read.keys() - before)


if __name__ == "__main__":
    sys.exit(main())
