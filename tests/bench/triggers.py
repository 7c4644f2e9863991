"""``make bench-triggers``: what one more trigger costs, from 1 to 100, and what a million accounts take.

In one process, without a broker: record batches through the production core, one partition. Every trigger has a window
of its own, so nothing is shared between them. Prints a table, and one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import Any, Final

from emergency_stop.adapters.record_batch import record_batch
from emergency_stop.apps.detector_core import DetectorCore, warm_up
from emergency_stop.apps.process import settle_memory
from emergency_stop.columnar.batches import Scratch
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.detect.compile import compile_plan
from emergency_stop.domain.topics import TELEMETRY_HEALTH
from emergency_stop.domain.trigger_definitions import parse_trigger
from emergency_stop.domain.triggers import Trigger
from emergency_stop.wire.codec import Codec, encode_record
from emergency_stop.wire.registry import LocalRegistry
from tests.bench.load import HealthLoad, records

COUNTS: Final = (1, 2, 5, 10, 20, 50, 100)
LIVE_ACCOUNTS: Final = 1_000_000
_BASE_MS: Final = 1_700_000_000_000
_BATCH_RECORDS: Final = 4_000
_REGISTRY: Final = LocalRegistry()


def costs() -> dict[str, Any]:
    """The two measurements, each in a process of its own: the table, and a million accounts."""
    found: dict[str, Any] = {}
    for arguments in ([], ["--live", str(LIVE_ACCOUNTS)]):
        command = [sys.executable, "-m", "tests.bench.triggers", *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        report = json.loads(done.stdout.splitlines()[-1])
        found |= {"live": report} if arguments else report
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.triggers", description=__doc__)
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--live", type=int, default=0, help="instead: so many live accounts, two triggers, and memory")
    options = parser.parse_args()
    warm_up(_REGISTRY)
    if options.live:
        return _live(options.live)
    batches = list(_batches(HealthLoad(1, options.events, options.accounts, _BASE_MS)))
    costs = {count: _cost_ns(batches, count) for count in COUNTS}
    for count, cost_ns in costs.items():
        _say(f"{count:>4} triggers  {cost_ns:>7.0f} ns per event  {1e9 / cost_ns / 1e6:>6.2f} M events per CPU-second")
    extra_ns = {f"{few}-{many}": round((costs[many] - costs[few]) / (many - few), 1) for few, many in pairwise(COUNTS)}
    events_per_cpu_s = {str(count): round(1e9 / cost_ns) for count, cost_ns in costs.items()}
    print(json.dumps({"events_per_cpu_s_of_triggers": events_per_cpu_s, "ns_per_extra_trigger": extra_ns}))
    return 0


def _live(accounts: int) -> int:
    """Every account has two events; memory at the end, CPU of the second round."""
    core, position = _core(2), 0
    for batch in _batches(HealthLoad(1, accounts, accounts, _BASE_MS), every_account=True):
        core.on_batch(batch, 0)
        position = batch.next_offset
    settle_memory()
    started = time.process_time()
    for batch in _batches(HealthLoad(2, accounts, accounts, _BASE_MS + 30_000), every_account=True, at=position):
        core.on_batch(batch, 0)
    cpu_s = time.process_time() - started
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"accounts": accounts, "peak_rss_mb": round(peak_mb, 1), "cpu_s_of_a_round": round(cpu_s, 2)}))
    return 0


def _batches(load: HealthLoad, *, every_account: bool = False, at: int = 0) -> Iterator[FetchedBatch]:
    stream = _each(load) if every_account else ((moment, key, value) for key, value, moment in records(load))
    while chunk := list(islice(stream, _BATCH_RECORDS)):
        raw = bytearray(record_batch(chunk))
        raw[:8] = at.to_bytes(8, "big")
        yield FetchedBatch(TELEMETRY_HEALTH, 0, at, at + len(chunk), (bytes(raw),))
        at += len(chunk)


def _each(load: HealthLoad) -> Iterator[tuple[int, bytes, bytes]]:
    """One event of every account, in order."""
    schema_id = _REGISTRY.schema_id("HealthEvent", TELEMETRY_HEALTH)
    event = {"event_id": "e", "occurred_at": load.base_ms, "health_score": 80.0, "risk_score": 20.0, "source": "bench"}
    for number in range(load.accounts):
        key = f"account-{number:07d}"
        yield load.base_ms, key.encode(), encode_record("HealthEvent", {**event, "account_id": key}, schema_id)


def _triggers(count: int) -> Sequence[Trigger]:
    def definition(number: int) -> dict[str, Any]:
        kind = ("health_score_critical", "healthScore") if number % 2 == 0 else ("account_suspension_risk", "riskScore")
        return {
            "trigger_id": f"t-{number:03d}", "name": "t", "trigger_type": kind[0],
            "thresholds": {kind[1]: 10 if number % 2 == 0 else 99}, "time_window": 30_000 + 1_000 * number,
            "cooldown_period": 300_000, "stop_level": "graceful", "priority": 1,
        }  # fmt: skip

    return [parse_trigger(definition(number), services=()) for number in range(count)]


def _core(count: int) -> DetectorCore:
    plan = compile_plan(_triggers(count))
    return DetectorCore(_REGISTRY, Codec(_REGISTRY), lambda: plan, Scratch(), enforcing=True)


def _cost_ns(batches: Sequence[FetchedBatch], count: int) -> float:
    """CPU of one event, ns: over the second half, once every account has its memory."""
    core, half = _core(count), len(batches) // 2
    for batch in batches[:half]:
        core.on_batch(batch, 0)
    started = time.process_time()
    for batch in batches[half:]:
        core.on_batch(batch, 0)
    events = batches[-1].next_offset - batches[half].fetch_offset
    return (time.process_time() - started) * 1e9 / events


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
