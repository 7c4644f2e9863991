"""What a backtest reads from ClickHouse is what the decoder made of the same records, column by column."""

from __future__ import annotations

import copy
import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest

from emergency_stop.adapters import clickhouse_migrations as migrations
from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.adapters.record_batch import record_batch
from emergency_stop.apps.backtest.difference import recorded_hits
from emergency_stop.apps.backtest.span import Map, Span, map_span
from emergency_stop.apps.backtest.telemetry import Arrived, correlation_of, read_topic
from emergency_stop.apps.sink.blocks import BlockMaker
from emergency_stop.apps.sink.intake import Intaker
from emergency_stop.apps.sink.store import Storing, plan_inserts
from emergency_stop.columnar.columns import Columns
from emergency_stop.columnar.decoder import ColumnDecoder
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.columnar.program import SchemaMismatchError, wanted_roles
from emergency_stop.domain.topics import TELEMETRY, TopicSpec
from emergency_stop.wire.codec import frame
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.schemas import load_record_schema

pytestmark = pytest.mark.needs("chdb")
NOW_MS, ROWS, PARTITIONS = 1_700_000_000_000, 300, 3
COMMITTED, SPARSE, RICHER = 1, 2, 3
#: By partition.
WRITERS = ((SPARSE,), (RICHER,), (COMMITTED, SPARSE, RICHER))


class ThreeWriters(LocalRegistry):
    """Each record as committed, by a writer that gives only what must be there, and by one with symbols of its own."""

    def __init__(self, record: str) -> None:
        super().__init__()
        self.record = record

    def writer_schema(self, schema_id: int | str) -> dict[str, Any]:
        schema: dict[str, Any] = copy.deepcopy(load_record_schema(self.record))
        if schema_id == SPARSE:
            schema["fields"] = [field for field in schema["fields"] if "default" not in field]
        if schema_id == RICHER:
            for field in schema["fields"]:
                if isinstance(field["type"], dict) and field["type"].get("default"):
                    field["type"]["symbols"] = ["brand_new", *field["type"]["symbols"]]
        return schema


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    database = ClickHouse(None, tmp_path_factory.mktemp("database"))
    try:
        migrations.apply(database, 3_650, None)
        yield database
    finally:
        database.close()


def fields_of(record: str) -> tuple[str, ...]:
    """Every field that can be a column."""
    reader = load_record_schema(record)
    found = []
    for field in reader["fields"]:
        try:
            wanted_roles(reader, (field["name"],))
        except SchemaMismatchError:
            continue
        found.append(field["name"])
    return tuple(name for name in found if name not in ("occurred_at", "account_id"))


def value_of(kind: Any, rng: random.Random) -> Any:
    if isinstance(kind, list):
        return value_of(rng.choice(kind), rng)
    if isinstance(kind, dict):
        return rng.choice(kind["symbols"])
    values: dict[str, Any] = {
        "null": None,
        "string": rng.choice(("", "x", "naïve ☕", "a" * 300, "'quoted' \\ and\nbroken")),
        "double": rng.choice((0.0, -0.0, rng.uniform(-1e9, 1e9), 5e-324, 1.7e308)),
        "int": rng.randrange(-(2**31), 2**31),
        "long": rng.randrange(2**53),
    }
    return values[kind]


