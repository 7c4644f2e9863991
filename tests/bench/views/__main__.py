"""``make bench-views``: every analysts' view over a month of fifty million telemetry rows in chDB.

Prints one line of JSON: per view its rows, the milliseconds of the first call in a fresh process (``cold_ms``), the
median of five more (``warm_ms``) and of their CPU time, and the rows and bytes that it read; also what the rows in
order of scores cost an insert. The plans go into the file of ``--plans``. 1 when a view took longer than a second, or
found nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from emergency_stop.adapters import clickhouse_migrations
from emergency_stop.adapters.clickhouse import ClickHouse
from tests.bench.stage import say
from tests.bench.views import inserts
from tests.bench.views.generate import World, fill

DAYS: Final = 30
WITHIN_MS: Final = 1_000
RETAIN_DAYS: Final = 3_650
#: Of account 200, which is one of those that come near a threshold.
CALLS: Final = {
    "time_to_stop_by_level": "days = 31",
    "time_to_stop_by_day": "days = 31",
    "time_to_stop_by_service": "days = 31",
    "service_reliability": "days = 31",
    "hit_outcomes": "days = 31",
    "near_misses": "days = 31",
    "trigger_evaluations": "days = 31",
    "approaches_by_trigger": "days = 31",
    "approaches": "trigger = 'default-suspension-risk', days = 31",
    "evaluations_once": "days = 31",
    "recovery_success": "days = 31",
    "detector_availability": "days = 31, blind_after_ms = 30000",
    "service_availability": "days = 31, lost_after_ms = 30000",
    "account_timeline": "account = 'acc-000200', days = 31",
}
#: What is asked of a view that has a row per record.
WHERE: Final = {"evaluations_once": "scope = 'account:acc-000200'"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.views", description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--emergencies", type=int, default=100_000)
    parser.add_argument("--accounts", type=int, default=200_000)
    parser.add_argument("--plans", type=Path, default=Path(tempfile.gettempdir()) / "estop-bench-views-plans.txt")
    parser.add_argument("--folder", type=Path, help="one that a former run filled, or that is filled and kept")
    parser.add_argument("--measure", metavar="VIEW", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(_measure(options.folder, options.measure)))
        return 0
    if options.folder is not None:
        return _bench(options.folder, options)
    with tempfile.TemporaryDirectory(prefix="estop-bench-views-") as folder:
        return _bench(Path(folder), options)


def _bench(folder: Path, options: argparse.Namespace) -> int:
    _prepare(folder, options)
    views, plans = {}, []
    for name in CALLS:
        command = [sys.executable, "-m", "tests.bench.views", "--folder", str(folder), "--measure", name]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        plans.append(f"== {name}({CALLS[name]})\n{found.pop('plan')}\n")
        views[name] = found
        say(f"{name}: {found}")
    options.plans.write_text("\n".join(plans))
    say(f"the plans are in {options.plans}")
    load = round(os.getloadavg()[0], 1)
    report = {"telemetry_rows": options.rows, "load_average": load, "insert": inserts.measure(), "views": views}
    print(json.dumps(report))
    return 0 if all(_is_good(found) for found in views.values()) else 1


def _is_good(found: Mapping[str, Any]) -> bool:
    return bool(found["rows"] > 0 and max(found["cold_ms"], found["warm_ms"]) < WITHIN_MS)


def _prepare(folder: Path, options: argparse.Namespace) -> None:
    filled = (folder / "clickhouse").exists()
    folder.mkdir(parents=True, exist_ok=True)
    database = ClickHouse(None, folder)
    try:
        clickhouse_migrations.apply(database, RETAIN_DAYS, None)
        if not filled:
            world = World(options.rows, options.accounts, DAYS, options.emergencies, int(time.time() * 1000))
            started = time.monotonic()
            fill(database, world, say)
            say(f"made in {time.monotonic() - started:.0f} s")
    finally:
        database.close()


def _measure(folder: Path, name: str) -> dict[str, Any]:
    """One view in this process, which has asked nothing before."""
    sql = f"SELECT * FROM {name}({CALLS[name]}) WHERE {WHERE.get(name, '1')}"  # noqa: S608  (our own constants)
    database = ClickHouse(None, folder)
    try:
        answers, took_ms, cpu_ms = [], [], []
        for _ in range(6):
            started, cpu = time.perf_counter(), time.process_time()
            answers.append(database.select(sql))
            took_ms.append(1000 * (time.perf_counter() - started))
            cpu_ms.append(1000 * (time.process_time() - cpu))
        plan = "\n".join(row[0] for row in database.rows(f"EXPLAIN indexes = 1 {sql}"))
    finally:
        database.close()
    told = answers[-1]["statistics"]
    return {
        "rows": len(answers[-1]["data"]),
        "cold_ms": round(took_ms[0]),
        "warm_ms": round(statistics.median(took_ms[1:])),
        "warm_cpu_ms": round(statistics.median(cpu_ms[1:])),
        "rows_read": told["rows_read"],
        "bytes_read": told["bytes_read"],
        "plan": plan,
    }


if __name__ == "__main__":
    sys.exit(main())
