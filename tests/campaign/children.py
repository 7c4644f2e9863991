"""The processes under test: started, killed, paused and continued by their own pid, restarted when dead.

A child is told by the kernel to die with the campaign (``PR_SET_PDEATHSIG``), so that an
interrupted campaign leaves nothing behind. Start children from the main thread only: the kernel
ties that signal to the thread that forked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

PR_SET_PDEATHSIG = 1
#: Long enough for a restart storm to be seen in the log, short enough not to idle the campaign.
RESTART_DELAY_S = 0.3
STOP_TIMEOUT_S = 60.0


class Condition(StrEnum):
    """Where the campaign believes a child to be."""

    OUT = "out"
    UP = "up"
    PAUSED = "paused"
    DEAD = "dead"
    LEAVING = "leaving"


#: A stub that asks for that signal and becomes the command: same pid, and no Python code between a
#: fork and an exec in this process, which runs threads.
_DIE_WITH_PARENT = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, {int(signal.SIGKILL)})
os.execvp(sys.argv[1], sys.argv[1:])
"""


def _dying_with_parent(command: Sequence[str]) -> list[str]:
    linux = sys.platform.startswith("linux")
    return [sys.executable, "-S", "-E", "-c", _DIE_WITH_PARENT, *command] if linux else list(command)


@dataclass
class Child:
    """One process under test and its successors; all write to one log file in ``logs``.

    Between ``join`` and ``leave`` a death is answered by a restart from ``look_after``.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    logs: Path
    condition: Condition = Condition.OUT
    starts: int = 0
    #: (seconds since the epoch, exit status) of every death that the campaign did not cause.
    own_exits: list[tuple[float, int]] = field(default_factory=list)
    #: Exit status of every SIGTERM; 0 is right, -9 means that it had to be killed.
    leave_statuses: list[int] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None
    _restart_at_s: float = 0.0
    _leave_by_s: float = 0.0

    @property
    def log_path(self) -> Path:
        return self.logs / f"{self.name}.log"

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def join(self) -> None:
        """Start it. Does nothing while it is in."""
        if self.condition is not Condition.OUT:
            return
        self._start()

    def _start(self) -> None:
        with self.log_path.open("ab") as log:
            log.write(f"--- campaign: start {self.starts + 1} of {self.name} at {time.time():.3f}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                _dying_with_parent(self.command),
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.starts += 1
        self.condition = Condition.UP

    def kill(self) -> None:
        """``kill -9``, now. ``look_after`` restarts it."""
        if self._process is None or self.condition not in (Condition.UP, Condition.PAUSED):
            return
        self._process.kill()
        self._process.wait()
        self._die()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)
        self.condition = Condition.PAUSED

    def resume(self) -> None:
        if self.condition is Condition.PAUSED:
            self._signal(signal.SIGCONT)
            self.condition = Condition.UP

    def leave(self) -> None:
        """Ask it to go (SIGTERM), without waiting: ``look_after`` notices when it has, or kills it when overdue."""
        if self.condition in (Condition.OUT, Condition.LEAVING):
            return
        if self.condition is Condition.DEAD:
            self.condition = Condition.OUT
            return
        self.resume()
        self._signal(signal.SIGTERM)
        self.condition = Condition.LEAVING
        self._leave_by_s = time.monotonic() + STOP_TIMEOUT_S

    def look_after(self) -> None:
        """Notice a death, and restart what is due."""
        status = self._process.poll() if self._process else None
        match self.condition:
            case Condition.UP if status is not None:
                self.own_exits.append((time.time(), status))
                self._die()
            case Condition.DEAD if time.monotonic() >= self._restart_at_s:
                self._start()
            case Condition.LEAVING if status is not None:
                self.leave_statuses.append(status)
                self.condition = Condition.OUT
            case Condition.LEAVING if time.monotonic() >= self._leave_by_s and self._process is not None:
                self._process.kill()  # noticed above at the next turn, as status -9

    def _die(self) -> None:
        self.condition = Condition.DEAD
        self._restart_at_s = time.monotonic() + RESTART_DELAY_S

    def _signal(self, number: signal.Signals) -> None:
        # poll() first: a pid that was reaped may belong to somebody else by now.
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)
