"""``make bench-detector``: the detector against plain Faust and against the oracle, on Apache Kafka.

Prints one line of JSON, and ends with 1 when a hit differs from the oracle's. Both sides start on a topic that
is full, work with a durable state (changelog on), and are measured from their assignment to their last event. The
detector evaluates all default triggers and ten rules in CEL; plain Faust, the two that health events feed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from emergency_stop.domain.default_triggers import BUILTIN_KINDS, default_pack
from emergency_stop.domain.topics import TELEMETRY_HEALTH, TopicSpec
from emergency_stop.testing.brokers import ApacheKafka
from tests.bench import plain_faust, triggers
from tests.bench.load import SPAN_MS, HealthLoad, produce
from tests.bench.meter import Reading
from tests.bench.oracle import Place, expected_hits
from tests.bench.rules import RULES, rule_triggers
from tests.bench.stage import PARTITIONS, our_hits, prepare, run_metered, say, settings_for

PLAIN_TOPIC: Final = "bench.plain"
PLAIN_HITS: Final = "bench.plain-hits"


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
    settings = settings_for(bootstrap, folder)
    prepare(settings, _plain_topics(), rule_triggers())
    load = HealthLoad(options.seed, options.events, options.accounts, int(time.time() * 1000) - SPAN_MS)
    say(f"producing {load.events} events of {load.accounts} accounts")
    produce(bootstrap, {TELEMETRY_HEALTH: load.events, PLAIN_TOPIC: options.plain_events}, load)
    say("the detector")
    ours = run_metered(
        [sys.executable, "-m", "tests.bench.subject", str(load.events)], settings.as_env(), folder / "ours.log"
    )
    say(f"{ours}; plain Faust on {options.plain_events}")
    arguments = [bootstrap, str(options.plain_events), PLAIN_TOPIC, PLAIN_HITS]
    plain = run_metered([sys.executable, "-m", "tests.bench.plain_faust", *arguments], {}, folder / "plain.log")
    say(f"{plain}; the oracle")
    wanted = expected_hits(bootstrap, list(range(PARTITIONS)), with_rules=True)
    found = our_hits(bootstrap)
    say("what one more trigger costs, and the memory of a million accounts")
    _report(load, ours, plain, found, wanted, triggers.costs())
    return 0 if sorted(found) == sorted(wanted) else 1


def _plain_topics() -> tuple[TopicSpec, ...]:
    return (
        TopicSpec(PLAIN_TOPIC, None, partitions=PARTITIONS),
        TopicSpec(PLAIN_HITS, None, partitions=PARTITIONS),
        TopicSpec(plain_faust.CHANGELOG, None, compacted=True, partitions=PARTITIONS),
    )


def _report(
    load: HealthLoad,
    ours: Reading,
    plain: Reading,
    found: list[Place],
    wanted: set[Place],
    costs: Mapping[str, object],
) -> None:
    if sorted(found) != sorted(wanted):
        missing, extra = sorted(wanted - set(found)), sorted(set(found) - wanted)
        say(f"FAILED: hits differ from the oracle's; missing {missing[:5]}, extra {extra[:5]}")
    ours_per_cpu_s, plain_per_cpu_s = ours.per_cpu_s, plain.per_cpu_s
    report = {
        "events": load.events,
        "hits": len(found),
        "oracle_hits": len(wanted),
        "events_per_s": round(ours.events / ours.wall_s),
        "events_per_cpu_s": round(ours_per_cpu_s),
        "plain_faust_events_per_cpu_s": round(plain_per_cpu_s),
        "ratio_to_plain_faust": round(ours_per_cpu_s / plain_per_cpu_s, 1),
        "peak_rss_mb": ours.peak_rss_mb,
        "triggers": len(default_pack(0)) + len(BUILTIN_KINDS),
        "rules": len(RULES),
        **costs,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    sys.exit(main())
