"""What the service says of itself, asked within a time limit, so that it can hold up no heartbeat."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from emergency_stop.domain.texts import described, fit
from emergency_stop.sdk.background import is_told_to_end

HealthCheck = Callable[[], Awaitable[str] | str]

log = logging.getLogger(__name__)

#: A check that takes longer is itself a problem.
HEALTH_MS_MAX: Final = 2_000
PROBLEM_LENGTH_MAX: Final = 500


class Health:
    """The last answer of ``check``; a service without one is well. Whatever is no answer is a problem."""

    def __init__(self, check: HealthCheck | None, limit_ms: int = HEALTH_MS_MAX) -> None:
        #: The service's own; ``None``: it says nothing of itself.
        self.check = check
        self._limit_ms = limit_ms
        #: Empty where nothing ails the service.
        self.problem = ""

    async def ask(self) -> str:
        """Ask the service anew; returns ``problem``. Never raises but for a cancellation from outside."""
        problem = fit(await self._asked(), PROBLEM_LENGTH_MAX)
        if problem != self.problem:
            log.log(logging.WARNING if problem else logging.INFO, "health: %s", problem or "well again")
        self.problem = problem
        return problem

    async def _asked(self) -> str:
        if self.check is None:
            return ""
        limit = asyncio.timeout(self._limit_ms / 1000)
        try:
            async with limit:
                answer: object = self.check()
                if inspect.isawaitable(answer):
                    answer = await answer
        except (Exception, asyncio.CancelledError) as error:  # a check that fails in any way is an answer: not well
            if isinstance(error, asyncio.CancelledError) and is_told_to_end():
                raise
            if limit.expired():
                return f"the health check has not answered within {self._limit_ms} ms"
            return f"the health check raised {described(error)}"
        if not isinstance(answer, str):
            return f"the health check returned {answer!r}; it must return a text, empty where nothing ails the service"
        return answer
