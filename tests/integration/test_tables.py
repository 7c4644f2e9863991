"""ClickHouse's tables keep all that the records say, also what former versions wrote, and as long as settings say."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest

from emergency_stop.adapters import clickhouse_migrations as migrations
from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.apps.sink.blocks import BlockMaker
from emergency_stop.apps.sink.intake import Intake
from emergency_stop.apps.sink.store import Storing, plan_inserts
from emergency_stop.apps.sink.tables import TABLES
from emergency_stop.columnar.container import row_from_body
from emergency_stop.domain import topics
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.schemas import load_record_schema, schemas_root

pytestmark = pytest.mark.needs("chdb")

TTL_DAYS = 3_650
IDS: dict[str, int] = json.loads((schemas_root() / "avro" / "ids.json").read_text())


@pytest.fixture
def database(tmp_path: Path) -> Iterator[ClickHouse]:
    database = ClickHouse(None, tmp_path)
    try:
        yield database
    finally:
        database.close()


def test_every_field_of_every_stored_record_has_its_column(database: ClickHouse) -> None:
    assert migrations.apply(database, 30, None)
    assert migrations.apply(database, 30, None) == ()
    for record, table in TABLES.items():
        fields = {field["name"] for field in load_record_schema(record)["fields"]}
        missing = fields - {row[0] for row in database.select(f"DESCRIBE TABLE {table}")["data"]}
        assert not missing, f"{table} has no column for {sorted(missing)}; add a migration to schemas/clickhouse"


def test_every_stored_table_is_durable_and_remembers_tokens(database: ClickHouse) -> None:
    """A table that a later migration adds must not lack what the sink builds on."""
    migrations.apply(database, 30, None)
    for table in sorted({*TABLES.values(), "dead_letters"}):
        ((made,),) = database.rows(f"SELECT create_table_query FROM system.tables WHERE name = '{table}'")  # noqa: S608
        for wanted in (
            "ENGINE = ReplacingMergeTree",
            "non_replicated_deduplication_window = 10000",
            "fsync_after_insert = 1",
            "fsync_part_directory = 1",
        ):
            assert wanted in made, f"{table} lacks {wanted!r}; see schemas/clickhouse/0007_sink_ranges.sql"


def test_a_dry_run_says_everything_and_changes_nothing(database: ClickHouse) -> None:
    steps = migrations.left(database, 30, None)
    assert "CREATE TABLE IF NOT EXISTS health_events" in migrations.as_script(steps)
    assert database.rows("SELECT count() FROM system.tables WHERE database = currentDatabase()")[0][0] == 0
    assert migrations.apply(database, 30, None) == tuple(step.name for step in steps)
    assert migrations.left(database, 30, None) == []


def test_a_changed_retention_reaches_tables_that_exist(database: ClickHouse) -> None:
    migrations.apply(database, 30, None)
    assert migrations.apply(database, 90, None) == ("retention of 90 days",)
    assert migrations.apply(database, 90, None) == ()
    ((made,),) = database.rows("SELECT engine_full FROM system.tables WHERE name = 'hits'")
    assert "toIntervalDay(90)" in made
    ((kept,),) = database.rows("SELECT engine_full FROM system.tables WHERE name = 'audit'")
    assert "TTL" not in kept, "the audit is kept for ever"


@pytest.mark.parametrize("script", sorted((schemas_root() / "clickhouse").glob("[0-9]*.sql")), ids=lambda at: at.stem)
def test_on_a_cluster_every_statement_is_replicated_and_good_sql(database: ClickHouse, script: Path) -> None:
    statements = migrations.render(script.read_text(), 30, "main")
    assert statements
    for statement in statements:
        assert " ON CLUSTER `main`" in statement, statement
        assert "non_replicated" not in statement
        if "ENGINE =" in statement:
            assert "ENGINE = Replicated" in statement
            assert "replicated_deduplication_window_seconds = 604800" in statement
        quoted = statement.replace("\\", "\\\\").replace("'", "\\'")
        ((formatted,),) = database.rows(f"SELECT formatQuery('{quoted}')")
        assert "ON CLUSTER main" in formatted.replace("`", "")


@pytest.mark.parametrize("cluster", [None, "main"])
def test_roles_are_good_sql_for_one_node_and_for_a_cluster(database: ClickHouse, cluster: str | None) -> None:
    statements = migrations.role_statements("stops", cluster)
    assert [statement.split()[0] for statement in statements] == ["CREATE", "GRANT", "CREATE", "CREATE"]
    assert "SELECT ON `stops`.* TO estop_analyst" in statements[1]
    for statement in statements:
        assert ("ON CLUSTER `main`" in statement) == (cluster is not None)
        quoted = statement.replace("\\", "\\\\").replace("'", "\\'")
        ((formatted,),) = database.rows(f"SELECT formatQuery('{quoted}')")
        assert "estop_analyst" in formatted


@pytest.mark.parametrize(
    "script", sorted((schemas_root() / "clickhouse" / "views").glob("*.sql")), ids=lambda at: at.stem
)
def test_on_a_cluster_every_view_is_made_on_all_nodes(database: ClickHouse, script: Path) -> None:
    for statement in migrations.render(script.read_text(), 30, "main"):
        assert re.match(r"CREATE OR REPLACE VIEW \w+ ON CLUSTER `main`\n?", statement), statement


def test_what_every_former_version_wrote_is_stored_by_todays_tables(database: ClickHouse) -> None:
    """Of each version one full record, and today's beside it in the same range."""
    migrations.apply(database, TTL_DAYS, None)
    former = sorted((schemas_root() / "avro" / "history").glob("*/v*.avsc"))
    stored = [path for path in former if path.parent.name in TABLES]
    assert {"Hold/v1", "Emergency/v1"} <= {f"{path.parent.name}/{path.stem}" for path in stored}
    for partition, path in enumerate(stored):
        schema = json.loads(path.read_text())
        old, new = _stored(database, path.parent.name, partition, (schema, _id(path.parent.name, path.stem)))
        for name in (field["name"] for field in schema["fields"] if field["type"] == "string"):
            assert old[name] == new[name] == "text", f"{path}: {name}"


