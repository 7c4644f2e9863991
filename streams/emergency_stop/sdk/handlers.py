"""What a service gives its guard to call: for stops, for its saved state, for probes and for drills."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from emergency_stop.domain.messages import Command
from emergency_stop.domain.texts import TEXT_LENGTH_MAX, described, fit
from emergency_stop.domain.values import Action, StopLevel
from emergency_stop.sdk.background import is_told_to_end

log = logging.getLogger(__name__)

#: Takes the correlation id, and says whether it succeeded.
StopHandler = Callable[[str], Awaitable[bool] | bool]
#: Takes the correlation id, and returns a reference of what it saved.
StateSaver = Callable[[str], Awaitable[str] | str]
#: Takes that reference, and says whether what it refers to is there and whole.
StateVerifier = Callable[[str], Awaitable[bool] | bool]

_UNDER_WAY: Final[ContextVar[Command | None]] = ContextVar("stop command under way", default=None)


def current_stop() -> Command | None:
    """Within a handler: the command that it is called for, and so the scope. ``None`` elsewhere."""
    return _UNDER_WAY.get()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a handler made of a command: whether it is done, else why not, and the reference of saved state."""

    done: bool
    reason: str = ""
    saved_state: str | None = None


@dataclass(slots=True)
class Handlers:
    """The service's own; each may be sync or async. Failures are outcomes, never exceptions, and so is a
    ``CancelledError`` that a handler raises although nobody cancelled its task.

    One that is left out has nothing to object, with an exception: see ``stop`` about maintenance.
    """

    on_stop: StopHandler | None = None
    save_state: StateSaver | None = None
    verify_state: StateVerifier | None = None
    on_prepare: StopHandler | None = None
    on_drill: StopHandler | None = None
    #: What ails the service; empty where nothing does.
    ask_health: Callable[[], Awaitable[str]] | None = None

    async def run(self, service: str, command: Command) -> Outcome:
        """Call what ``command`` asks for. Runs in a task of its own, and so in a context of its own."""
        if command.action is Action.STOP:
            return await self.stop(service, command)
        if command.action is Action.DRILL:
            return await _approved(service, "drill", self.on_drill, command)
        if command.share_percent == 0:
            return await _approved(service, "prepare", self.on_prepare, command)
        problem = await self._health_problem(service)
        return Outcome(not problem, f"the service is not well: {problem}" if problem else "")

    async def _health_problem(self, service: str) -> str:
        if self.ask_health is None:
            return ""
        try:
            return await self.ask_health()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # whatever it raises is its answer
            return _failure(service, "asking for its health", error)

    async def stop(self, service: str, command: Command) -> Outcome:
        """Call the stop handler, then save the state.

        A maintenance stop is done only with state that was saved and verified, so it needs both handlers.
        """
        outcome = await _approved(service, "stop", self.on_stop, command)
        if not outcome.done or (self.save_state is None and command.level is not StopLevel.MAINTENANCE):
            return outcome
        try:
            return await self._saved(self.save_state, command)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # whatever it raises is its answer
            return Outcome(False, _failure(service, "saving the service's state", error))

    async def _saved(self, save_state: StateSaver | None, command: Command) -> Outcome:
        maintenance = command.level is StopLevel.MAINTENANCE
        if save_state is None:
            return Outcome(False, "a maintenance stop needs saved state; give StopGuard save_state and verify_state")
        reference = await _outcome(save_state(command.correlation_id))
        if not maintenance:
            return Outcome(True, saved_state=fit(str(reference)))
        if not isinstance(reference, str) or not reference:
            return Outcome(False, f"save_state returned {reference!r}; a maintenance stop needs a reference to verify")
        if fit(reference) != reference:
            return Outcome(False, _unfit(reference))
        if self.verify_state is None:
            return Outcome(False, f"nobody verified the saved state {reference}; give StopGuard verify_state")
        if not await _outcome(self.verify_state(reference)):
            return Outcome(False, f"verify_state says that the saved state {reference} is not good")
        return Outcome(True, saved_state=reference)


def _unfit(reference: str) -> str:
    """Cut, it would refer to nothing; and what was saved must be found again."""
    return (
        f"save_state returned a reference of {len(reference)} characters, {fit(reference, 100)}; a maintenance stop"
        f" needs one of at most {TEXT_LENGTH_MAX} that UTF-8 can carry: keep the state elsewhere, return where it is"
    )


async def _approved(service: str, name: str, handler: StopHandler | None, command: Command) -> Outcome:
    _UNDER_WAY.set(command)
    try:
        if handler is not None and not await _outcome(handler(command.correlation_id)):
            return Outcome(False, f"the service's {name} handler returned false")
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # whatever it raises is its answer
        return Outcome(False, _failure(service, f"the service's {name} handler", error))
    return Outcome(True)


def _failure(service: str, what: str, error: BaseException) -> str:
    """What to answer. Raises ``error`` where it is the order to end our own task."""
    if isinstance(error, asyncio.CancelledError) and is_told_to_end():
        raise error
    log.error("%s: %s failed", service, what, exc_info=error)
    return fit(f"{what} raised {described(error)}")


async def _outcome(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result
