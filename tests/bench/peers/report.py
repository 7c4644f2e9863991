"""What the benchmark says at its end, as plain values for JSON."""

from __future__ import annotations

from typing import Any

from tests.bench.load import HealthLoad
from tests.bench.meter import Reading
from tests.bench.oracle import Place
from tests.bench.peers.systems import OURS
from tests.bench.stage import say

Verdicts = dict[str, tuple[list[Place], list[Place]]]


def report(
    load: HealthLoad, readings: dict[str, Reading], verdicts: Verdicts, latencies: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """``verdicts`` per system: its hits and the oracle's, both sorted. Says on standard error where they differ."""
    for name, (found, wanted) in verdicts.items():
        if found != wanted:
            missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
            say(f"FAILED: hits of {name} differ from the oracle's; missing {missing[:5]}, extra {extra[:5]}")
    ours = readings[OURS]
    peers = {name: reading for name, reading in readings.items() if name != OURS}
    return {
        "ratio": {name: round(ours.warm_per_cpu_s / peer.warm_per_cpu_s, 1) for name, peer in peers.items()},
        "ratio_whole_run": {name: round(ours.per_cpu_s / peer.per_cpu_s, 1) for name, peer in peers.items()},
        "hits_equal": all(found == wanted for found, wanted in verdicts.values()),
        "accounts": load.accounts,
        "seed": load.seed,
        "systems": {
            name: _system(reading, *verdicts[name]) | latencies.get(name, {}) for name, reading in readings.items()
        },
    }


def _system(reading: Reading, found: list[Place], wanted: list[Place]) -> dict[str, Any]:
    return {
        "events": reading.events,
        "events_per_cpu_s": round(reading.warm_per_cpu_s),
        "events_per_s": round(reading.warm_events / reading.warm_wall_s),
        "whole_run_events_per_cpu_s": round(reading.per_cpu_s),
        "whole_run_events_per_s": round(reading.events / reading.wall_s),
        "peak_rss_mb": reading.peak_rss_mb,
        "hits": len(found),
        "oracle_hits": len(wanted),
    }
