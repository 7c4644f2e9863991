"""The one thread on which everything that blocks on the database runs, and patience with a database that is away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from emergency_stop.adapters.clickhouse import ClickHouse

log = logging.getLogger(__name__)

RETRY_MS: Final = 100
RETRY_MS_MAX: Final = 10_000
T = TypeVar("T")


class StoppedError(Exception):
    """Told to stop while the database does not answer: what waits is read again at the next start."""


class DatabaseThread:
    """Belongs to one event loop. ``retried`` is told of every call that failed."""

    def __init__(self, database: ClickHouse, retried: Callable[[], None]) -> None:
        self._database = database
        self._retried = retried
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="clickhouse")
        self._stop = asyncio.Event()
        #: Whether the last call was answered.
        self.answers = True

    def told_to(self, stop: asyncio.Event) -> None:
        """``stop`` ends what waits for the database."""
        self._stop = stop

    async def run(self, work: Callable[[ClickHouse], T]) -> T:
        """``work`` once. Raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._database)

    async def until_done(self, what: str, work: Callable[[ClickHouse], T]) -> T:
        """The same work until the database takes it.

        Raises ``StoppedError`` when the process is told to stop while the database refuses.
        """
        delay_ms = RETRY_MS
        while True:
            try:
                result = await self.run(work)
            except Exception as error:
                self.answers = False
                self._retried()
                log.warning("could not %s (%s); trying the same again in %d ms", what, error, delay_ms)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), delay_ms / 1000)
                if self._stop.is_set():
                    raise StoppedError(f"stopping; could not {what}: it is read from Kafka again") from error
                delay_ms = min(delay_ms * 2, RETRY_MS_MAX)
            else:
                self.answers = True
                return result

    def end(self) -> None:
        """Wait for the call that runs, and take no other. Blocking."""
        self._thread.shutdown(wait=True, cancel_futures=True)
