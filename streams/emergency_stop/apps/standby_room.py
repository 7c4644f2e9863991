"""Whether there is memory for copies of state that others own: they cost nothing but time to be without, so they go
first when a process has used more memory than it should for a while, and come back only where they fit again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from emergency_stop.adapters.process_usage import give_back_memory
from emergency_stop.domain.usage import CALM_PERCENT, Resource, Usage

log = logging.getLogger(__name__)

#: A burst does not cost the copies: takeovers without them are slower, and reading them anew is traffic.
PATIENCE_MS: Final = 30_000


class Copies(Protocol):
    """What ``adapters.state_standby.StandbyReader`` is to this."""

    @property
    def partitions(self) -> int:
        """How many there are."""
        ...

    def give_up(self) -> int:
        """Let go of them, and keep none until ``take_up``; returns the bytes they took."""
        ...

    def take_up(self) -> None:
        """Keep copies again."""
        ...


class StandbyRoom:
    """``note`` is a listener of a ``UsageWatch``. Belongs to its event loop."""

    def __init__(self, copies: Copies, memory_bytes_max: int, give_back: Callable[[], None] = give_back_memory) -> None:
        self._copies = copies
        self._memory_bytes_max = memory_bytes_max
        self._give_back = give_back
        #: What those took that were given up; ``None``: none are.
        self._needed_bytes: int | None = None

    def note(self, usage: Usage) -> None:
        """Decide anew, on a sample more."""
        over = usage.over.get(Resource.MEMORY)
        if self._needed_bytes is None:
            # While it calms down it counts as over, and is not: a burst must not be taken for a long time.
            is_high = over is not None and over.calm_since_ms is None
            if is_high and usage.over_for_ms(Resource.MEMORY) >= PATIENCE_MS and self._copies.partitions:
                self._let_go()
        elif over is None and usage.memory_bytes + self._needed_bytes <= self._memory_bytes_max * CALM_PERCENT // 100:
            self._needed_bytes = None
            self._copies.take_up()
            log.info("there is memory for standby copies of other detectors' state again")

    def _let_go(self) -> None:
        self._needed_bytes = self._copies.give_up()
        log.warning(
            "standby copies of other detectors' state (%d bytes) are given up, because the process has been over"
            " MAX_MEMORY_USAGE=%d for %d s; a takeover reads whole logs until they fit again. Raise it, or"
            " ESTOP_STANDBY_REPLICAS=0 does without them",
            self._needed_bytes, self._memory_bytes_max, PATIENCE_MS // 1000,
        )  # fmt: skip
        asyncio.get_running_loop().run_in_executor(None, self._give_back)
