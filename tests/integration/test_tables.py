"""ClickHouse's tables keep all that the records say: a field without a column would be left out in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.apps.sink.intake import TABLES
from emergency_stop.wire.schemas import load_record_schema

pytestmark = pytest.mark.needs("chdb")


def test_every_field_of_every_stored_record_has_its_column(tmp_path: Path) -> None:
    database = ClickHouse(None, tmp_path)
    try:
        assert database.migrate(30)
        assert database.migrate(30) == ()
        for record, table in TABLES.items():
            fields = {field["name"] for field in load_record_schema(record)["fields"]}
            missing = fields - {row[0] for row in database.select(f"DESCRIBE TABLE {table}")["data"]}
            assert not missing, f"{table} has no column for {sorted(missing)}; add a migration to schemas/clickhouse"
    finally:
        database.close()