def batches(spec: TopicSpec, registry: LocalRegistry, rng: random.Random) -> list[FetchedBatch]:
    """A batch per partition, by the partition's writers; one record of each batch is refused."""
    found = []
    for partition in range(PARTITIONS):
        records = []
        for row in range(ROWS):
            schema_id = rng.choice(WRITERS[partition])
            writer = registry.writer_schema(schema_id)
            account = f"service-{rng.randrange(5)}@host" if spec.record == "SystemEvent" else f"ä-{rng.randrange(20)}"
            event = {field["name"]: value_of(field["type"], rng) for field in writer["fields"]}
            event |= {"account_id": account, "occurred_at": NOW_MS + rng.randrange(60_000)}
            body = io.BytesIO()
            fastavro.schemaless_writer(body, fastavro.parse_schema(writer, named_schemas={}), event)
            value = frame(schema_id, body.getvalue()) + (b"!" if row == ROWS // 2 else b"")
            records.append((NOW_MS + rng.randrange(60_000), account.encode(), value))
        found.append(FetchedBatch(spec.name, partition, 0, ROWS, (record_batch(records),)))
    return found


@pytest.mark.parametrize("spec", TELEMETRY, ids=lambda spec: spec.name)
def test_columns_from_the_database_are_those_of_the_decoder(database: ClickHouse, spec: TopicSpec) -> None:
    rng, record = random.Random(spec.name), spec.record or ""
    registry, fields = ThreeWriters(record), fields_of(record)
    sent = batches(spec, registry, rng)
    intaker = Intaker(registry, {spec.name: record})
    intakes = [intaker.take(batch, 0, ROWS) for batch in sent]
    # Twice, as after a sink that was paused for very long: a replay sees each record once.
    for cluster in ("one", "again"):
        inserts = plan_inserts(BlockMaker(registry), intakes, {spec.name: record})
        Storing(inserts, intakes, cluster, late=lambda: False).run(database)
    where = map_span(database, Span(NOW_MS, NOW_MS + 60_000, 10_000))
    parts = where.slices(ROWS // 2)
    assert len(parts) > 3
    for batch in sent:
        wanted = ColumnDecoder(registry, record).decode(batch, fields)
        read = [read_topic(database, part, spec.name, fields).get(batch.partition) for part in parts]
        found = [one for one in read if one is not None]
        assert sum(one.columns.n for one in found) == wanted.n == ROWS - 1
        _compare(wanted, found, fields)


def _compare(wanted: Columns, found: list[Arrived], fields: tuple[str, ...]) -> None:
    keys, first = [wanted.key(row) for row in range(wanted.n)], 0
    for one in found:
        columns = one.columns
        rows = slice(first, first + columns.n)
        for name in ("offset", "occurred_at", "record_timestamp", "key_hash"):
            assert (getattr(columns, name) == getattr(wanted, name)[rows]).all(), name
        for name in fields:
            assert np.array_equal(columns.fields[name], wanted.fields[name][rows], equal_nan=True), name
        assert [columns.key(row) for row in range(columns.n)] == keys[rows]
        assert (np.diff(one.at_ms) >= 0).all()
        assert (one.at_ms >= columns.record_timestamp).all()
        first += columns.n


def test_a_batch_of_its_own_keeps_what_its_rows_say(database: ClickHouse) -> None:
    where = map_span(database, Span(NOW_MS, NOW_MS + 60_000, 0))
    arrived = read_topic(database, where.slices()[0], "telemetry.health", ("health_score",))[1]
    whole, part = arrived.columns, arrived.part(slice(10, 20))
    assert (part.n, part.fetch_offset, part.next_offset) == (10, whole.offset[10], whole.offset[19] + 1)
    for row in range(part.n):
        assert part.key(row) == whole.key(10 + row)
        assert correlation_of(part, row) == correlation_of(whole, 10 + row)
        assert part.fields["health_score"][row] == whole.fields["health_score"][10 + row]
    assert {correlation_of(whole, row) for row in range(whole.n)} > {None, "naïve ☕"}


def test_offsets_belong_to_the_moment_of_the_latest_timestamp_before_them(database: ClickHouse) -> None:
    """A naive look at every record, against the map's edges."""
    where = map_span(database, Span(NOW_MS + 20_000, NOW_MS + 50_000, 15_000))
    for topic in ("telemetry.health", "telemetry.system"):
        table = {"telemetry.health": "health_events", "telemetry.system": "system_events"}[topic]
        for partition in range(PARTITIONS):
            rows = database.rows(
                "SELECT DISTINCT _offset, toUnixTimestamp64Milli(_timestamp) AS t"  # noqa: S608  (ours)
                f" FROM {table} WHERE _partition = {partition} ORDER BY _offset"
            )
            for edge, edge_ms in enumerate(where.edges_ms.tolist()):
                wanted = next((offset for offset, written in rows if written >= edge_ms), rows[-1][0] + 1)
                assert where.offsets[topic][edge, partition] == wanted
    assert where.edges_ms[where.since_edge] == NOW_MS + 20_000
    assert where.edges_ms[-1] == NOW_MS + 50_000
    assert recorded_hits(database, where) == []


def test_slices_lie_one_after_the_other_and_one_begins_where_hits_count() -> None:
    rows = np.array([5, 5, 5, 50, 5, 5, 5, 5])
    offsets = {"telemetry.health": np.arange(9).reshape(-1, 1)}
    where = Map(np.arange(9) * 100, offsets, rows, 4)
    slices = where.slices(12)
    assert [(one.from_ms, one.until_ms) for one in slices] == [
        (0, 200), (200, 300), (300, 400), (400, 600), (600, 800),
    ]  # fmt: skip
    assert [one.rows for one in slices] == [10, 5, 50, 10, 10]
    assert all(one.following is not None for one in slices)
    assert where.counted("telemetry.health", 0, 4)
    assert not where.counted("telemetry.health", 0, 3)
    assert not where.counted("telemetry.health", 0, 8)
    assert not where.counted("telemetry.health", 1, 5)
    assert not where.counted("estop.requests", 0, 5)


def test_an_empty_database_has_nothing_to_replay(tmp_path: Path) -> None:
    """One slice, whose topics have no offsets."""

    class Empty:
        def select(self, sql: str) -> dict[str, Any]:
            return {"data": [[0]]}

        def native(self, sql: str) -> bytes:
            return b""

    where = map_span(Empty(), Span(NOW_MS, NOW_MS + 60_000, 0))
    assert where.partitions == 0
    assert [one.rows for one in where.slices()] == [0]
