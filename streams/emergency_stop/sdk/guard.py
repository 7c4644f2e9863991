"""``StopGuard``: what a service puts around its side effects.

The shell around ``Gate`` and ``Stops``: it tails the holds and the service's commands (``Incoming``), sends the
answers on a connection of its own and calls the user's handlers (``Outgoing``), announces the instance, and keeps the
coordinator's lease (``Leases``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from aiokafka.errors import KafkaError

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_sign_in import KafkaSignInError
from emergency_stop.adapters.kafka_tail import CompactedTail
from emergency_stop.adapters.schemas_ready import SchemasReady
from emergency_stop.config.kafka import Brokers
from emergency_stop.domain import topics
from emergency_stop.domain.values import OWN_PROCESSES, InstanceState, WithoutLease
from emergency_stop.ports import Clock
from emergency_stop.sdk.background import watched
from emergency_stop.sdk.gate import Shut
from emergency_stop.sdk.handlers import Handlers, StateSaver, StateVerifier, StopHandler
from emergency_stop.sdk.health import HEALTH_MS_MAX, Health, HealthCheck
from emergency_stop.sdk.incoming import Incoming
from emergency_stop.sdk.leases import Leases, LeaseStats, LeaseTerms
from emergency_stop.sdk.outgoing import Outgoing
from emergency_stop.sdk.permit import OpenPermit, Permit, PermitGate
from emergency_stop.sdk.presence import Instance, Presence
from emergency_stop.sdk.sign_in import signed_in
from emergency_stop.sdk.stops import Stops
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry, Registry
from emergency_stop.wire.signing import Verifier

log = logging.getLogger(__name__)

LEAVE_MS: Final = 10_000
START_MS: Final = 60_000
GIVE_UP_MS: Final = 2_000


class GuardStartError(RuntimeError):
    """The holds could not be read, or no lease came, so nothing may be permitted. The text says what was missing."""


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
    failed_actions: int
    probes_ready: int
    probes_refused: int
    drills_passed: int
    drills_failed: int
    lease: LeaseStats


class StopGuard:
    """The gate of one instance of ``service``. ``brokers``: see ``sign_in``.

    ``on_stop(correlation_id)`` is the service's own stop handler, sync or async: it releases what the
    service holds and returns whether that succeeded. It is called once per stop command, when nothing is in
    flight in the scope any longer, so it must be idempotent; calls may overlap. ``save_state`` runs after
    it and returns a reference for the evidence; ``verify_state(reference)`` says whether what was saved is good. A
    maintenance stop is STOPPED only with both. ``on_prepare(correlation_id)`` is asked before a recovery lets work
    through, ``on_drill(correlation_id)`` in a drill, which stops nothing; each returns whether it is content.
    ``health()`` returns what ails the service, empty where nothing does: it is announced with each heartbeat, and
    asked when a recovery has let a share of the work through. ``verifier`` holds the trusted keys; without one nothing
    is verified. All methods belong to the event loop that called ``start``; so do permits.

    The instance acts only while the coordinator answers its heartbeats. ``without_lease`` says what it does otherwise:
    ``"stop"`` (new actions at once; after ``lease_hold_delay_ms`` what is in flight, and the stop handler is called),
    ``"run"`` (warn and go on), or ``"ignore"`` (ask for no lease: tests, and installations without a coordinator).
    """

    def __init__(
        self,
        service: str,
        brokers: str | Brokers,
        *,
        instance_id: str | None = None,
        on_stop: StopHandler | None = None,
        save_state: StateSaver | None = None,
        verify_state: StateVerifier | None = None,
        on_prepare: StopHandler | None = None,
        on_drill: StopHandler | None = None,
        health: HealthCheck | None = None,
        depends_on: Iterable[str] = (),
        version: str = "",
        heartbeat_ms: int = 10_000,
        graceful_timeout_ms: int = 60_000,
        stale_after_ms: int = 15_000,
        without_lease: str = WithoutLease.STOP,
        lease_hold_delay_ms: int = 10_000,
        verifier: Verifier | None = None,
        registry: Registry | None = None,
        clock: Clock | None = None,
    ) -> None:
        if service in OWN_PROCESSES:  # whose hits only warn
            raise ValueError(f"service {service!r} is a process of the emergency stop itself; give yours another name")
        brokers = signed_in(brokers)
        self.service: Final = service
        self.instance_id: Final = instance_id or uuid.uuid4().hex[:12]
        self.now_ms: Final = (clock or SystemClock()).now_ms
        self._health = Health(health, min(HEALTH_MS_MAX, heartbeat_ms // 2))
        self._handlers = Handlers(on_stop, save_state, verify_state, on_prepare, on_drill, self._ask_health)
        self._stale_after_ms = stale_after_ms
        registry = registry or LocalRegistry()
        self._codec = Codec(registry)
        read = (topics.HOLDS_SPEC, topics.commands_spec(service), topics.LEASES_SPEC)
        self._schemas = SchemasReady(registry, (topics.SERVICES_SPEC, topics.ACKS_SPEC), read)
        self._gate = PermitGate(service, self.now_ms)
        self._stops = Stops(self._gate, self.instance_id, graceful_timeout_ms, self._wake)
        name = f"{service}-{self.instance_id}"
        self._publisher = KafkaPublisher(brokers, client_id=f"{name}-guard")
        self._outgoing = Outgoing(
            service, self._stops, self._handlers, self._publisher, self._codec, self.now_ms, self._fail
        )
        self._incoming = Incoming(self._gate, self._stops, self._codec, verifier, self._outgoing.perform, self.now_ms)
        commands, on_command = topics.commands_topic(service), self._incoming.on_command
        self._commands = CompactedTail(brokers, commands, on_command, client_id=f"{name}-commands", from_end=True)
        self._holds = CompactedTail(brokers, topics.HOLDS, self._incoming.on_hold, client_id=f"{name}-holds")
        self._presence = Presence(
            instance=Instance(service, self.instance_id, tuple(depends_on), version),
            publisher=self._publisher,
            codec=self._codec,
            gate=self._gate,
            health=self._health,
            leases=lambda: self._leases,
            heartbeat_ms=heartbeat_ms,
            now_ms=self.now_ms,
        )
        terms, deaf = LeaseTerms(without_lease, lease_hold_delay_ms), self._deaf_because
        self._leases = Leases(
            brokers,
            terms,
            self.instance_id,
            self._gate,
            self._handlers,
            self._codec,
            verifier,
            self._presence.beat_now.set,
            deaf,
            self._holds.read_up,
            self._fail,
        )
        self._heartbeat: asyncio.Task[None] | None = None
        #: What of the guard's own has ended that must not; empty while all of it works.
        self._failed = ""

    def handle_stops(
        self,
        on_stop: StopHandler,
        save_state: StateSaver | None = None,
        verify_state: StateVerifier | None = None,
        health: HealthCheck | None = None,
    ) -> None:
        """Name the handlers after construction, for a service that is built around its guard. Before ``start``.

        Without ``verify_state`` and ``health`` those of the constructor stay.
        """
        self._handlers.on_stop = on_stop
        self._handlers.save_state = save_state
        self._handlers.verify_state = verify_state or self._handlers.verify_state
        if health is not None:
            self._health.check = health

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
        lease = self._leases.stats
        return GuardStats(
            permitted=self._gate.permitted,
            refused=self._gate.refused,
            in_flight=len(self._gate.in_flight_actions),
            held_scopes=self._gate.held_scopes,
            stops_under_way=self._stops.active,
            stops_proven=self._outgoing.counts.proven,
            stops_failed=self._outgoing.counts.failed,
            resumes=self._outgoing.counts.resumes,
            commands=self._incoming.counts.commands,
            holds=self._incoming.counts.holds,
            untrusted=self._incoming.counts.untrusted + lease.untrusted,
            unreadable=self._incoming.counts.unreadable + lease.unreadable,
            unverified=len(self._incoming.unverified),
            last_side_effect_at=self._gate.last_any_at,
            hold_tail_silent_ms=self._holds.silent_ms(),
            failed_actions=self._gate.failed_actions,
            probes_ready=self._outgoing.counts.probes_ready,
            probes_refused=self._outgoing.counts.probes_refused,
            drills_passed=self._outgoing.counts.drills_passed,
            drills_failed=self._outgoing.counts.drills_failed,
            lease=lease,
        )

    def not_ready_because(self) -> str:
        """Why the guard cannot vouch for the gate now; empty when it can. For a readiness probe."""
        if self._heartbeat is None:
            return "the guard is not started"
        return self._failed or self._deaf_because() or self._leases.not_ready_because()

    def _deaf_because(self) -> str:
        """Why stops may not reach the guard; empty where they do."""
        for name, tail in (("holds", self._holds), ("commands", self._commands)):
            if tail.silent_ms() > self._stale_after_ms:
                why = tail.held_up_by or "no answer from the broker"
                return f"{name} are not read on for {tail.silent_ms()} ms (limit {self._stale_after_ms}): {why}"
        return ""

    # ------------------------------------------------------------------------------------------ life cycle

    async def start(self, within_ms: int = START_MS) -> None:
        """Read all holds, announce the instance, wait for the lease that it must have, read the holds once more to
        their end, then open the gate.

        Raises ``GuardStartError`` where that takes longer than ``within_ms``; the gate is then still shut.
        """
        self._gate.loop = asyncio.get_running_loop()
        self._presence.started_at = self.now_ms()
        self._stops.start(self._presence.started_at)
        try:
            async with asyncio.timeout(within_ms / 1000):
                await self._connect()
                self._heartbeat = watched(self._presence.beat(), f"the heartbeat of {self.service}", self._fail)
                await self._leases.obtained()
                # a lease goes out behind the holds of what was decided before it; what is decided later concerns us
                await self._holds.read_up()
        except KafkaSignInError as error:
            await self._give_up()
            raise GuardStartError(f"{self.service}: {error}") from error
        except (TimeoutError, KafkaError) as error:
            missing = self._missing()
            await self._give_up()
            what = f"{type(error).__name__}: {error}".removesuffix(": ")
            raise GuardStartError(f"{self.service}: not within {within_ms} ms ({what}): {missing}") from error
        except BaseException:
            await self._give_up()
            raise
        if self._failed:
            problem = f"{self.service}: {self._failed}"
            await self._give_up()
            raise GuardStartError(problem)
        self._gate.open()
        log.info("%s/%s is guarded; %d scopes are held", self.service, self.instance_id, self._gate.held_scopes)

    async def _connect(self) -> None:
        await self._schemas.ready()
        await self._publisher.start()
        # The order matters: a command sent after this point is seen, a stop sent before it is in the holds,
        # and the coordinator, which looks for new instances, sends running stops to them again.
        await self._commands.start()
        await self._commands.caught_up()
        await self._holds.start()
        await self._holds.caught_up()
        await self._health.ask()
        await self._leases.follow()
        await self._presence.announce(InstanceState.UP)

    def _fail(self, why: str) -> None:
        """Something of the guard's own ended that must not: what reaches it is in doubt from now on, so it shuts."""
        self._failed = self._failed or f"{why}; nothing is permitted any more: restart the service"
        self._gate.close(self._failed)

    def _missing(self) -> str:
        """What a start that failed has waited for, and what to do."""
        if self._schemas.waits_for:
            return self._schemas.waits_for
        tails = ((topics.HOLDS, self._holds), (topics.commands_topic(self.service), self._commands))
        unread = " and ".join(name for name, tail in tails if not tail.is_caught_up)
        lease = "" if unread else self._leases.missing()
        unread = unread or topics.SERVICES
        return lease or f"{unread} could not be used; check that the broker is up and has the topics (estop check)"

    async def _give_up(self) -> None:
        """After a start that failed: nothing was ever permitted, so an announced instance may say that it has left."""
        heartbeat, self._heartbeat = self._heartbeat, None
        if heartbeat is not None:
            heartbeat.cancel()
            await asyncio.wait([heartbeat])
            with contextlib.suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(GIVE_UP_MS / 1000):
                    await self._presence.announce(InstanceState.LEFT)
        await self._disconnect()

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
                await asyncio.gather(*self._outgoing.tasks, return_exceptions=True)
                if quiet:
                    await self._presence.announce(InstanceState.LEFT)
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
        while self._gate.in_flight_actions or self._stops.active or self._leases.is_stopping:
            if self.now_ms() >= deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    async def _disconnect(self) -> None:
        self._outgoing.cancel()
        self._incoming.unverified.cancel()
        self._incoming.unanswered.cancel()
        await self._leases.stop()
        await self._commands.stop()
        await self._holds.stop()
        await self._publisher.stop()

    async def _ask_health(self) -> str:
        return await self._presence.ask_health()  # which is made after ``Handlers``, because it needs the gate

    def _wake(self) -> None:
        self._outgoing.wake()  # which is made after ``Stops``, because it works for it
