"""What rows in the order of their scores cost an insert: the same blocks into a table with them and one without."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from emergency_stop.adapters import clickhouse_migrations
from emergency_stop.adapters.clickhouse import ClickHouse

BLOCK_ROWS: Final = 200_000
ROUNDS: Final = 9
_SOURCE: Final = (
    "SELECT 'telemetry.health' AS _topic, toUInt32(number % 12) AS _partition, toInt64(number) AS _offset,"  # noqa: S608  (ours)
    " now64(3) AS _timestamp, concat('e-', toString(number)) AS event_id,"
    " concat('acc-', toString(cityHash64(number) % 100000)) AS account_id, now64(3) AS occurred_at,"
    f" rand() % 100000 / 1000 AS health_score, rand(1) % 100000 / 1000 AS risk_score FROM numbers({BLOCK_ROWS})"
)


def measure() -> dict[str, Any]:
    """Medians over alternating rounds: rows per second of wall-clock time, and the CPU seconds per million rows."""
    with tempfile.TemporaryDirectory(prefix="estop-bench-inserts-") as folder:
        database = ClickHouse(None, Path(folder))
        try:
            return _measure(database)
        finally:
            database.close()


def _measure(database: ClickHouse) -> dict[str, Any]:
    clickhouse_migrations.apply(database, 3_650, None)
    database.command("CREATE TABLE plain_events AS health_events")
    for name in ("by_risk_score", "by_health_score"):
        database.command(f"ALTER TABLE plain_events DROP PROJECTION {name} SETTINGS mutations_sync = 2")
    database.command(f"CREATE TABLE blocks ENGINE = Memory AS {_SOURCE}")
    took: dict[str, list[tuple[float, float]]] = {"health_events": [], "plain_events": []}
    for number in range(ROUNDS):
        for table, found in took.items():
            started, cpu = time.perf_counter(), _cpu_s()
            database.command(
                f"INSERT INTO {table} (_topic, _partition, _offset, _timestamp, event_id, account_id, occurred_at,"  # noqa: S608
                f" health_score, risk_score) SELECT _topic, _partition, _offset + {number * BLOCK_ROWS}, _timestamp,"
                " event_id, account_id, occurred_at, health_score, risk_score FROM blocks"
                " SETTINGS optimize_on_insert = 0, max_insert_block_size = 10000000, max_block_size = 10000000,"
                " min_insert_block_size_rows = 10000000, min_insert_block_size_bytes = 0"
            )
            found.append((time.perf_counter() - started, _cpu_s() - cpu))
    with_s, without_s = (statistics.median(wall for wall, _ in found) for found in took.values())
    with_cpu, without_cpu = (statistics.median(cpu for _, cpu in found) for found in took.values())
    return {
        "block_rows": BLOCK_ROWS,
        "rows_per_s": round(BLOCK_ROWS / with_s),
        "rows_per_s_without": round(BLOCK_ROWS / without_s),
        "cpu_s_per_million": round(1e6 * with_cpu / BLOCK_ROWS, 2),
        "cpu_s_per_million_without": round(1e6 * without_cpu / BLOCK_ROWS, 2),
    }


def _cpu_s() -> float:
    """Of all threads of this process; merges in the background are in it."""
    times = os.times()
    return times.user + times.system
