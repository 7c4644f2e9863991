"""Tasks of the guard's own, and who ended them.

A ``CancelledError`` says that a task was told to end, or that some other task was which it awaits: a service's handler
that cancels its own worker and awaits it raises it too. Taken for the former, the latter ends the guard's task in
silence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

from emergency_stop.domain.texts import described

log = logging.getLogger(__name__)


def is_told_to_end() -> bool:
    """Whether the running task itself was cancelled, so that a ``CancelledError`` must go on up."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def watched(work: Coroutine[None, None, None], name: str, failed: Callable[[str], None]) -> asyncio.Task[None]:
    """Run ``work`` as a task. Should it raise, or be cancelled by nobody, that is logged and ``failed(why)`` called."""
    task = asyncio.get_running_loop().create_task(work, name=name)

    def look(ended: asyncio.Task[None]) -> None:
        error: BaseException | None
        if not ended.cancelled():
            error = ended.exception()
        elif ended.cancelling():
            error = None
        else:
            error = asyncio.CancelledError("cancelled, though nobody told it to end")
        if error is not None:
            why = f"{name} ended unexpectedly ({described(error)})"
            log.error("%s", why, exc_info=error)
            failed(why)

    task.add_done_callback(look)
    return task
