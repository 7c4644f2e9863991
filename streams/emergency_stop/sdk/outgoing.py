"""What goes out: answers to commands, calls of the service's handlers, and the timer of ``Stops``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final

from aiokafka.errors import KafkaError

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Ack, Command
from emergency_stop.domain.values import AckState, Action
from emergency_stop.sdk.background import watched
from emergency_stop.sdk.effects import Effect, RunHandler
from emergency_stop.sdk.handlers import Handlers
from emergency_stop.sdk.stops import Stops
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import RegistryError

log = logging.getLogger(__name__)

RETRY_MS: Final = 500


@dataclass(frozen=True, slots=True)
class OutgoingCounts:
    """What was answered so far, repetitions not counted."""

    proven: int
    failed: int
    resumes: int
    probes_ready: int
    probes_refused: int
    drills_passed: int
    drills_failed: int


class Outgoing:
    """Performs the effects of ``stops``. Belongs to one event loop."""

    def __init__(
        self,
        service: str,
        stops: Stops,
        handlers: Handlers,
        publisher: KafkaPublisher,
        codec: Codec,
        now_ms: Callable[[], int],
        failed: Callable[[str], None],
    ) -> None:
        """``failed`` is told why an answer or a handler ended that must not."""
        self._failed = failed
        self._service = service
        self._stops = stops
        self._handlers = handlers
        self._publisher = publisher
        self._codec = codec
        self._now_ms = now_ms
        self._timer: asyncio.TimerHandle | None = None
        #: Answers on their way, and handlers that run.
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def counts(self) -> OutgoingCounts:
        said = self._stops.counts
        return OutgoingCounts(
            proven=said[Action.STOP, AckState.STOPPED],
            failed=said[Action.STOP, AckState.FAILED],
            resumes=said[Action.RESUME, AckState.RESUMED],
            probes_ready=said[Action.PROBE, AckState.READY],
            probes_refused=said[Action.PROBE, AckState.REFUSED],
            drills_passed=said[Action.DRILL, AckState.STOPPED],
            drills_failed=said[Action.DRILL, AckState.FAILED],
        )

    def perform(self, effects: list[Effect]) -> None:
        """Begin every effect, in order; does not wait for any."""
        for effect in effects:
            if isinstance(effect, RunHandler):
                self._spawn(self.handle(effect.command), f"the handling of {effect.command.action.value}")
            else:
                self._spawn(self.deliver(effect), f"the answer {effect.state.value}")
        self._set_timer()

    def wake(self) -> None:
        """``Stops`` has something to give, from within a permit's exit: take it in the loop's next round."""
        asyncio.get_running_loop().call_soon(lambda: self.perform(self._stops.take_quiet()))

    def cancel(self) -> None:
        """Answer nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self.tasks:
            task.cancel()

    async def deliver(self, ack: Ack) -> None:
        """Publish ``ack``, and try again until the registry and the broker have let it through."""
        while True:
            try:
                value = self._codec.encode(ack, topics.ACKS)
                await self._publisher.publish(topics.ACKS, ack.scope.encode(), value)
            except (KafkaError, RegistryError) as error:
                log.warning("%s: ack %s of %s was not accepted: %r", self._service, ack.state.value, ack.scope, error)
                await asyncio.sleep(RETRY_MS / 1000)
            except Exception:
                text = "%s: ack %s of %s cannot be sent; to its coordinator the instance stays silent"
                log.exception(text, self._service, ack.state.value, ack.scope)
                return
            else:
                return

    async def handle(self, command: Command) -> None:
        """Call the service's handlers for a command, and go on with their outcome."""
        outcome = await self._handlers.run(self._service, command)
        self.perform(
            self._stops.on_handled(
                command.command_id,
                self._now_ms(),
                done=outcome.done,
                reason=outcome.reason,
                saved_state=outcome.saved_state,
            )
        )

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = watched(work, name, self._failed)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._stops.next_deadline()
        if due is not None:
            delay_s = max(0, due - self._now_ms()) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.perform(self._stops.on_tick(self._now_ms()))
