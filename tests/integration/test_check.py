"""``estop check`` against a database that answers."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.adapters.embedded_broker import free_port
from emergency_stop.config import Settings
from emergency_stop.control.cli.check import Verdict, _clickhouse

pytestmark = pytest.mark.needs("chdb")
ANSWERS_WITHIN_S = 60.0


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Of a server made of chDB."""
    chosen = free_port()
    command = [sys.executable, "-m", "tests.campaign.sink.server", str(chosen), str(tmp_path / "server")]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as server:
        try:
            _until_it_answers(chosen)
            yield chosen
        finally:
            server.kill()


def _until_it_answers(port: int) -> None:
    deadline = time.monotonic() + ANSWERS_WITHIN_S
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/fault")
            connection.getresponse().read()
        except OSError:
            assert time.monotonic() < deadline, "the server never answered"
            time.sleep(0.05)
        else:
            return
        finally:
            connection.close()


def test_a_server_with_user_password_and_database_in_its_address_is_fine(port: int, tmp_path: Path) -> None:
    layer = _clickhouse(Settings(clickhouse_url=f"http://wendy:s3cret@127.0.0.1:{port}/estop", data_dir=tmp_path))
    assert (layer.verdict, layer.problems) == (Verdict.OK, [])
    assert layer.summary == f"http://127.0.0.1:{port}/estop answers"


def test_where_it_is_can_be_logged(port: int, tmp_path: Path) -> None:
    database = ClickHouse(f"http://wendy:s3cret@127.0.0.1:{port}/estop?compress=False", tmp_path)
    database.close()
    assert database.where == f"http://127.0.0.1:{port}/estop"
