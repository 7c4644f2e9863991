"""What a measured process says of itself: CPU and wall time between moments, and its largest memory.

Standard library only: peers run it under interpreters that have nothing of ours.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Self


@dataclass(frozen=True, slots=True)
class Reading:
    """One measurement. ``cpu_s`` counts all threads, user and system.

    ``warm_*`` is the part of it after half of the events: compilers and caches have warmed up by then.
    """

    events: int
    wall_s: float
    cpu_s: float
    peak_rss_mb: float
    warm_events: int
    warm_wall_s: float
    warm_cpu_s: float

    @classmethod
    def from_line(cls, line: str) -> Self:
        return cls(**json.loads(line))

    @property
    def per_cpu_s(self) -> float:
        return self.events / self.cpu_s

    @property
    def warm_per_cpu_s(self) -> float:
        return self.warm_events / self.warm_cpu_s


class _Mark(NamedTuple):
    events: int
    wall_s: float
    cpu_s: float

    @classmethod
    def now(cls, events: int) -> Self:
        return cls(events, time.monotonic(), time.process_time())


class Meter:
    """Runs from ``start`` (only the first call counts) to ``stop``, over ``total`` events."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._first: _Mark | None = None
        self._half: _Mark | None = None
        self.running = False

    def start(self) -> None:
        if self._first is None:
            self.running = True
            self._first = _Mark.now(0)

    def note(self, seen: int) -> None:
        """``seen`` events are processed so far; marks the middle when it is first reached."""
        if self._half is None and seen >= self._total // 2:
            self._half = _Mark.now(seen)

    def stop(self) -> None:
        """Print the reading as one line of JSON on standard output. Obliges: ``start`` and the middle came before."""
        end = _Mark.now(self._total)
        self.running = False
        if self._first is None or self._half is None:
            raise RuntimeError("the meter was stopped before it had seen a start and half of the events")
        whole, warm = _between(self._first, end), _between(self._half, end)
        json.dump(asdict(Reading(*whole, peak_rss_mb(), *warm)), sys.stdout)
        sys.stdout.write("\n")
        sys.stdout.flush()


def _between(start: _Mark, end: _Mark) -> tuple[int, float, float]:
    return end.events - start.events, round(end.wall_s - start.wall_s, 3), round(end.cpu_s - start.cpu_s, 3)


def peak_rss_mb() -> float:
    """Largest resident memory since the program was loaded; getrusage would count what was there before exec."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise RuntimeError("/proc/self/status has no VmHWM: Linux is needed")
