"""One process of the stack: started with its settings, watched, ended by its own pid."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from emergency_stop.adapters.embedded_broker import die_with_parent, free_port
from emergency_stop.config import Settings

_POLL_MS: Final = 100
_PROBE_TIMEOUT_S: Final = 2.0
_STOP_WITHIN_S: Final = 10.0
_LOG_TAIL_BYTES: Final = 2_000


class StackError(RuntimeError):
    """The stack cannot come up; the text names the process and the end of its log."""


@dataclass(slots=True)
class Child:
    """``arguments`` follow ``program``, by default ``estop``. The child dies with this process, however that ends."""

    name: str
    arguments: Sequence[str]
    settings: Settings
    log_path: Path
    restarts: int = 0
    port: int = 0
    #: What Python runs.
    program: Sequence[str] = ("-m", "emergency_stop.control.cli.main")
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it; its log is appended to."""
        self.port = self.port or free_port()
        own = replace(self.settings, metrics_port=self.port, instance_id=self.name)
        command = [sys.executable, *self.program, *self.arguments]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **own.as_env()},
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process else None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def failing(self) -> list[str]:
        """Names of the readiness conditions that do not hold; blocking, for at most two seconds."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=_PROBE_TIMEOUT_S):  # noqa: S310  (loopback)
                return []
        except urllib.error.HTTPError as error:
            try:
                return list(json.loads(error.read()).get("failing", ["not ready"]))
            except ValueError:
                return ["not ready"]
        except OSError:
            return ["not answering yet"]

    async def ready(self, within_ms: int) -> None:
        """Wait until it is ready. Raises ``StackError`` when it ended or took too long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_ms / 1000
        while True:
            failing = await asyncio.to_thread(self.failing)
            if not failing:
                return
            if self.exit_code is not None:
                raise StackError(f"{self.name} ended with code {self.exit_code}; its log ends:\n{self.log_tail()}")
            if loop.time() > deadline:
                missing = ", ".join(failing)
                raise StackError(f"{self.name} is not ready ({missing}) after {within_ms} ms:\n{self.log_tail()}")
            await asyncio.sleep(_POLL_MS / 1000)

    async def stop(self) -> None:
        """End it in good order, or by force when that takes too long. Idempotent."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, _STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)

    def kill(self) -> None:
        """``kill -9``, now; for those who try what that does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def log_tail(self) -> str:
        data = self.log_path.read_bytes() if self.log_path.exists() else b""
        return data[-_LOG_TAIL_BYTES:].decode(errors="replace")