def _stored(
    database: ClickHouse, record: str, partition: int, former: tuple[dict[str, Any], int]
) -> Iterator[dict[str, Any]]:
    """The rows that one record of ``former`` and one of today's schema became."""
    topic = next(spec.name for spec in topics.all_topics(("alpha",)) if spec.record == record)
    intake = Intake(topic, partition, 0, 2)
    for offset, (schema, number) in enumerate((former, (load_record_schema(record), IDS[record]))):
        body = io.BytesIO()
        fastavro.schemaless_writer(body, fastavro.parse_schema(schema, named_schemas={}), _full(schema, {}))
        intake.add(number, row_from_body((topic, partition), offset, 1_700_000_000_000, body.getvalue()), 1)
    inserts = plan_inserts(BlockMaker(LocalRegistry()), [intake], {topic: record})
    Storing(inserts, [intake], "test", late=lambda: False).run(database)
    answer = database.select(
        f"SELECT * FROM {TABLES[record]} WHERE _partition = {partition} ORDER BY _offset"  # noqa: S608  (names are ours)
    )
    assert len(answer["data"]) == 2, f"{record}, partition {partition}"
    names = [column["name"] for column in answer["meta"]]
    return (dict(zip(names, row, strict=True)) for row in answer["data"])


def _id(record: str, version: str) -> int:
    """The id that this version was written under; the newest one's is in ids.json."""
    history = json.loads((schemas_root() / "avro" / "history" / "ids.json").read_text())
    return next((int(number) for number, name in history.items() if name == f"{record}/{version}"), IDS[record])


def _full(kind: Any, named: dict[str, Any]) -> Any:
    """A value of the type with nothing left out: one item per list, and no null where there is another branch."""
    if isinstance(kind, list):
        return _full(next(branch for branch in kind if branch != "null"), named)
    if isinstance(kind, str):
        plain = {"string": "text", "int": 3, "long": 5, "double": 1.5, "float": 1.5, "boolean": True, "bytes": b"b"}
        return plain[kind] if kind in plain else _full(named[kind.rpartition(".")[2]], named)
    match kind["type"]:
        case "record":
            named[kind["name"]] = kind
            return {field["name"]: _full(field["type"], named) for field in kind["fields"]}
        case "enum":
            named[kind["name"]] = kind
            return kind["symbols"][0]
        case "array":
            return [_full(kind["items"], named)]
        case "map":
            return {"key": _full(kind["values"], named)}
        case other:
            return _full(other, named)
