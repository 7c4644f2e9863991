"""The one place that reads the clock."""

from __future__ import annotations

import time
from typing import Final


class SystemClock:
    """The ``ports.Clock`` of production."""

    def now_ms(self) -> int:
        """Wall time, milliseconds since the epoch."""
        return time.time_ns() // 1_000_000


#: Linux's clock that goes on while the machine sleeps; elsewhere the one that never jumps.
_STEADY: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_ms() -> int:
    """Milliseconds on a clock that never jumps; says nothing but how much time went by."""
    return time.clock_gettime_ns(_STEADY) // 1_000_000
