"""``StopGuard``: what a service puts around its side effects.

The shell around ``Gate`` and ``Stops``: it tails the holds and the service's commands, sends the answers
on a connection of its own, calls the user's stop handler, and announces the instance.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from aiokafka.errors import KafkaError

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Ack, Command, Hold, ServiceInstance
from emergency_stop.domain.values import AckState, Action, HoldState, InstanceState, Scope, StopLevel
from emergency_stop.ports import Clock
from emergency_stop.sdk.gate import Shut, Verdict
from emergency_stop.sdk.permit import OpenPermit, Permit, PermitGate
from emergency_stop.sdk.stops import Effect, RunHandler, Stops
from emergency_stop.sdk.unverified import Unverified
from emergency_stop.wire.codec import Codec, WireError
from emergency_stop.wire.registry import LocalRegistry, Registry, UnknownSchemaError
from emergency_stop.wire.signing import SignatureVerdict, Verifier

log = logging.getLogger(__name__)

StopHandler = Callable[[str], Awaitable[bool] | bool]
StateSaver = Callable[[str], Awaitable[str] | str]

RETRY_MS: Final = 500
LEAVE_MS: Final = 10_000
START_MS: Final = 60_000
#: Signatures that are checked in one go, about a millisecond; then the service's own work has its turn.
CHECKS_AT_ONCE: Final = 10
REST_MS: Final = 1

_UNDER_WAY: Final[ContextVar[Command | None]] = ContextVar("stop command under way", default=None)


def current_stop() -> Command | None:
    """Within a stop handler: the command that it is called for, and so the scope. ``None`` elsewhere."""
    return _UNDER_WAY.get()


class GuardStartError(RuntimeError):
    """The holds could not be read, so nothing may be permitted. The text says what was missing."""


@dataclass(frozen=True, slots=True)
class GuardStats:
    """What the guard has seen and done so far, and where it stands now."""

    permitted: int
    refused: int
    in_flight: int
    held_scopes: int
    stops_under_way: int
    stops_proven: int
    stops_failed: int
    resumes: int
    commands: int
    holds: int
    untrusted: int
    unreadable: int
    unverified: int
    last_side_effect_at: int | None
    hold_tail_silent_ms: int


class StopGuard:
    """The gate of one instance of ``service``.

    ``on_stop(correlation_id)`` is the service's own stop handler, sync or async: it releases what the
    service holds and returns whether that succeeded. It is called once per stop command, when nothing is in
    flight in the scope any longer, so it must be idempotent; calls may overlap. ``save_state`` runs after
    it and returns a reference for the evidence. ``verifier`` holds the trusted keys; without one nothing
    is verified. All methods belong to the event loop that called ``start``; so do permits.
    """

    def __init__(
        self,
        service: str,
        brokers: str,
        *,
        instance_id: str | None = None,
        on_stop: StopHandler | None = None,
        save_state: StateSaver | None = None,
        depends_on: Iterable[str] = (),
        version: str = "",
        heartbeat_ms: int = 10_000,
        graceful_timeout_ms: int = 60_000,
        stale_after_ms: int = 15_000,
        verifier: Verifier | None = None,
        registry: Registry | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.service: Final = service
        self.instance_id: Final = instance_id or uuid.uuid4().hex[:12]
        self.now_ms: Final = (clock or SystemClock()).now_ms
        self._on_stop = on_stop
        self._save_state = save_state
        self._depends_on = tuple(depends_on)
        self._version = version
        self._heartbeat_ms = heartbeat_ms
        self._stale_after_ms = stale_after_ms
        self._verifier = verifier
        self._codec = Codec(registry or LocalRegistry())
        self._gate = PermitGate(service, self.now_ms)
        self._stops = Stops(self._gate, self.instance_id, graceful_timeout_ms, self._wake)
        name = f"{service}-{self.instance_id}"
        self._publisher = KafkaPublisher(brokers, client_id=f"{name}-guard")
        commands = topics.commands_topic(service)
        self._commands = CompactedTail(brokers, commands, self._on_command, client_id=f"{name}-commands", from_end=True)
        self._holds = CompactedTail(brokers, topics.HOLDS, self._on_hold, client_id=f"{name}-holds")
        self._tasks: set[asyncio.Task[None]] = set()
        self._heartbeat: asyncio.Task[None] | None = None
        self._unverified = Unverified()
        self._checking: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._started_at = 0
        self._counts = dict.fromkeys(("proven", "failed", "resumes", "commands", "holds", "untrusted", "unreadable"), 0)

    def handle_stops(self, on_stop: StopHandler, save_state: StateSaver | None = None) -> None:
        """Name the handlers after construction, for a service that is built around its guard. Before ``start``."""
        self._on_stop = on_stop
        self._save_state = save_state

    # ----------------------------------------------------------------------------------------- permission

    def permit(self, account_id: str | None = None) -> Permit:
        """Put this around every side effect: ``async with guard.permit(account_id):``, or a plain ``with``.

        About a microsecond, no I/O. Raises ``Stopped`` on entry where a stop of the account, the service or
        everything applies, and at the end where a stop cancelled what was in flight. An action without an
        account (``None``) heeds the stops of the service and of everything.
        """
        return Permit(self._gate, account_id)

    def open_permit(self, account_id: str | None, cut: Callable[[], bool]) -> OpenPermit:
        """A permit for what outlives the task that began it; see ``OpenPermit``. Its ``begin`` raises ``Stopped``."""
        return OpenPermit(self._gate, account_id, cut)

    def stopped_by(self, account_id: str | None = None) -> Shut | None:
        """What would refuse a permit now; ``None`` where nothing would."""
        return self._gate.shut_for(account_id)

    @property
    def stats(self) -> GuardStats:
        return GuardStats(
            permitted=self._gate.permitted,
            refused=self._gate.refused,
            in_flight=len(self._gate.in_flight_actions),
            held_scopes=self._gate.held_scopes,
            stops_under_way=self._stops.active,
            stops_proven=self._counts["proven"],
            stops_failed=self._counts["failed"],
            resumes=self._counts["resumes"],
            commands=self._counts["commands"],
            holds=self._counts["holds"],
            untrusted=self._counts["untrusted"],
            unreadable=self._counts["unreadable"],
            unverified=len(self._unverified),
            last_side_effect_at=self._gate.last_any_at,
            hold_tail_silent_ms=self._holds.silent_ms(),
        )

    def not_ready_because(self) -> str:
        """Why the guard cannot vouch for the gate now; empty when it can. For a readiness probe."""
        if self._heartbeat is None:
            return "the guard is not started"
        for name, tail in (("holds", self._holds), ("commands", self._commands)):
            if tail.silent_ms() > self._stale_after_ms:
                return (
                    f"no answer from the broker about {name} for {tail.silent_ms()} ms (limit {self._stale_after_ms})"
                )
        return ""

    # ------------------------------------------------------------------------------------------ life cycle

    async def start(self, within_ms: int = START_MS) -> None:
        """Read all holds, announce the instance, then open the gate.

        Raises ``GuardStartError`` where that takes longer than ``within_ms``; the gate is then still shut.
        """
        self._gate.loop = asyncio.get_running_loop()
        self._started_at = self.now_ms()
        try:
            async with asyncio.timeout(within_ms / 1000):
                await self._connect()
        except (TimeoutError, KafkaError) as error:
            await self._disconnect()
            raise GuardStartError(
                f"{self.service}: {topics.HOLDS} and {topics.commands_topic(self.service)} could not be read within"
                f" {within_ms} ms ({type(error).__name__}: {error}); check that the broker is up and has the topics"
                " (estop check)"
            ) from error
        except BaseException:
            await self._disconnect()
            raise
        self._heartbeat = asyncio.create_task(self._beat(), name=f"heartbeat {self.service}")
        self._gate.open()
        log.info("%s/%s is guarded; %d scopes are held", self.service, self.instance_id, self._gate.held_scopes)

    async def _connect(self) -> None:
        await self._publisher.start()
        # The order matters: a command sent after this point is seen, a stop sent before it is in the holds,
        # and the coordinator, which looks for new instances, sends running stops to them again.
        await self._commands.start()
        await self._commands.caught_up()
        await self._holds.start()
        await self._holds.caught_up()
        await self._announce(InstanceState.UP)

    async def stop(self, within_ms: int = LEAVE_MS) -> bool:
        """Leave in good order: shut the gate, let work in flight end, answer what is open, announce LEFT.

        Work still in flight after half the time is cancelled. ``False`` where some does not end even so:
        then no LEFT is announced, because it would count as a stop.
        """
        self._gate.close("the service is shutting down")
        if self._heartbeat is None:
            return True
        if not await self._quiet(within_ms // 2):
            self._gate.revoke(self._gate.own_scope)
            await self._quiet(within_ms // 2)
        heartbeat, self._heartbeat = self._heartbeat, None
        heartbeat.cancel()
        await asyncio.wait([heartbeat])
        quiet = not self._gate.in_flight_actions
        with contextlib.suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(within_ms / 1000):
                await asyncio.gather(*self._tasks, return_exceptions=True)
                if quiet:
                    await self._announce(InstanceState.LEFT)
        await self._disconnect()
        return quiet

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _quiet(self, within_ms: int) -> bool:
        """Wait until nothing is in flight and no stop is under way."""
        deadline = self.now_ms() + within_ms
        while self._gate.in_flight_actions or self._stops.active:
            if self.now_ms() >= deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    async def _disconnect(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._checking is not None:
            self._checking.cancel()
        for task in self._tasks:
            task.cancel()
        await self._commands.stop()
        await self._holds.stop()
        await self._publisher.stop()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_ms / 1000)
            try:
                await self._announce(InstanceState.UP)
            except KafkaError as error:
                log.warning("%s/%s: heartbeat failed: %r", self.service, self.instance_id, error)

    async def _announce(self, state: InstanceState) -> None:
        instance = ServiceInstance(
            service=self.service,
            instance_id=self.instance_id,
            state=state,
            started_at=self._started_at,
            heartbeat_at=self.now_ms(),
            in_flight=len(self._gate.in_flight_actions),
            held_scopes=self._gate.held_scopes,
            depends_on=self._depends_on,
            version=self._version,
        )
        key = f"{self.service}/{self.instance_id}".encode()
        await self._publisher.publish(topics.SERVICES, key, self._codec.encode(instance, topics.SERVICES))

    # ------------------------------------------------------------------------------------------- incoming

    def _on_command(self, record: TailRecord) -> None:
        try:
            command = self._codec.decode(Command, record.value)
        except (WireError, UnknownSchemaError) as error:
            self._counts["unreadable"] += 1
            log.warning("a command to %s (offset %d) is unreadable: %s", self.service, record.offset, error)
            return
        if command.service != self.service:
            log.error("a command to %s lies on the topic of %s; ignored", command.service, self.service)
            return
        self._counts["commands"] += 1
        self._check_holds_of(command.scope)
        trusted, note = (True, "") if self._adds_nothing(command) else self._judge(command)
        self._perform(self._stops.on_command(command, trusted=trusted, note=note, now_ms=self.now_ms()))

    def _adds_nothing(self, command: Command) -> bool:
        """Whether a verified hold already stops as much: then the signature of the command decides nothing."""
        return command.action is Action.STOP and self._gate.holds(command.scope, command.epoch, command.level)

    def _on_hold(self, record: TailRecord) -> None:
        self._counts["holds"] += 1
        try:
            hold = self._codec.decode(Hold, record.value)
            if self._verifier is not None and hold.state is HoldState.HELD:
                self._obey_unverified(hold)
            else:
                self._check_holds_of(hold.scope)
                self._take_over(hold)
        except (WireError, UnknownSchemaError, ValueError) as error:
            self._doubt(record, str(error))

    def _obey_unverified(self, hold: Hold) -> None:
        """Shut the gate now, as for a stop that proves nothing; its signature is checked in the next pause."""
        now_ms = self.now_ms()
        _, effects = self._stops.on_hold(hold, trusted=False, now_ms=now_ms)
        self._unverified.add(hold, now_ms)
        self._perform(effects)
        if self._checking is None or self._checking.done():
            self._checking = asyncio.get_running_loop().create_task(self._check_in_pauses(), name="check signatures")

    def _take_over(self, hold: Hold) -> None:
        """Raises ``ValueError`` for a bad scope."""
        trusted, _ = self._judge(hold)
        verdict, effects = self._stops.on_hold(hold, trusted=trusted, now_ms=self.now_ms())
        if verdict in (Verdict.REFUSED_STALE, Verdict.REFUSED_UNTRUSTED):
            log.warning("the lifting of %s (epoch %d) was refused: %s", hold.scope, hold.epoch, verdict.value)
        self._perform(effects)

    def _check_holds_of(self, scope: str) -> None:
        """All at once: between two records of a scope the gate must not be seen open."""
        for hold in self._unverified.take(scope):
            self._take_over(hold)

    async def _check_in_pauses(self) -> None:
        while self._unverified:
            wait_ms = self._unverified.due_in_ms(self.now_ms())
            await asyncio.sleep(max(wait_ms, REST_MS) / 1000)
            if wait_ms == 0:
                for _ in range(min(CHECKS_AT_ONCE, len(self._unverified))):
                    self._check_holds_of(self._unverified.oldest())

    def _doubt(self, record: TailRecord, problem: str) -> None:
        """A hold that cannot be read may be a stop of the scope that its key names: so it is one."""
        self._counts["unreadable"] += 1
        scope = (record.key or b"").decode(errors="replace")
        log.error("%s offset %d, key %r: unreadable hold: %s", topics.HOLDS, record.offset, record.key, problem)
        with contextlib.suppress(ValueError):
            Scope.parse(scope)
            self._check_holds_of(scope)  # in the order of the log: an older hold must not end this alarm
            reason = "its newest hold cannot be read; held until a readable one comes"
            self._gate.raise_alarm(Shut(scope, 0, StopLevel.GRACEFUL, reason))

    def _judge(self, message: Command | Hold) -> tuple[bool, str]:
        """(whether the signature is good, or none is asked for; what is wrong with it)."""
        if self._verifier is None:
            return True, ""
        verdict = self._verifier.verify(message)
        if verdict is SignatureVerdict.VALID:
            return True, ""
        self._counts["untrusted"] += 1
        loosens = isinstance(message, Hold) and message.state is HoldState.RUNNING
        log.warning("%s for %s: signature %s", type(message).__name__, message.scope, verdict.value)
        return False, f"signature {verdict.value}" + ("" if loosens else ": a stop is obeyed all the same")

    # ------------------------------------------------------------------------------------------- outgoing

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, RunHandler):
                self._spawn(self._handle(effect.command))
            else:
                self._count(effect.state)
                self._spawn(self._deliver(effect))
        self._set_timer()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _count(self, state: AckState) -> None:
        name = {AckState.STOPPED: "proven", AckState.FAILED: "failed", AckState.RESUMED: "resumes"}.get(state)
        if name is not None:
            self._counts[name] += 1

    async def _deliver(self, ack: Ack) -> None:
        value = self._codec.encode(ack, topics.ACKS)
        while True:
            try:
                await self._publisher.publish(topics.ACKS, ack.scope.encode(), value)
            except KafkaError as error:
                log.warning("%s: ack %s of %s was not accepted: %r", self.service, ack.state.value, ack.scope, error)
                await asyncio.sleep(RETRY_MS / 1000)
            else:
                return

    async def _handle(self, command: Command) -> None:
        saved_state: str | None = None
        done, reason = True, ""
        _UNDER_WAY.set(command)  # each command is handled by a task of its own, and so has a context of its own
        try:
            if self._on_stop is not None:
                done = bool(await _outcome(self._on_stop(command.correlation_id)))
                reason = "" if done else "the service's stop handler returned false"
            if done and self._save_state is not None:
                saved_state = str(await _outcome(self._save_state(command.correlation_id)))
        except Exception as error:
            log.exception("%s: the stop handler failed", self.service)
            done, reason = False, f"the service's stop handler raised {type(error).__name__}: {error}"
        now_ms = self.now_ms()
        self._perform(
            self._stops.on_handled(command.command_id, now_ms, done=done, reason=reason, saved_state=saved_state)
        )

    def _wake(self) -> None:
        asyncio.get_running_loop().call_soon(lambda: self._perform(self._stops.take_quiet()))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._stops.next_deadline()
        if due is not None:
            delay_s = max(0, due - self.now_ms()) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._perform(self._stops.on_tick(self.now_ms()))


async def _outcome(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result
