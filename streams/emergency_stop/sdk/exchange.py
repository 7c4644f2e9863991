"""One request and its answer, in flight until the answer is closed; a stop cuts it.

Theory of operation. A permit belongs to the task that entered it, but an HTTP answer may be read by another
task, later, or by nobody. So a stop does not cancel a task because it once sent a request:

* while some task waits for the wire (``awaiting``), that task is cancelled there, and the cancellation
  becomes ``Stopped`` before it leaves ``awaiting``;
* while nobody does, the answer is closed by a task of its own, and whoever reads on gets ``Stopped``.

Either way the exchange stays in flight until the connection was given up: a STOPPED does not overtake it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator

from emergency_stop.sdk.gate import Stopped
from emergency_stop.sdk.guard import StopGuard
from emergency_stop.sdk.permit import finish

log = logging.getLogger(__name__)


class Exchange:
    """Begins when it is made: raises ``Stopped`` where a stop applies to ``account_id``."""

    def __init__(self, guard: StopGuard, account_id: str | None) -> None:
        self._permit = guard.open_permit(account_id, self._cut)
        self._close_wire: Callable[[], Awaitable[None]] | None = None
        self._waiter: asyncio.Task[object] | None = None
        self._cuts = 0
        self._closing: asyncio.Task[None] | None = None
        self._is_closed = False
        self._has_ended = False
        self._error: BaseException | None = None
        self._permit.begin()

    @contextlib.contextmanager
    def awaiting(self) -> Iterator[None]:
        """Put this around every wait for the wire, one at a time. Raises ``Stopped`` when a stop cuts it."""
        if self._permit.shut is not None:
            raise self._stopped()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an exchange is awaited within a task; run it under asyncio.run or create_task")
        cancelled_before = task.cancelling()
        self._waiter = task
        try:
            yield
        except asyncio.CancelledError as error:
            if self._take_back(task) and task.cancelling() <= cancelled_before:
                raise self._stopped() from error
            raise
        finally:
            was_cut = self._take_back(task)
        if was_cut:
            # the answer came in the moment of the cut
            raise self._stopped()

    def answered(self, close_wire: Callable[[], Awaitable[None]]) -> None:
        """From now on ``close_wire`` gives the connection up; it must be idempotent."""
        self._close_wire = close_wire

    async def close(self, error: BaseException | None = None) -> None:
        """Give the connection up, and end, with ``error`` where the exchange has failed.

        Idempotent; whoever comes second waits for the first.
        """
        self._error = self._error or error
        if self._closing is not None:
            await finish(asyncio.wait([self._closing]))
        elif not self._is_closed:
            await self._close()

    def end(self) -> None:
        """Nothing is on the wire any more. Idempotent."""
        if not self._has_ended:
            self._has_ended = True
            self._permit.end(self._error)

    async def _close(self) -> None:
        self._is_closed = True
        try:
            if self._close_wire is not None:
                await self._close_wire()
        finally:
            self.end()

    def _cut(self) -> bool:
        if self._waiter is not None:
            self._cuts += 1
            return self._waiter.cancel()
        if not self._is_closed:
            self._is_closed = True
            self._closing = asyncio.get_running_loop().create_task(self._close_unawaited(), name="cut exchange")
        return True

    async def _close_unawaited(self) -> None:
        try:
            await self._close()
        except Exception as error:  # noqa: BLE001  # the connection is given up; how it ended is no longer of use
            log.debug("closing an answer that a stop cut: %r", error)

    def _take_back(self, task: asyncio.Task[object]) -> bool:
        """Undo our cancellations of ``task``; whether there were any."""
        self._waiter = None
        cuts, self._cuts = self._cuts, 0
        for _ in range(cuts):
            task.uncancel()
        return cuts > 0

    def _stopped(self) -> Stopped:
        shut = self._permit.shut
        if shut is None:
            raise AssertionError("an exchange was cut by no stop")
        return Stopped(shut, self._permit.account_id)
