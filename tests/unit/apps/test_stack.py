"""What a stack finds in its data folder from a run before."""

from __future__ import annotations

from pathlib import Path

import pytest

from emergency_stop.adapters.clickhouse import EMBEDDED_FOLDER
from emergency_stop.apps.stack.stack import Stack, put_aside
from emergency_stop.config import Settings, SettingsError


def test_the_database_of_a_former_run_is_kept_apart_and_the_one_before_it_goes(tmp_path: Path) -> None:
    put_aside(tmp_path)
    assert list(tmp_path.iterdir()) == []
    for run in ("first", "second"):
        database = tmp_path / EMBEDDED_FOLDER
        database.mkdir()
        (database / run).touch()
        put_aside(tmp_path)
        assert [path.name for path in tmp_path.rglob("*")] == [f"{EMBEDDED_FOLDER}.former", run]


def test_a_sign_in_at_the_embedded_broker_is_refused(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", kafka_security_protocol="SSL")
    with pytest.raises(SettingsError, match="set ESTOP_BROKERS"):
        Stack(settings, print, embedded=True, accounts=1, rate=1.0)
    assert not settings.data_dir.exists(), "before anything is touched"
