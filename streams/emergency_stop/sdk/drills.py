"""What an instance does about a drill: all that it does about a stop, except that nothing is stopped. Pure.

::

    drill ──► RECEIVED, STOPPING ──► asking ──(handler: true)──► STOPPED
                                       └──(false, it raised, or the deadline)──► FAILED

A drill proves that an order reaches the service, that its signature is accepted, that the service answers, and that
the answer gets back. One whose signature is bad proves nothing, so it fails. The gate is not touched.
"""

from __future__ import annotations

from typing import Final

from emergency_stop.domain.messages import Command
from emergency_stop.domain.values import AckState
from emergency_stop.sdk.answers import Answers
from emergency_stop.sdk.effects import Effect, RunHandler

PASSED: Final = "a drill: the way is proven, and nothing was stopped"


class Drills:
    """The drills that one instance has under way. Every method returns what is to be told or called, in order."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._asking: dict[str, Command] = {}

    def next_deadline(self) -> int | None:
        """When ``on_tick`` is next due, milliseconds since the epoch."""
        return min((drill.deadline_at for drill in self._asking.values()), default=None)

    def on_command(self, drill: Command, *, trusted: bool, note: str, now_ms: int) -> list[Effect]:
        """Begin a drill that is not under way."""
        if not trusted:
            reason = f"a drill proves something only if it is signed by a known key; {note}"
            return [self._answers.make(drill, AckState.FAILED, reason, now_ms)]
        self._asking[drill.command_id] = drill
        told = [self._answers.make(drill, state, "a drill", now_ms) for state in (AckState.RECEIVED, AckState.STOPPING)]
        return [*told, RunHandler(drill)]

    def on_handled(self, command_id: str, now_ms: int, *, done: bool, reason: str) -> list[Effect]:
        """The service's drill handler has returned; one without a handler has nothing to add."""
        drill = self._asking.get(command_id)
        if drill is None or now_ms >= drill.deadline_at:
            return self.on_tick(now_ms)  # an outcome at the deadline is too late
        del self._asking[command_id]
        state, reason = (AckState.STOPPED, PASSED) if done else (AckState.FAILED, f"a drill: {reason}")
        return [self._answers.make(drill, state, reason, now_ms)]

    def on_tick(self, now_ms: int) -> list[Effect]:
        """Drills without an outcome by their deadline have failed for good."""
        late = [drill for drill in self._asking.values() if drill.deadline_at <= now_ms]
        for drill in late:
            del self._asking[drill.command_id]
        reason = "a drill: the service's drill handler still runs at the deadline"
        return [self._answers.make(drill, AckState.FAILED, reason, now_ms) for drill in late]
