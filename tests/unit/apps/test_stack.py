"""What a stack finds in its data folder from a run before."""

from __future__ import annotations

from pathlib import Path

from emergency_stop.adapters.clickhouse import EMBEDDED_FOLDER
from emergency_stop.apps.stack.stack import put_aside


def test_the_database_of_a_former_run_is_kept_apart_and_the_one_before_it_goes(tmp_path: Path) -> None:
    put_aside(tmp_path)
    assert list(tmp_path.iterdir()) == []
    for run in ("first", "second"):
        database = tmp_path / EMBEDDED_FOLDER
        database.mkdir()
        (database / run).touch()
        put_aside(tmp_path)
        assert [path.name for path in tmp_path.rglob("*")] == [f"{EMBEDDED_FOLDER}.former", run]
