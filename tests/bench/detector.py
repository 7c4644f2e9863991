"""``make bench-detector``: the detector against plain Faust and against the oracle, on Apache Kafka.

Prints one line of JSON, and ends with 1 when a hit differs from the oracle's. Both sides start on a topic that
is full, work with a durable state (changelog on), and are measured from their assignment to their last event.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from confluent_kafka import Producer

from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.config import Settings
from emergency_stop.domain.default_triggers import default_pack
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.topics import HITS, TELEMETRY_HEALTH, TRIGGERS, TopicSpec, all_topics
from emergency_stop.testing.brokers import ApacheKafka
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.bench import plain_faust
from tests.bench.load import SPAN_MS, HealthLoad, produce
from tests.bench.meter import Reading
from tests.bench.oracle import Place, expected_hits
from tests.campaign.log import Log

PARTITIONS: Final = 4
PLAIN_TOPIC: Final = "bench.plain"
PLAIN_HITS: Final = "bench.plain-hits"
TIMEOUT_S: Final = 600


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.detector", description=__doc__)
    parser.add_argument("--events", type=int, default=4_000_000)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--plain-events", type=int, default=100_000, help="how many of them plain Faust gets")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="estop-bench-") as folder:
        (Path(folder) / "kafka").mkdir()
        with ApacheKafka(Path(folder) / "kafka") as kafka:
            return _bench(kafka.bootstrap, Path(folder), options)


def _bench(bootstrap: str, folder: Path, options: argparse.Namespace) -> int:
    settings = _settings(bootstrap, folder)
    _prepare(settings)
    load = HealthLoad(options.seed, options.events, options.accounts, int(time.time() * 1000) - SPAN_MS)
    _say(f"producing {load.events} events of {load.accounts} accounts")
    produce(bootstrap, {TELEMETRY_HEALTH: load.events, PLAIN_TOPIC: options.plain_events}, load)
    _say("the detector")
    ours = _run([sys.executable, "-m", "tests.bench.subject", str(load.events)], settings.as_env(), folder / "ours.log")
    _say(f"{ours}; plain Faust on {options.plain_events}")
    arguments = [bootstrap, str(options.plain_events), PLAIN_TOPIC, PLAIN_HITS]
    plain = _run([sys.executable, "-m", "tests.bench.plain_faust", *arguments], {}, folder / "plain.log")
    _say(f"{plain}; the oracle")
    wanted = expected_hits(bootstrap, list(range(PARTITIONS)))
    found = _hits(bootstrap)
    _report(load, ours, plain, found, wanted)
    return 0 if sorted(found) == sorted(wanted) else 1


def _settings(bootstrap: str, folder: Path) -> Settings:
    return Settings.from_env(
        {
            "ESTOP_BROKERS": bootstrap,
            "ESTOP_DATA_DIR": str(folder / "data"),
            "ESTOP_KERNEL_CACHE": str(Path.home() / ".cache" / "emergency-stop" / "kernels"),
            "ESTOP_METRICS_PORT": "0",
        }
    )


def _prepare(settings: Settings) -> None:
    """Topics, and the five default triggers beside the built-in one."""
    plain = (
        TopicSpec(PLAIN_TOPIC, None, partitions=PARTITIONS),
        TopicSpec(PLAIN_HITS, None, partitions=PARTITIONS),
        TopicSpec(plain_faust.CHANGELOG, None, compacted=True, partitions=PARTITIONS),
    )
    ours = tuple(settings.partitioned(spec) for spec in all_topics(settings.services))
    asyncio.run(ensure_topics(settings.brokers, (*ours, *plain)))
    codec = Codec(LocalRegistry())
    producer = Producer({"bootstrap.servers": settings.brokers, "acks": "all", "log_level": 2})
    for trigger in default_pack(0):
        producer.produce(TRIGGERS, codec.encode(trigger, TRIGGERS), trigger.trigger_id)
    if producer.flush(30):
        raise TimeoutError("the triggers were not acknowledged within 30 s")


def _run(command: list[str], environment: dict[str, str], log_path: Path) -> Reading:
    """Run a metered process to its end; its reading is the last JSON line that it printed."""
    with log_path.open("wb") as log:
        done = subprocess.run(
            command,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=log,
            timeout=TIMEOUT_S,
            check=False,
            text=True,
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        end = log_path.read_text(errors="replace")[-2_000:]
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode} and no reading:\n{end}")
    return Reading.from_line(lines[-1])


def _hits(bootstrap: str) -> list[Place]:
    """Every hit in the topic; a doubled one shows as two."""
    codec = Codec(LocalRegistry())
    with Log(bootstrap) as log:
        hits = [codec.decode(Hit, message.value()) for message in log.read(HITS)]
    return [(hit.trigger_id, hit.account_id or "", hit.source_partition, hit.source_offset) for hit in hits]


def _report(load: HealthLoad, ours: Reading, plain: Reading, found: list[Place], wanted: set[Place]) -> None:
    if sorted(found) != sorted(wanted):
        missing, extra = sorted(wanted - set(found)), sorted(set(found) - wanted)
        _say(f"FAILED: hits differ from the oracle's; missing {missing[:5]}, extra {extra[:5]}")
    ours_per_cpu_s, plain_per_cpu_s = ours.events / ours.cpu_s, plain.events / plain.cpu_s
    report = {
        "events": load.events,
        "hits": len(found),
        "oracle_hits": len(wanted),
        "events_per_s": round(ours.events / ours.wall_s),
        "events_per_cpu_s": round(ours_per_cpu_s),
        "plain_faust_events_per_cpu_s": round(plain_per_cpu_s),
        "ratio_to_plain_faust": round(ours_per_cpu_s / plain_per_cpu_s, 1),
        "peak_rss_mb": ours.peak_rss_mb,
    }
    print(json.dumps(report))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
