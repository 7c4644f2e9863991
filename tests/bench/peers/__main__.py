"""``make bench-peers``: the same two-rule job in ours, Kafka Streams, Flink, Quix Streams and Faust, side by side.

Prints one line of JSON, and ends with 1 when a system's hits differ from the oracle's. All read the same data from
one Apache Kafka, one after the other. A ratio is ours to theirs in events per CPU-second over the second half of
each run; what was tuned is in tests/bench/peers/README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from emergency_stop.domain.topics import TELEMETRY_HEALTH, TopicSpec
from emergency_stop.testing.brokers import ApacheKafka
from tests.bench import plain_faust
from tests.bench.load import SPAN_MS, TROUBLE_ONE_IN, HealthLoad, produce
from tests.bench.meter import Reading
from tests.bench.oracle import Place, expected_hits
from tests.bench.peers import latency, throughput
from tests.bench.peers.report import report
from tests.bench.peers.systems import OURS, System, systems
from tests.bench.stage import PARTITIONS, prepare, say, settings_for


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers", description=__doc__)
    parser.add_argument("--events", type=int, default=6_000_000)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trouble-one-in", type=int, default=TROUBLE_ONE_IN, help="accounts per one in trouble")
    parser.add_argument("--only", nargs="*", help="names of systems; ours is always among them")
    parser.add_argument("--probes", type=int, default=200, help="per system, for latency; 0 leaves latency out")
    parser.add_argument("--rate", type=int, default=20_000, help="background events per second beside the probes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="estop-peers-") as folder:
        (Path(folder) / "kafka").mkdir()
        wanted = systems(Path(folder) / "build", options.only and [OURS, *options.only])
        with ApacheKafka(Path(folder) / "kafka") as kafka:
            result = bench(kafka.bootstrap, Path(folder), wanted, options)
    print(json.dumps(result))
    return 0 if result["hits_equal"] else 1


def bench(bootstrap: str, folder: Path, wanted: list[System], options: argparse.Namespace) -> dict[str, Any]:
    base_ms = int(time.time() * 1000) - SPAN_MS
    load = HealthLoad(options.seed, options.events, options.accounts, base_ms, options.trouble_one_in)
    fill(bootstrap, folder, wanted, load)
    readings: dict[str, Reading] = {}
    for system in wanted:
        readings[system.name] = throughput.run(system, bootstrap, folder)
        say(f"{system.name}: {readings[system.name]}")
    say("the oracle")
    verdicts = judge(wanted, bootstrap)
    latencies = {}
    if options.probes:
        latencies = latency.measure_all(wanted, readings, bootstrap, folder, options.rate, options.probes)
    return report(load, readings, verdicts, latencies)


def fill(bootstrap: str, folder: Path, wanted: list[System], load: HealthLoad) -> None:
    """Topics with their parts of the load, and a hits topic for every system."""
    parts = {system.part for system in wanted}
    names = {
        *(part.topic for part in parts),
        *(system.hits_topic() for system in wanted),
        *(latency.topic_of(system) for system in wanted),
    }
    specs = [TopicSpec(name, None, partitions=PARTITIONS) for name in sorted(names) if name.startswith("bench.")]
    changelog = TopicSpec(plain_faust.CHANGELOG, None, compacted=True, partitions=PARTITIONS)
    prepare(settings_for(bootstrap, folder), [*specs, changelog])
    say(f"producing {load.events} events of {load.accounts} accounts")
    first = {part.topic: int(load.events * part.share) for part in parts if not part.by_accounts}
    of_accounts = {part.topic: int(load.accounts * part.share) for part in parts if part.by_accounts}
    produce(bootstrap, first | {TELEMETRY_HEALTH: load.events}, load, of_accounts=of_accounts)


def judge(wanted: list[System], bootstrap: str) -> dict[str, tuple[list[Place], list[Place]]]:
    """Per system: its hits, and the oracle's for its part of the load."""
    whole = expected_hits(bootstrap, list(range(PARTITIONS)))
    return {
        system.name: (
            sorted(throughput.hits_of(system, bootstrap)),
            throughput.wanted_of(system, bootstrap, whole),
        )
        for system in wanted
    }


if __name__ == "__main__":
    sys.exit(main())
