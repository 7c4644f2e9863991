"""When the signatures of holds are checked that were obeyed at once: in the pauses of the service's own work.

The shell around ``Unverified``: a task that lives while some scope waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from emergency_stop.domain.messages import Hold
from emergency_stop.sdk.unverified import Unverified

log = logging.getLogger(__name__)

#: Signatures that are checked in one go, about a millisecond; then the service's own work has its turn.
CHECKS_AT_ONCE: Final = 10
REST_MS: Final = 1


class DeferredChecks:
    """Holds that wait for ``check(hold)``, which verifies a hold and takes it over. Belongs to one event loop."""

    def __init__(self, check: Callable[[Hold], None], now_ms: Callable[[], int]) -> None:
        self._check = check
        self._now_ms = now_ms
        self._unverified = Unverified()
        #: The task that checks in pauses; ``None`` where none was needed yet.
        self.checking: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many scopes wait."""
        return len(self._unverified)

    def add(self, hold: Hold, now_ms: int) -> None:
        """Put the check of ``hold`` off until the next pause."""
        self._unverified.add(hold, now_ms)
        if self.checking is None or self.checking.done():
            self.checking = asyncio.get_running_loop().create_task(self._check_in_pauses(), name="check signatures")

    def check_now(self, scope: str) -> None:
        """All of ``scope`` at once: between two records of a scope the gate must not be seen open."""
        for hold in self._unverified.take(scope):
            try:
                self._check(hold)
            except Exception:
                # what it stops stays stopped, and whatever comes next must be heard all the same
                log.exception("the hold of %s (epoch %d) could not be checked", hold.scope, hold.epoch)

    def cancel(self) -> None:
        """Check nothing any more."""
        if self.checking is not None:
            self.checking.cancel()

    async def _check_in_pauses(self) -> None:
        while self._unverified:
            wait_ms = self._unverified.due_in_ms(self._now_ms())
            await asyncio.sleep(max(wait_ms, REST_MS) / 1000)
            if wait_ms == 0:
                for _ in range(min(CHECKS_AT_ONCE, len(self._unverified))):
                    self.check_now(self._unverified.oldest())
