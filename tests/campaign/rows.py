"""ClickHouse as an analyst sees it, once the sink has left: rows per table against the log."""

from __future__ import annotations

from collections.abc import Mapping

from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.config import Settings
from tests.campaign.log import Log
from tests.campaign.telemetry import TOPICS
from tests.campaign.verdict import TableRows

TABLE_OF_TELEMETRY = {topic: topic.removeprefix("telemetry.") + "_events" for topic in TOPICS}
#: Control topics that nothing compacts: every record of the log must be a row.
TABLE_OF_CONTROL = {
    "estop.hits": "hits",
    "estop.acks": "acks",
    "estop.audit": "audit",
    "estop.dead-letter": "dead_letters",
}
COMPACTED_TABLES = ("holds", "emergencies")


def count_rows(shared: Settings, log: Log, good: Mapping[str, int]) -> list[TableRows]:
    """Every table that the campaign fills. ``good`` is the number of valid records per telemetry topic."""
    expected = {table: good.get(topic, 0) for topic, table in TABLE_OF_TELEMETRY.items()}
    expected |= {table: _length(log, topic) for topic, table in TABLE_OF_CONTROL.items()}
    expected["commands"] = sum(_length(log, topic) for topic in log.topics() if topic.startswith("estop.commands."))
    database = ClickHouse(shared.clickhouse_url, shared.data_dir)
    try:
        found = {table: _count(database, table) for table in (*expected, *COMPACTED_TABLES)}
    finally:
        database.close()
    telemetry = set(TABLE_OF_TELEMETRY.values())
    return [
        TableRows(table, expected.get(table, rows), rows, distinct, telemetry=table in telemetry)
        for table, (rows, distinct) in found.items()
    ]


def _length(log: Log, topic: str) -> int:
    """Records of ``topic``; it is not compacted and nothing writes to it in transactions, so offsets tell."""
    return sum(log.end(topic, number) for number in log.partitions(topic))


def _count(database: ClickHouse, table: str) -> tuple[int, int]:
    answer = database.select(f"SELECT count(), uniqExact(_topic, _partition, _offset) FROM {table}")  # noqa: S608
    rows, distinct = answer["data"][0]
    return int(rows), int(distinct)
