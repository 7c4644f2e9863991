"""How long an instance may act without hearing from the coordinator: pure, time is an argument.

Theory of operation. The instance notes when it sent each heartbeat, and what date it gave it. A lease of a coordinator
partition sends the date of one back; the instance may then act for the lease's time from when it sent that one. Every
partition must renew, because each decides about other scopes, so the one whose heartbeat is oldest counts::

    sent        aged (2/3)     expired          lost
     ├── held ──┼── warned ────┼── holding ─────┤
     0                      lease_ms     + hold_delay_ms

Times are of a clock that never jumps and goes on while the machine sleeps. A date that the instance did not send since
it started, one of its predecessor under the same name or of another clock, renews nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from emergency_stop.coordinate.lease_table import LEASE, LeaseEvent, LeaseState
from emergency_stop.domain.messages import Lease

#: Heartbeats that are remembered; older ones would renew nothing worth having.
BEATS_MAX: Final = 1_000
#: A lease is at two thirds of its time when a third is left.
AGED_LEFT_SHARE: Final = 3
#: Heartbeats that go out within one lease: with leases every third of it, half of it is then left at the worst.
BEATS_PER_LEASE: Final = 6


@dataclass(frozen=True, slots=True)
class _Renewed:
    """The newest heartbeat that a partition has sent back."""

    sent_at: int
    lease_ms: int

    @property
    def until(self) -> int:
        return self.sent_at + self.lease_ms


class LeaseHolder:
    """The lease of one instance. Every method that lets time pass returns the states entered, in order."""

    def __init__(self, service: str, instance_id: str, hold_delay_ms: int) -> None:
        self.service: Final = service
        self.instance_id: Final = instance_id
        self._hold_delay_ms = hold_delay_ms
        self._beats: dict[int, int] = {}
        self._renewed: dict[int, _Renewed] = {}
        self._partitions = 0
        self._aged_at = 0
        self._expired_at = 0
        #: While the service's own stop is under way, a lease does not end it.
        self._is_stopping = False
        self.state = LEASE.initial
        #: Until when the instance may act; ``None``: never yet.
        self.until: int | None = None
        self.lease_ms: int | None = None
        self.times_lost = 0

    @property
    def lapsed_at(self) -> int | None:
        """Since when there is no lease; ``None``: there is one, or none was ever had."""
        return self._expired_at if self.state in (LeaseState.HOLDING, LeaseState.LOST) else None

    def missing(self) -> tuple[int, ...] | None:
        """The coordinator partitions that never renewed; ``None``: not known, because none did."""
        if not self._partitions:
            return None
        return tuple(number for number in range(self._partitions) if number not in self._renewed)

    def oldest_partition(self) -> int | None:
        """The coordinator partition whose renewal ends first; ``None``: none ever renewed."""
        return min(self._renewed, key=lambda number: self._renewed[number].until, default=None)

    def left_ms(self, now_ms: int) -> int:
        """How long the lease lasts from now; 0: there is none."""
        return 0 if self.until is None else max(0, self.until - now_ms)

    def beats_every_ms(self, heartbeat_ms: int) -> int:
        """How often to send heartbeats: as configured, but well within the lease once that is known."""
        return heartbeat_ms if self.lease_ms is None else min(heartbeat_ms, self.lease_ms // BEATS_PER_LEASE)

    # ------------------------------------------------------------------------------------------- messages

    def beat(self, heartbeat_at: int, now_ms: int) -> None:
        """A heartbeat with the date ``heartbeat_at`` is about to be sent. Of two with one date the older counts."""
        self._beats.setdefault(heartbeat_at, now_ms)
        if len(self._beats) > BEATS_MAX:
            del self._beats[next(iter(self._beats))]

    def is_news(self, lease: Lease) -> bool:
        """Whether ``lease`` would renew something, so that its signature is worth checking. Changes nothing."""
        return self._read(lease) is not None

    def renew(self, lease: Lease, now_ms: int) -> list[LeaseState]:
        """Take over a lease that can be trusted. Old ones, in whatever order or number, never extend anything."""
        renewed = self._read(lease)
        if renewed is not None:
            self._partitions = max(self._partitions, lease.partitions)
            self._renewed[lease.partition] = renewed
            self.lease_ms = lease.lease_ms
            # a new number of partitions counts once all have renewed; until then the former end stands
            if len(self._renewed) == self._partitions:
                oldest = min(self._renewed.values(), key=lambda one: one.until)
                self.until = oldest.until
                self._aged_at = oldest.until - oldest.lease_ms // AGED_LEFT_SHARE
        return self.on_tick(now_ms)

    def _read(self, lease: Lease) -> _Renewed | None:
        """What ``lease`` renews; ``None`` where it is not for this instance, older than what is known, or nonsense."""
        if not 0 <= lease.partition < lease.partitions or lease.lease_ms <= 0:
            return None
        sent = [
            self._beats[one.heartbeat_at]
            for one in lease.renewals
            if (one.service, one.instance_id) == (self.service, self.instance_id) and one.heartbeat_at in self._beats
        ]
        if not sent:
            return None
        renewed, known = _Renewed(max(sent), lease.lease_ms), self._renewed.get(lease.partition)
        return renewed if known is None or renewed.sent_at > known.sent_at else None

    def stop_is_over(self, now_ms: int) -> list[LeaseState]:
        """The service's own stop, which ``LOST`` began, has ended: from now on a lease counts again."""
        self._is_stopping = False
        return self.on_tick(now_ms)

    # ----------------------------------------------------------------------------------------------- time

    def next_deadline(self) -> int | None:
        """When ``on_tick`` is next due; ``None`` while only a lease changes anything."""
        if self.state is LeaseState.HELD:
            return self._aged_at
        if self.state is LeaseState.WARNED:
            return self.until
        return self._expired_at + self._hold_delay_ms if self.state is LeaseState.HOLDING else None

    def on_tick(self, now_ms: int) -> list[LeaseState]:
        """Let time pass. Each step has its own time: whoever slept through all of them takes them all at once."""
        entered: list[LeaseState] = []
        while (event := self._due(now_ms)) is not None:
            self.state = LEASE.next(self.state, event)
            if event is LeaseEvent.EXPIRED:
                self._expired_at = self.until or now_ms
            if self.state is LeaseState.LOST:
                self.times_lost += 1
                self._is_stopping = True
            entered.append(self.state)
        return entered

    def _due(self, now_ms: int) -> LeaseEvent | None:
        until = self.until
        if until is None:
            return None
        if self.state is LeaseState.HELD:
            return LeaseEvent.AGED if now_ms >= self._aged_at else None
        if now_ms < until and not self._is_stopping:
            is_renewed = self.state is not LeaseState.WARNED or now_ms < self._aged_at
            return LeaseEvent.RENEWED if is_renewed else None
        if self.state is LeaseState.WARNED:
            return LeaseEvent.EXPIRED if now_ms >= until else None
        is_over = self.state is LeaseState.HOLDING and now_ms >= self._expired_at + self._hold_delay_ms
        return LeaseEvent.DELAY_OVER if is_over else None
