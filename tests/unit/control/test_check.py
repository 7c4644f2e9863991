"""What ``estop check`` says of a ClickHouse server: each failure in one line with a remedy, and never the password."""

from __future__ import annotations

import base64
import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from emergency_stop.adapters.clickhouse import ClickHouse, ClickHouseUnavailableError
from emergency_stop.adapters.embedded_broker import free_port
from emergency_stop.config import Settings
from emergency_stop.control.cli.check import Verdict, _clickhouse
from emergency_stop.control.cli.main import main
from emergency_stop.control.errors import EXIT_UNAVAILABLE

HIDDEN = "s3cret"
REFUSED = (
    "Code: 516. DB::Exception: wendy: Authentication failed:\n"
    "password is incorrect, or there is no user with such name."
)


class Refusing(BaseHTTPRequestHandler):
    """A ClickHouse that knows another password."""

    asked: list[tuple[str, str]]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append((self.path.partition("?")[0], self.headers.get("Authorization") or ""))
        self.send_response(403)
        self.send_header("X-ClickHouse-Exception-Code", "516")
        self.send_header("Content-Length", str(len(REFUSED)))
        self.end_headers()
        self.wfile.write(REFUSED.encode())

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        """Silence."""


@pytest.fixture
def refusing() -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """Its port, and (path, authorization) of every request."""
    asked: list[tuple[str, str]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Refusing,), {"asked": asked}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, asked
    server.shutdown()
    server.server_close()


def settings_for(port: int, folder: Path, scheme: str = "http") -> Settings:
    return Settings(clickhouse_url=f"{scheme}://wendy:{HIDDEN}@127.0.0.1:{port}/estop", data_dir=folder)


def test_a_wrong_password_is_found_and_not_shown(refusing: tuple[int, list[tuple[str, str]]], tmp_path: Path) -> None:
    port, asked = refusing
    layer = _clickhouse(settings_for(port, tmp_path))
    (problem,) = layer.problems
    assert (layer.verdict, layer.exit_code) == (Verdict.FAILED, EXIT_UNAVAILABLE)
    assert f"ClickHouse at http://127.0.0.1:{port}/estop cannot be used" in problem
    assert "Authentication failed: password is incorrect" in problem
    assert "check its host, port, user, password and database" in problem
    assert HIDDEN not in problem
    assert "\n" not in problem
    assert asked
    assert set(asked) == {("/", "Basic " + base64.b64encode(f"wendy:{HIDDEN}".encode()).decode())}


def test_a_server_that_is_not_there_is_told_in_a_report_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("ESTOP_BROKERS", "127.0.0.1:1")
    monkeypatch.setenv("ESTOP_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ESTOP_CLICKHOUSE_URL", f"http://wendy:{HIDDEN}@127.0.0.1:{free_port()}/estop")
    monkeypatch.setattr("emergency_stop.control.cli.check._WITHIN_S", 2.0)
    assert main(["check", "--json"]) == EXIT_UNAVAILABLE
    said = capsys.readouterr()
    (layer,) = [one for one in json.loads(said.out)["layers"] if one["name"] == "clickhouse"]
    assert layer["verdict"] == "failed"
    assert "Connection refused" in layer["problems"][0]
    assert HIDDEN not in said.out + said.err
    assert "Traceback" not in said.err
    assert "Unexpected Http Driver Exception" not in said.err


def test_an_error_of_the_adapter_hides_the_user_too(tmp_path: Path) -> None:
    with pytest.raises(ClickHouseUnavailableError) as refused:
        ClickHouse(f"http://wendy:{HIDDEN}@127.0.0.1:{free_port()}/estop", tmp_path)
    assert HIDDEN not in str(refused.value)
    assert "wendy" not in str(refused.value)


def test_https_is_spoken_where_the_address_says_so(tmp_path: Path) -> None:
    """The first byte of a TLS handshake is 22; of a request in the clear it would be a letter."""
    first: list[bytes] = []

    class Listening(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            first.append(self.request.recv(1))

    with socketserver.TCPServer(("127.0.0.1", 0), Listening) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        layer = _clickhouse(settings_for(server.server_address[1], tmp_path, scheme="https"))
        server.shutdown()
    assert layer.verdict is Verdict.FAILED
    assert set(first) == {b"\x16"}
