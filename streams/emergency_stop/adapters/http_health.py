"""``/metrics``, ``/livez`` and ``/readyz`` of a process, on a thread of their own."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

log = logging.getLogger(__name__)

Conditions = Callable[[], Mapping[str, bool]]
_TEXT: Final = "text/plain; charset=utf-8"


class HealthServer:
    """Serves until ``stop``. ``ready`` tells readiness by condition; a failing one is named in the answer.

    ``live`` is asked the same way: it is for what only a restart mends. Both are called on server threads.
    """

    def __init__(self, host: str, port: int, *, ready: Conditions, live: Conditions = dict) -> None:
        self._ready = ready
        self._live = live
        self._server = ThreadingHTTPServer((host, port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> None:
        self._thread.start()
        log.info("metrics and health at %s/metrics, /livez, /readyz", self.url)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str) -> tuple[int, str, bytes]:
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest()
        asked = {"/readyz": self._ready, "/livez": self._live}.get(path)
        if asked is None:
            return 404, _TEXT, b"known: /metrics, /livez, /readyz\n"
        conditions = dict(asked())
        failing = [name for name, holds in conditions.items() if not holds]
        body = json.dumps({"ok": not failing, "failing": failing, "conditions": conditions})
        return 503 if failing else 200, "application/json", body.encode() + b"\n"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = answer(self.path.partition("?")[0])
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
                log.debug(format, *args)

        return Handler
