"""``make bench-sink``: the sink beside fastavro and ``client.insert``, from Apache Kafka into ClickHouse.

Both start on a topic that is full, store into the same tables with the same settings, and are measured from their
assignment to their last stored row. Into chDB; and into a server where ``ESTOP_CLICKHOUSE_URL`` names one, in a
database of the benchmark's own. Prints one line of JSON; 1 when a row is missing or doubled.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from emergency_stop.adapters import clickhouse_migrations
from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.domain.topics import TELEMETRY_HEALTH, TopicSpec
from emergency_stop.testing.brokers import ApacheKafka
from tests.bench.load import SPAN_MS, HealthLoad, produce
from tests.bench.meter import Reading
from tests.bench.stage import PARTITIONS, prepare, run_metered, say, settings_for

ROW_WISE_TOPIC: Final = "bench.row-wise"
RETAIN_DAYS: Final = 3_650
FOLDER_VARIABLE: Final = "ESTOP_DATA_DIR"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sink", description=__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--row-wise-rows", type=int, default=400_000, help="how many of them the row-wise client gets")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="estop-bench-sink-") as folder:
        (Path(folder) / "kafka").mkdir()
        with ApacheKafka(Path(folder) / "kafka") as kafka:
            return _bench(kafka.bootstrap, Path(folder), options)


def _bench(bootstrap: str, folder: Path, options: argparse.Namespace) -> int:
    prepare(settings_for(bootstrap, folder), [TopicSpec(ROW_WISE_TOPIC, None, partitions=PARTITIONS)])
    load = HealthLoad(options.seed, options.rows, 100_000, int(time.time() * 1000) - SPAN_MS)
    say(f"producing {load.events} events of {load.accounts} accounts")
    produce(bootstrap, {TELEMETRY_HEALTH: load.events, ROW_WISE_TOPIC: options.row_wise_rows}, load)
    report, good = _compare(bootstrap, folder / "chdb", None, options)
    if url := os.environ.get("ESTOP_CLICKHOUSE_URL"):
        more, also_good = _compare(bootstrap, folder / "server", url, options)
        report |= {f"server_{name}": value for name, value in more.items()}
        good = good and also_good
    print(json.dumps(report))
    return 0 if good else 1


def _compare(
    bootstrap: str, folder: Path, url: str | None, options: argparse.Namespace
) -> tuple[dict[str, float], bool]:
    """(the report, whether both stored what they should) of one database."""
    ours, right = _measure(bootstrap, folder / "ours", url, [options.rows], "subject")
    peer, also_right = _measure(bootstrap, folder / "peer", url, [options.row_wise_rows, ROW_WISE_TOPIC], "row_wise")
    report = {
        "rows_per_s": round(ours.events / ours.wall_s),
        "row_wise_rows_per_s": round(peer.events / peer.wall_s),
        "ratio_to_row_wise": round(ours.events / ours.wall_s / (peer.events / peer.wall_s), 1),
        "peak_rss_mb": ours.peak_rss_mb,
        "rows_per_cpu_s": round(ours.per_cpu_s),
        "row_wise_rows_per_cpu_s": round(peer.per_cpu_s),
        "cpu_ratio_to_row_wise": round(ours.per_cpu_s / peer.per_cpu_s, 1),
        "row_wise_peak_rss_mb": peer.peak_rss_mb,
    }
    return report, right and also_right


def _measure(
    bootstrap: str, folder: Path, url: str | None, arguments: list[object], module: str
) -> tuple[Reading, bool]:
    """A metered run into tables of its own, and whether they have every row once."""
    folder.mkdir(parents=True)
    own = f"estop_bench_{os.getpid()}_{module}"
    environment = {
        **settings_for(bootstrap, folder).as_env(),
        FOLDER_VARIABLE: str(folder),
        "RETAIN_EVENT_HISTORY": str(RETAIN_DAYS),
    }
    if url:
        _command(url, folder, f"CREATE DATABASE {own}")
        environment["ESTOP_CLICKHOUSE_URL"] = url = _in_database(url, own)
    try:
        database = ClickHouse(url, folder)
        clickhouse_migrations.apply(database, RETAIN_DAYS, None)
        database.close()
        command = [sys.executable, "-m", f"tests.bench.sink.{module}", *map(str, arguments)]
        reading = run_metered(command, environment, folder / "subject.log")
        say(f"{module}: {reading}")
        return reading, _stored(url, folder, reading.events)
    finally:
        if url:
            _command(url, folder, f"DROP DATABASE {own}")


def _stored(url: str | None, folder: Path, rows: int) -> bool:
    database = ClickHouse(url, folder)
    try:
        sql = "SELECT count(), uniqExact(_topic, _partition, _offset) FROM health_events"
        count, unique = map(int, database.select(sql)["data"][0])
    finally:
        database.close()
    if not rows == count == unique:
        say(f"FAILED: {rows} rows were to be stored; there are {count}, of {unique} origins")
    return rows == count == unique


def _command(url: str, folder: Path, sql: str) -> None:
    database = ClickHouse(url, folder)
    try:
        database.command(sql)
    finally:
        database.close()


def _in_database(url: str, name: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, f"/{name}", parts.query, ""))


if __name__ == "__main__":
    sys.exit(main())
