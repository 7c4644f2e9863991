"""What a measured process says of itself: CPU and wall time between two moments, and its largest memory."""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Reading:
    """One measurement. ``cpu_s`` counts all threads, user and system."""

    events: int
    wall_s: float
    cpu_s: float
    peak_rss_mb: float

    @classmethod
    def from_line(cls, line: str) -> Self:
        return cls(**json.loads(line))


class Meter:
    """Runs from ``start`` (only the first call counts) to ``stop``."""

    def __init__(self) -> None:
        self._wall_s = 0.0
        self._cpu_s = 0.0
        self.running = False

    def start(self) -> None:
        if not self.running:
            self.running = True
            self._wall_s, self._cpu_s = time.monotonic(), time.process_time()

    def stop(self, events: int) -> None:
        """Print the reading as one line of JSON on standard output."""
        wall_s, cpu_s = time.monotonic() - self._wall_s, time.process_time() - self._cpu_s
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        json.dump(asdict(Reading(events, round(wall_s, 3), round(cpu_s, 3), round(peak_mb, 1))), sys.stdout)
        sys.stdout.write("\n")
        sys.stdout.flush()
