"""What a service gives its guard to call: the stop handler and the saver of its state."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from emergency_stop.domain.messages import Command

log = logging.getLogger(__name__)

StopHandler = Callable[[str], Awaitable[bool] | bool]
StateSaver = Callable[[str], Awaitable[str] | str]

_UNDER_WAY: Final[ContextVar[Command | None]] = ContextVar("stop command under way", default=None)


def current_stop() -> Command | None:
    """Within a stop handler: the command that it is called for, and so the scope. ``None`` elsewhere."""
    return _UNDER_WAY.get()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a handler made of a command: whether it is done, else why not, and the reference of saved state."""

    done: bool
    reason: str = ""
    saved_state: str | None = None


@dataclass(slots=True)
class Handlers:
    """The service's own; each may be sync or async. Failures are outcomes, never exceptions."""

    on_stop: StopHandler | None = None
    save_state: StateSaver | None = None

    async def stop(self, service: str, command: Command) -> Outcome:
        """Call the stop handler, then the saver. Runs in a task of its own, and so in a context of its own."""
        saved_state: str | None = None
        _UNDER_WAY.set(command)
        try:
            if self.on_stop is not None and not await _outcome(self.on_stop(command.correlation_id)):
                return Outcome(False, "the service's stop handler returned false")
            if self.save_state is not None:
                saved_state = str(await _outcome(self.save_state(command.correlation_id)))
        except Exception as error:
            log.exception("%s: the stop handler failed", service)
            return Outcome(False, f"the service's stop handler raised {type(error).__name__}: {error}")
        return Outcome(True, saved_state=saved_state)


async def _outcome(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result
