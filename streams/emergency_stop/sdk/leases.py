"""The coordinator's leases as a guard uses them: their topic and their keeper, or nothing where none is asked for."""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from emergency_stop.adapters.clock import steady_ms
from emergency_stop.adapters.kafka_tail import CompactedTail
from emergency_stop.config.kafka import Brokers
from emergency_stop.domain import topics
from emergency_stop.domain.values import WithoutLease
from emergency_stop.sdk.handlers import Handlers
from emergency_stop.sdk.lease import LeaseHolder
from emergency_stop.sdk.lease_keeper import LeaseKeeper, Surroundings
from emergency_stop.sdk.permit import PermitGate
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.signing import Verifier

HOLD_DELAY_MS_MAX: Final = 600_000
IGNORED: Final = "ignored"


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """``without_lease``: ``stop``, ``run`` or ``ignore``; see ``StopGuard``. Raises ``ValueError`` for another one."""

    without_lease: str = WithoutLease.STOP
    hold_delay_ms: int = 10_000

    def __post_init__(self) -> None:
        allowed = [choice.value for choice in WithoutLease]
        if self.without_lease not in allowed:
            near = difflib.get_close_matches(self.without_lease, allowed, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"without_lease={self.without_lease!r} is unknown{hint}; allowed: {', '.join(allowed)}")
        if not 0 <= self.hold_delay_ms <= HOLD_DELAY_MS_MAX:
            raise ValueError(
                f"lease_hold_delay_ms={self.hold_delay_ms} is out of range; allowed: 0 to {HOLD_DELAY_MS_MAX}"
            )


@dataclass(frozen=True, slots=True)
class LeaseStats:
    """How the lease stands now."""

    #: A ``LeaseState``; ``ignored`` where no lease is asked for.
    state: str = IGNORED
    #: 0: there is none, or none is asked for.
    left_ms: int = 0
    times_lost: int = 0
    untrusted: int = 0
    unreadable: int = 0


class Leases:
    """Belongs to one event loop. ``announce`` asks for a heartbeat at once; ``deaf``, ``read_up`` and ``failed`` are as
    in ``Surroundings``.
    """

    def __init__(
        self,
        brokers: Brokers,
        terms: LeaseTerms,
        instance_id: str,
        gate: PermitGate,
        handlers: Handlers,
        codec: Codec,
        verifier: Verifier | None,
        announce: Callable[[], None],
        deaf: Callable[[], str],
        read_up: Callable[[], Awaitable[None]],
        failed: Callable[[str], None],
    ) -> None:
        self._keeper: LeaseKeeper | None = None
        self._tail: CompactedTail | None = None
        if terms.without_lease == WithoutLease.IGNORE:
            return
        self._keeper = LeaseKeeper(
            LeaseHolder(gate.service, instance_id, terms.hold_delay_ms),
            gate,
            handlers,
            codec,
            verifier,
            Surroundings(gate.now_ms, steady_ms, announce, deaf, read_up, failed),
            must_have=terms.without_lease == WithoutLease.STOP,
        )
        client_id = f"{gate.service}-{instance_id}-leases"
        self._tail = CompactedTail(brokers, topics.LEASES, self._keeper.on_lease, client_id=client_id, from_end=True)

    async def follow(self) -> None:
        """Read leases from now on; before the announcement, because that is answered."""
        if self._keeper is not None and self._tail is not None:
            await self._tail.start()
            if self._keeper.must_have:
                await self._tail.caught_up()

    async def obtained(self) -> None:
        """Wait for the first lease, where the instance must not act without one."""
        if self._keeper is not None:
            await self._keeper.obtained()

    async def stop(self) -> None:
        """Keep no lease any more, and call no handler."""
        if self._keeper is not None and self._tail is not None:
            self._keeper.cancel()
            await self._tail.stop()

    @property
    def is_stopping(self) -> bool:
        """Whether the service's own stop, for want of a lease, is under way."""
        return self._keeper is not None and self._keeper.is_stopping

    def sending(self, heartbeat_at: int) -> None:
        """A heartbeat with this date is about to be sent."""
        if self._keeper is not None:
            self._keeper.sending(heartbeat_at)

    def beats_every_ms(self, heartbeat_ms: int) -> int:
        """How often to send heartbeats, where ``heartbeat_ms`` is configured."""
        return heartbeat_ms if self._keeper is None else self._keeper.beats_every_ms(heartbeat_ms)

    @property
    def lost_at(self) -> int | None:
        """Since when there is no lease, by the wall clock; ``None``: there is one, or none is asked for."""
        return None if self._keeper is None else self._keeper.lost_at

    @property
    def stats(self) -> LeaseStats:
        keeper = self._keeper
        if keeper is None:
            return LeaseStats()
        return LeaseStats(
            keeper.holder.state.value, keeper.left_ms, keeper.holder.times_lost, keeper.untrusted, keeper.unreadable
        )

    def not_ready_because(self) -> str:
        """Why nothing may be done; empty where something may, as far as leases go."""
        return "" if self._keeper is None else self._keeper.not_ready_because()

    def missing(self) -> str:
        """What a start that failed has waited for, and what to do; empty where it was not for a lease."""
        if self._keeper is None or self._tail is None or not self._keeper.must_have:
            return ""
        if not self._tail.is_caught_up:
            return f"{topics.LEASES} could not be read; check that the broker is up and has the topics (estop check)"
        return (
            f"{self._keeper.missing()}; check that a coordinator runs, and signs with a key that this service trusts"
            " (estop status); without_lease='run' would start without one"
        )
