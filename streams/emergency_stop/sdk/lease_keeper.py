"""Keeps the instance's lease: reads the coordinator's leases, and shuts and opens the gate as ``LeaseHolder`` says."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.coordinate.lease_table import LeaseState
from emergency_stop.domain import topics
from emergency_stop.domain.ids import command_id
from emergency_stop.domain.messages import Command, Lease
from emergency_stop.domain.values import Action, StopLevel
from emergency_stop.sdk.background import watched
from emergency_stop.sdk.handlers import Handlers
from emergency_stop.sdk.lease import LeaseHolder
from emergency_stop.sdk.permit import PermitGate
from emergency_stop.wire.codec import Codec, WireError
from emergency_stop.wire.registry import SchemaUnansweredError, UnknownSchemaError
from emergency_stop.wire.signing import SignatureVerdict, Verifier

log = logging.getLogger(__name__)

#: How the reason of the service's own stop begins.
LEASE_LOST: Final = "LEASE_LOST"
#: How often it is looked whether the last action has left.
POLL_MS: Final = 20
#: How long an action that does not end has, each time, until it is asked again.
ASK_AGAIN_MS: Final = 1_000
_HAS_LEASE: Final = frozenset({LeaseState.HELD, LeaseState.WARNED})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a keeper needs of its guard. ``deaf`` says why the guard does not hear of stops; empty: it does.

    ``read_up`` ends once every hold that was on record when it was called has been taken over. ``failed`` is told why
    something of the keeper's own ended that must not.
    """

    now_ms: Callable[[], int]
    steady_ms: Callable[[], int]
    announce: Callable[[], None]
    deaf: Callable[[], str]
    read_up: Callable[[], Awaitable[None]]
    failed: Callable[[str], None]


