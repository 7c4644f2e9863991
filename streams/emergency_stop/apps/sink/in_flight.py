"""One flush on its way into the database, while the next is taken in.

The order of flushes is what keeps rows once: a range is frozen only after the one before it is stored and recorded. So
there is never more than one, and whoever begins the next has seen the end of the former, and what went wrong with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class InFlight:
    """At most one flush. Not thread-safe; belongs to one event loop."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    async def ended(self) -> None:
        """Wait for the flush that was begun, if any. Raises what it raised, once."""
        task, self._task = self._task, None
        if task is not None:
            await task

    async def begin(self, flush: Coroutine[Any, Any, None]) -> None:
        """Begin ``flush`` after the former one; raises what that raised, and then begins nothing."""
        try:
            await self.ended()
        except BaseException:
            flush.close()
            raise
        self._task = asyncio.create_task(flush)

    async def abandon(self) -> None:
        """Give up what is under way, as a crash would; what it was told to the database goes on there."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
