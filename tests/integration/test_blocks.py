"""Rows become the same in the tables, whether ClickHouse gets them as Native blocks or as Avro containers."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest

from emergency_stop.adapters import clickhouse_migrations as migrations
from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.apps.sink.tables import TABLES
from emergency_stop.columnar.block import Block, block_form, native_block
from emergency_stop.columnar.container import container, container_schema, row_from_body
from emergency_stop.domain import topics
from emergency_stop.wire.schemas import load_record_schema, schemas_root

pytestmark = pytest.mark.needs("chdb")

ROWS = 40
SEED = 20261125
NOW_MS = 1_700_000_000_000
TELEMETRY = sorted(spec.record for spec in topics.TELEMETRY if spec.record)


def committed() -> list[tuple[str, dict[str, Any]]]:
    """Every version of every stored record that can be a block."""
    newest = [(record, load_record_schema(record)) for record in TABLES]
    history = sorted((schemas_root() / "avro" / "history").glob("*/v*.avsc"))
    former = [(path.parent.name, json.loads(path.read_text())) for path in history if path.parent.name in TABLES]
    return [(record, schema) for record, schema in newest + former if block_form(container_schema(schema))]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[ClickHouse]:
    database = ClickHouse(None, tmp_path)
    try:
        migrations.apply(database, 3_650, None)
        yield database
    finally:
        database.close()


def test_all_telemetry_goes_as_blocks() -> None:
    assert set(TELEMETRY) <= {record for record, _ in committed()}


def test_both_formats_store_the_same_rows(database: ClickHouse) -> None:
    rng = random.Random(SEED)
    for number, (record, schema) in enumerate(committed()):
        rows, written = _rows(rng, schema, number), container_schema(schema)
        form = block_form(written)
        assert form is not None
        stored = []
        for block in (Block("Avro", container(written, ROWS, rows)), native_block(form, ROWS, rows)):
            database.command(f"CREATE OR REPLACE TABLE copies AS {TABLES[record]}")
            database.insert_block("copies", block, f"{number}")
            stored.append(database.select("SELECT * EXCEPT _ingested_at FROM copies ORDER BY _offset")["data"])
            ((ingested,),) = database.rows("SELECT countIf(_ingested_at > now() - INTERVAL 1 HOUR) FROM copies")
            assert ingested == ROWS, f"seed {SEED}, {record}: the default is in neither format"
        assert len(stored[0]) == ROWS
        assert stored[0] == stored[1], f"seed {SEED}, {record}"


def _rows(rng: random.Random, schema: dict[str, Any], partition: int) -> list[bytes]:
    parsed = fastavro.parse_schema(schema, named_schemas={})
    rows = []
    for offset in range(ROWS):
        body = io.BytesIO()
        values = {field["name"]: _value(rng, field["name"], field["type"]) for field in schema["fields"]}
        fastavro.schemaless_writer(body, parsed, values)
        rows.append(row_from_body(("a.topic", partition), offset, NOW_MS + offset, body.getvalue()))
    return rows


def _value(rng: random.Random, name: str, kind: Any) -> Any:
    if isinstance(kind, list):
        return rng.choice((None, "", "text", "日本語"))
    if isinstance(kind, dict):
        return rng.choice(kind["symbols"])
    if name.endswith("_at"):
        return NOW_MS + rng.randrange(-1_000_000, 1_000_000)
    values: dict[str, Any] = {
        "string": rng.choice(("", "a", "text", "x" * 200, "日本語", f"text-{rng.randrange(1_000)}")),
        "int": rng.randrange(-(2**31), 2**31),
        "long": rng.randrange(-(2**63), 2**63),
        "double": rng.choice((0.0, -1.5, rng.uniform(-1e9, 1e9))),
    }
    return values[kind]
