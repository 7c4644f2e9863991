"""What the operating system says of this process: processor time, memory, and how many processors it may use."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import psutil

from emergency_stop.adapters.clock import steady_ms
from emergency_stop.domain.usage import Sample

_CGROUP_FILE: Final = Path("/proc/self/cgroup")
_CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
#: How a line of the group file begins that is about version 2.
_CGROUP_2: Final = "0::"
_MS_PER_S: Final = 1_000


class Meter(Protocol):
    """Both methods may raise ``OSError`` or ``psutil.Error``."""

    def sample(self) -> Sample:
        """As of now; some twenty microseconds."""
        ...

    def open_connections(self) -> int:
        """Network connections of this process. Blocking: a millisecond and more, where the machine has many."""
        ...


class ProcessMeter:
    """The ``Meter`` of this process."""

    def __init__(self) -> None:
        self._process = psutil.Process()

    def sample(self) -> Sample:
        return Sample(steady_ms(), time.process_time() * _MS_PER_S, self._process.memory_info().rss)

    def open_connections(self) -> int:
        return len(self._process.net_connections(kind="inet"))


def usable_processors(group_file: Path = _CGROUP_FILE, root: Path = _CGROUP_ROOT) -> float:
    """How many processors this process may use: what it is pinned to, or less where a container's quota is less.

    Quotas are read from control groups of version 2, the process's own and those around it.
    """
    pinned = len(os.sched_getaffinity(0)) if sys.platform.startswith("linux") else os.cpu_count() or 1
    return min((float(pinned), *_quotas(group_file, root)))


def _quotas(group_file: Path, root: Path) -> Iterator[float]:
    try:
        lines = group_file.read_text().splitlines()
    except OSError:
        return
    inside = next((line.removeprefix(_CGROUP_2) for line in lines if line.startswith(_CGROUP_2)), None)
    if inside is None:
        return
    own = root / inside.lstrip("/")
    for folder in (own, *own.parents):
        if folder != root and root not in folder.parents:
            return
        with contextlib.suppress(OSError):  # the outermost group has no quota
            quota, _, period = (folder / "cpu.max").read_text().strip().partition(" ")
            if quota.isdecimal() and period.isdecimal() and int(quota) > 0 < int(period):
                yield int(quota) / int(period)


def give_back_memory() -> None:
    """Have glibc return to the kernel what is free but kept. Blocking, tens of milliseconds at the worst, and whoever
    allocates meanwhile waits too: not to be called often.
    """
    if sys.platform.startswith("linux"):
        with contextlib.suppress(AttributeError, OSError):  # another C library has no such call
            ctypes.CDLL(None).malloc_trim(0)
