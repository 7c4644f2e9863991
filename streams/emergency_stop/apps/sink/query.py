"""Read-only SQL on loopback. chDB belongs to the sink's process, so others ask it here while it runs."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

Select = Callable[[str], dict[str, Any]]
Native = Callable[[str], bytes]
ADDRESS_FILE: Final = "sink-query.json"
_SQL_BYTES_MAX: Final = 1_000_000
_AS_NATIVE: Final = "?format=native"


class QueryServer:
    """``POST /query`` with SQL as the body answers ClickHouse's JSONCompact, or with ``?format=native`` its Native
    format. Loopback only.
    """

    def __init__(self, port: int, select: Select, native: Native, data_dir: Path) -> None:
        self._select = select
        self._native = native
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/query"
        self._file = data_dir / ADDRESS_FILE

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, name="query", daemon=True).start()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps({"url": self.url}))
        log.info("read-only SQL: curl --data-binary 'SELECT count() FROM hits' %s", self.url)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._file.unlink(missing_ok=True)

    def _answer(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        """Status, content type, body."""
        try:
            if path.endswith(_AS_NATIVE):
                return 200, "application/octet-stream", self._native(body.decode())
            status, found = 200, self._select(body.decode())
        except PermissionError as error:
            status, found = 403, {"error": str(error)}
        except Exception as error:  # noqa: BLE001  (whatever the database says is the asker's answer)
            status, found = 400, {"error": str(error)}
        return status, "application/json", json.dumps(found).encode() + b"\n"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                status, kind, data = answer(self.path, self.rfile.read(min(size, _SQL_BYTES_MAX)))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
                log.debug(format, *args)

        return Handler
