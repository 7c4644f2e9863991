"""``make bench-failover``: ``kill -9`` of one of two detectors under load; how long until its partitions fire again.

Twice: two detectors that share one lane, each with standby copies of the other's state; and two lanes of one detector
each. Prints one line of JSON, and ends with 1 where a probe has no hit, or two with different ids. A probe is an event
that must fire, of an account of its own; probes go to every partition all the time, so the gap is the longest that a
probe waited.
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
from emergency_stop.domain.topics import HITS
from emergency_stop.testing.brokers import ApacheKafka
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.bench.latency import READY_MS, SERVICE, Probes, probe, publish_default_triggers

_GAP_S: Final = 0.02
_BEFORE_S: Final = 6.0
_AFTER_S: Final = 25.0
_RATE_PER_S: Final = 20_000
_ANSWER_S: Final = 60.0
_MODES: Final = {"1": "standby", "2": "two_lanes"}
#: Apache Kafka's default of group.min.session.timeout.ms.
_BROKERS_LEAST_MS: Final = 6_000


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

    def doubled(self) -> int:
        """Probes with hits of different ids: two causes made of one."""
        return sum(len(ids) > 1 for ids in self.ids.values())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.failover", description=__doc__)
    parser.add_argument("--kills", type=int, default=3, help="in each mode")
    parser.add_argument("--lanes", choices=sorted(_MODES), help="one mode only; default: both")
    parser.add_argument("--session-timeout-ms", type=int, default=Settings().session_timeout_ms)
    options = parser.parse_args()
    modes = [options.lanes] if options.lanes else sorted(_MODES)
    runs = {_MODES[mode]: _run(mode, options.kills, options.session_timeout_ms) for mode in modes}
    report = {name: {"gap_ms": run.gap_ms(), "probes": len(run.hits.sent)} for name, run in runs.items()}
    lost = sum(run.hits.missing() for run in runs.values())
    doubled = sum(run.hits.doubled() for run in runs.values())
    totals = {"hits_lost": lost, "hits_doubled": doubled, "kills": options.kills * len(runs)}
    setting = {"background_events_per_s": _RATE_PER_S, "session_timeout_ms": options.session_timeout_ms}
    print(json.dumps(report | totals | setting))
    return 1 if lost or doubled else 0


@dataclass(frozen=True, slots=True)
class Run:
    """One mode: how long probes waited around each kill, and every probe's hits."""

    gaps_ms: list[float]
    hits: Hits

    def gap_ms(self) -> dict[str, Any]:
        return {"max": round(max(self.gaps_ms)), "each": [round(gap) for gap in self.gaps_ms]}


def _run(mode: str, kills: int, session_timeout_ms: int) -> Run:
    """On a broker of its own, which allows the session timeout that is asked for."""
    properties = {"group.min.session.timeout.ms": str(min(session_timeout_ms, _BROKERS_LEAST_MS))}
    with tempfile.TemporaryDirectory(prefix="estop-failover-") as folder:
        (Path(folder) / "kafka").mkdir()
        with ApacheKafka(Path(folder) / "kafka", properties=properties) as kafka:
            settings = Settings(
                brokers=kafka.bootstrap,
                data_dir=Path(folder),
                services=(SERVICE,),
                session_timeout_ms=session_timeout_ms,
            )
            return asyncio.run(_bench(settings, mode, kills))


async def _bench(settings: Settings, mode: str, kills: int) -> Run:
    bootstrap, folder = settings.brokers, settings.data_dir
    await ensure_topics(bootstrap, settings.topics())
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
        lanes = ("a", "b") if mode == "2" else ("a", "a")
        own = [replace(settings, detector_lane=lane) for lane in lanes]
        detectors = [_detector(one, folder, f"detector-{number}") for number, one in enumerate(own)]
        for child in detectors:
            child.start()
            stack.push_async_callback(child.stop)
        for child in detectors:
            await child.ready(READY_MS)
        gaps_ms = [await _kill_one(bootstrap, publisher, hits, detectors[number % 2]) for number in range(kills)]
    return Run(gaps_ms, hits)


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
