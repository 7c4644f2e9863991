"""The one place that reads the clock."""

from __future__ import annotations

import time


class SystemClock:
    """The ``ports.Clock`` of production."""

    def now_ms(self) -> int:
        """Wall time, milliseconds since the epoch."""
        return time.time_ns() // 1_000_000
