"""A ClickHouse server made of chDB: ClickHouse's HTTP interface, as far as the sink's client uses it, and its faults.

``python -m tests.campaign.sink.server PORT FOLDER``. A killed one leaves what it has stored in ``FOLDER``. The next
insert of rows after a request to ``/fault/<name>`` fails as a real server's does:

* ``lose``: it is stored, and the answer is lost;
* ``linger-<seconds>``: the connection breaks at once, and the insert is stored later, when the client has gone on;
* ``hold``: the same, but stored when ``/release`` asks for it, which answers how many were; until the next request to
  ``/fault/`` (a name may be missing), further inserts of rows are refused;
* ``die``: it is stored, and the server dies before it answers;
* ``refuse``: nothing is stored, and the client is told so.

``/fault`` names the fault that still waits for its insert.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import chdb

#: What the HTTP interface itself takes; all other parameters are settings.
_OF_HTTP: Final = frozenset(
    {"query", "database", "session_id", "session_timeout", "session_check", "query_id", "client_protocol_version",
     "enable_http_compression", "compress", "decompress", "wait_end_of_query", "send_progress_in_http_headers",
     "http_headers_progress_interval_ms", "role", "quota_key", "readonly"}
)  # fmt: skip
_INSERT: Final = re.compile(rb"^\s*(INSERT INTO .+?)\s+FORMAT\s+(\w+)\s*?\n", re.DOTALL)
_LEDGER: Final = re.compile(rb"^\s*INSERT INTO `?(sink_|migrations)")


class Engine:
    """chDB, one statement at a time."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._connection: Any = chdb.connect(str(folder))  # type: ignore[no-untyped-call]  # chdb has no types here
        self._one_at_a_time = threading.Lock()

    def run(self, statement: bytes, settings: dict[str, str]) -> bytes:
        """The answer's bytes. Raises ``RuntimeError`` with what the database says."""
        clause = ", ".join(f"{name} = '{value}'" for name, value in settings.items())
        found = _INSERT.match(statement)
        with self._one_at_a_time:
            if found is None:
                return bytes(self._connection.query(statement.decode(), "TabSeparated").bytes())
            with tempfile.NamedTemporaryFile() as file:
                file.write(statement[found.end() :])
                file.flush()
                head, name = found.group(1).decode(), found.group(2).decode()
                ending = f" SETTINGS {clause}" if clause else ""
                sql = f"{head} FROM INFILE '{file.name}'{ending} FORMAT {name}"
                return bytes(self._connection.query(sql, "TabSeparated").bytes())


class Server(ThreadingHTTPServer):
    """Serves one engine; ``fault`` is what the next insert of rows suffers."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, folder: Path) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.engine = Engine(folder)
        self.fault = ""
        self.refusing = False
        self.held: list[tuple[bytes, dict[str, str]]] = []

    def release(self) -> int:
        """Store what was held back; returns how many inserts that were."""
        held, self.held = self.held, []
        for statement, settings in held:
            self.engine.run(statement, settings)
        return len(held)

    def take_fault(self) -> str:
        if self.refusing:
            return "refuse"
        fault, self.fault = self.fault, ""
        return fault


class Handler(BaseHTTPRequestHandler):
    """One request; a lost answer is a closed connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        address = urlsplit(self.path)
        parameters = dict(parse_qsl(address.query, keep_blank_values=True))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        if address.path.startswith("/fault/"):
            self.server.fault, self.server.refusing = address.path.removeprefix("/fault/"), False
            return self._answer(200, b"")
        if address.path == "/release":
            return self._answer(200, str(self.server.release()).encode())
        if address.path == "/fault":
            return self._answer(200, self.server.fault.encode())
        query = parameters.get("query", "").encode()
        statement = query + b"\n" + body if query else body
        settings = {name: value for name, value in parameters.items() if name not in _OF_HTTP}
        is_rows = bool(_INSERT.match(statement)) and not _LEDGER.match(statement)
        return self._perform(statement, settings, self.server.take_fault() if is_rows else "")

    def _perform(self, statement: bytes, settings: dict[str, str], fault: str) -> None:
        kind, _, seconds = fault.partition("-")
        if kind == "hold":
            self.server.refusing = True
            self.server.held.append((statement, settings))
            return self._break()
        if kind == "linger":
            self._break()
            time.sleep(float(seconds))  # the fault itself: the statement is under way while its sender goes on
            self.server.engine.run(statement, settings)
            return None
        if fault == "refuse":
            return self._answer(500, b"Code: 252. DB::Exception: too many parts (a fault of the test)")
        try:
            answer = self.server.engine.run(statement, settings)
        except RuntimeError as error:
            return self._answer(500, str(error).encode())
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "lose":
            return self._break()
        return self._answer(200, answer)

    def _break(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(2)

    def _answer(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _chunks(self) -> bytes:
        found = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            found.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(found)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class's name)
        """Silence: the sink's log says what matters."""


def main() -> None:
    port, folder = sys.argv[1:]
    Server(int(port), Path(folder)).serve_forever()


if __name__ == "__main__":
    main()