class LeaseKeeper:
    """``must_have``: without a lease the instance stops; else it only says so. Belongs to one event loop."""

    def __init__(
        self,
        holder: LeaseHolder,
        gate: PermitGate,
        handlers: Handlers,
        codec: Codec,
        verifier: Verifier | None,
        around: Surroundings,
        *,
        must_have: bool,
    ) -> None:
        self.holder: Final = holder
        self._gate = gate
        self._handlers = handlers
        self._codec = codec
        self._verifier = verifier
        self.must_have: Final = must_have
        self._around = around
        self._obtained = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._returning: asyncio.Task[None] | None = None
        self._began_at: int | None = None
        self._warned_of: int | None = None
        self.untrusted = 0
        self.unreadable = 0
        if self.must_have:
            gate.lapsed = self._lapsed

    # ------------------------------------------------------------------------------------------- messages

    def on_lease(self, record: TailRecord) -> None:
        """Take a record of ``estop.leases``. Never raises: what cannot be read or trusted renews nothing."""
        try:
            lease = self._codec.decode(Lease, record.value)
        except (WireError, UnknownSchemaError, SchemaUnansweredError) as error:
            self.unreadable += 1
            log.warning("%s offset %d is unreadable: %s", topics.LEASES, record.offset, error)
            return
        if self.holder.is_news(lease) and self._is_trusted(lease) and self._hears(lease):
            self._enter(self.holder.renew(lease, self._around.steady_ms()))

    def sending(self, heartbeat_at: int) -> None:
        """A heartbeat with this date is about to be sent."""
        self._began_at = self._began_at or heartbeat_at
        self.holder.beat(heartbeat_at, self._around.steady_ms())

    def beats_every_ms(self, heartbeat_ms: int) -> int:
        """How often to send heartbeats; says once where what is configured does not suffice."""
        lease_ms = self.holder.lease_ms
        if lease_ms is not None and heartbeat_ms * 2 >= lease_ms and self._warned_of != lease_ms:
            self._warned_of = lease_ms
            log.warning(
                "%s/%s: heartbeats every %d ms are too rare for a lease of %d ms (ESTOP_LEASE), so they go out every %d"
                " ms; set less than half of the lease (heartbeat_ms, HEALTH_MONITORING_INTERVAL)",
                self._gate.service,
                self.holder.instance_id,
                heartbeat_ms,
                lease_ms,
                self.holder.beats_every_ms(heartbeat_ms),
            )
        return self.holder.beats_every_ms(heartbeat_ms)

    def _is_trusted(self, lease: Lease) -> bool:
        verdict = SignatureVerdict.VALID if self._verifier is None else self._verifier.verify(lease)
        if verdict is not SignatureVerdict.VALID:
            self.untrusted += 1
            log.warning("the lease of coordinator partition %d renews nothing: signature %s", lease.partition, verdict)
        return verdict is SignatureVerdict.VALID

    def _hears(self, lease: Lease) -> bool:
        """A coordinator that is there is of no use to an instance that its stops do not reach."""
        problem = self._around.deaf()
        if problem:
            log.warning("the lease of coordinator partition %d renews nothing: %s", lease.partition, problem)
        return not problem

    # ---------------------------------------------------------------------------------------- what is told

    async def obtained(self) -> None:
        """Wait for the first lease, where the instance must not act without one."""
        if self.must_have:
            await self._obtained.wait()

    @property
    def lost_at(self) -> int | None:
        """Since when there is no lease, by the wall clock; ``None``: there is one."""
        if self.holder.state is LeaseState.AWAITED:
            return self._began_at
        lapsed_at = self.holder.lapsed_at
        return None if lapsed_at is None else self._around.now_ms() - (self._around.steady_ms() - lapsed_at)

    @property
    def left_ms(self) -> int:
        """How long the lease lasts from now; 0: there is none."""
        return self.holder.left_ms(self._around.steady_ms())

    def missing(self) -> str:
        """Whose lease is missing, for people."""
        missing = self.holder.missing()
        if self.untrusted and not self.holder.until:
            return f"no lease that a trusted key has signed ({self.untrusted} were not, see the log)"
        if missing is None:
            return f"no coordinator has answered on {topics.LEASES}"
        if missing:
            return f"no lease of the coordinator's partitions {', '.join(map(str, missing))}"
        return "the coordinator's leases came too late to be of use"

    @property
    def is_stopping(self) -> bool:
        """Whether the service's own stop is under way."""
        return self._stopping is not None and not self._stopping.done()

    def not_ready_because(self) -> str:
        """Why nothing may be done; empty where something may, as far as leases go."""
        if not self.must_have or self.holder.state in _HAS_LEASE:
            return ""
        return f"no lease of the coordinator ({self.holder.state.value})"

    # ----------------------------------------------------------------------------------------------- time

    def _lapsed(self) -> bool:
        """Whether the lease has run out; the timer may be late, because the process slept or was busy."""
        until = self.holder.until
        if until is None or self._around.steady_ms() < until or self.holder.state not in _HAS_LEASE:
            return False
        self._tick()
        return self._gate.wide is not None

    def _tick(self) -> None:
        self._enter(self.holder.on_tick(self._around.steady_ms()))

    def _enter(self, states: list[LeaseState]) -> None:
        for state in states:
            self._act_on(state)
        if LeaseState.LOST in states and not self.must_have:
            states = [*states, *self.holder.stop_is_over(self._around.steady_ms())]  # there is no stop to wait for
        if any(state is not LeaseState.WARNED for state in states):
            self._around.announce()
        self._set_timer()

    def _act_on(self, state: LeaseState) -> None:
        if state not in _HAS_LEASE:
            self._return_no_more()
        name = f"{self._gate.service}/{self.holder.instance_id}"
        if state is LeaseState.HELD:
            self._obtained.set()
            log.info("%s has the coordinator's lease", name)
            if self._gate.lacks_lease:
                self._return_no_more()
                self._returning = watched(self._return(), "the lease's return", self._around.failed)
        elif state is LeaseState.WARNED:
            log.warning("%s: two thirds of the lease are over; %s", name, self._silent())
        elif not self.must_have:
            log.error("%s acts without a lease (%s), as it was told to; a stop may not reach it", name, state.value)
        elif state is LeaseState.HOLDING:
            log.error("%s: the lease has run out, no new actions; %s", name, self._silent())
            self._gate.take_lease_away(StopLevel.GRACEFUL, "the coordinator's lease has run out; no new actions")
        elif state is LeaseState.LOST:
            self._stop()

    async def _return(self) -> None:
        """The lease went out behind the holds of what was decided before it, and may have been read before them."""
        await self._around.read_up()
        if self.holder.state in _HAS_LEASE:  # else it has run out meanwhile, and the next one is returned
            self._gate.give_lease_back()

    def _return_no_more(self) -> None:
        """What still reads up for an older lease may end after this one is lost, so nobody may be left to do it."""
        if self._returning is not None:
            self._returning.cancel()
            self._returning = None

    def _silent(self) -> str:
        return f"coordinator partition {self.holder.oldest_partition()} has been silent longest"

    def _set_timer(self) -> None:
        self.cancel_timer()
        due = self.holder.next_deadline()
        if due is not None:
            delay_s = max(0, due - self._around.steady_ms()) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ----------------------------------------------------------------------------------- the service's own stop

    def _stop(self) -> None:
        """End what is in flight, then call the stop handler, as for a stop of the whole service."""
        reason = f"{LEASE_LOST}: the coordinator has not renewed the lease, and the hold delay is over"
        log.error("%s/%s stops itself: %s", self._gate.service, self.holder.instance_id, reason)
        self._gate.take_lease_away(StopLevel.IMMEDIATE, reason)
        self._stopping = watched(self._stop_itself(reason), "the stop for want of a lease", self._around.failed)

    async def _stop_itself(self, reason: str) -> None:
        command = self._own_command(reason)
        while self._gate.in_flight_actions:
            self._gate.revoke(self._gate.own_scope, again=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ASK_AGAIN_MS / 1000):
                    await self._quiet()
        outcome = await self._handlers.stop(self._gate.service, command)
        if outcome.done:
            log.warning("%s/%s has stopped itself", self._gate.service, self.holder.instance_id)
        else:
            log.error("%s/%s stays shut, but: %s", self._gate.service, self.holder.instance_id, outcome.reason)
        self._enter(self.holder.stop_is_over(self._around.steady_ms()))

    async def _quiet(self) -> None:
        while self._gate.in_flight_actions:  # noqa: ASYNC110  # the gate has one watcher, and stops have it
            await asyncio.sleep(POLL_MS / 1000)

    def _own_command(self, reason: str) -> Command:
        """What the handler is called for: nobody commanded it, so its issuer is the instance itself."""
        now_ms, scope, service = self._around.now_ms(), self._gate.own_scope, self._gate.service
        issuer, epoch = f"{service}/{self.holder.instance_id}", self._gate.epoch_of(scope)
        cause = f"lease-lost:{issuer}:{now_ms}"
        return Command(
            command_id=command_id(cause, service, epoch, Action.STOP, 1),
            emergency_id="",
            correlation_id=cause,
            service=service,
            scope=scope,
            epoch=epoch,
            action=Action.STOP,
            level=StopLevel.IMMEDIATE,
            reason=reason,
            issued_by=issuer,
            issued_at=now_ms,
            deadline_at=now_ms,
            attempt=1,
        )

    def cancel(self) -> None:
        """Keep no lease any more, and call no handler."""
        self.cancel_timer()
        for task in (self._stopping, self._returning):
            if task is not None:
                task.cancel()
