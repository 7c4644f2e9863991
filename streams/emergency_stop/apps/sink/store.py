"""Intakes → ClickHouse, in an order that no crash can turn into a loss or a duplicate.

Theory of operation. Per flush: dead letters are acknowledged by the broker; then, per table, one insert of
one block (all of it is stored, or none); then the positions. Positions are read back at start: what is
recorded, or what the rows themselves say where a crash came between. So rows are inserted from exactly
where they end. A repeated insert of the same ranges carries the same token and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.apps.sink.intake import DEAD_LETTER_COLUMNS, DEAD_LETTERS, TABLES, Intake, Intaker
from emergency_stop.columnar.container import container, container_schema
from emergency_stop.wire.schemas import load_record_schema


@dataclass(frozen=True, slots=True)
class TableInsert:
    """One block for one table."""

    table: str
    token: str
    rows: int
    block: bytes | None
    raw_rows: tuple[tuple[object, ...], ...] = ()


def plan_inserts(intaker: Intaker, intakes: Iterable[Intake], records: dict[str, str | None]) -> list[TableInsert]:
    """One insert per table over all its partitions' ranges. The same intakes make the same inserts."""
    by_table: dict[str, list[Intake]] = {}
    for intake in intakes:
        record = records[intake.topic]
        by_table.setdefault(TABLES[record] if record else DEAD_LETTERS, []).append(intake)
    inserts = []
    for table, parts in sorted(by_table.items()):
        made = _insert(intaker, table, records[parts[0].topic], parts)
        if made.rows:
            inserts.append(made)
    return inserts


def _insert(intaker: Intaker, table: str, record: str | None, parts: list[Intake]) -> TableInsert:
    ranges = sorted(f"{one.topic}:{one.partition}:{one.fetch_offset}-{one.next_offset - 1}" for one in parts)
    token = f"{table}:{','.join(ranges)}"
    if record is None:
        raw = tuple(row for one in parts for row in one.raw_rows)
        return TableInsert(table, token, len(raw), None, raw)
    count = sum(sum(one.counts.values()) for one in parts)
    schemas = list(dict.fromkeys(schema for one in parts for schema in one.rows))
    rows = [(schema, data) for one in parts for schema, pieces in one.rows.items() for data in pieces]
    if not schemas or (len(schemas) == 1 and intaker.fits(record, schemas[0])):
        schema = intaker.container_schema(schemas[0]) if schemas else {}
        block = container(schema, count, [data for _, data in rows]) if schemas else None
    else:
        block = container(container_schema(load_record_schema(record)), count, intaker.uniform(record, rows))
    return TableInsert(table, token, count, block)


def store(database: ClickHouse, inserts: Iterable[TableInsert], intakes: Iterable[Intake], cluster: str) -> None:
    """Insert and record positions; blocking. Raises what the driver raises; repeating it is safe."""
    for one in inserts:
        token = f"{cluster}:{one.token}"
        if one.block is not None:
            database.insert_avro(one.table, one.block, token)
        else:
            database.insert_rows(one.table, DEAD_LETTER_COLUMNS, one.raw_rows, token)
    positions = [
        (one.topic, one.partition, one.next_offset, sum(one.counts.values()) + len(one.raw_rows), len(one.dead))
        for one in intakes
    ]
    names = ("topic", "partition", "next_offset", "rows", "dead_lettered")
    ends = ",".join(f"{topic}:{partition}:{following}" for topic, partition, following, _, _ in positions)
    database.insert_rows("sink_positions", names, positions, f"{cluster}:positions:{ends}")
