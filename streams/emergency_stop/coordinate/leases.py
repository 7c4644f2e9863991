"""A coordinator partition's heartbeat: which heartbeats of instances it sends back, and when. Pure.

Theory of operation. A lease says to an instance: the partition saw the heartbeat that you dated so. The instance knows
by its own clock when it sent that one, and may act for ``lease_ms`` from then, so no two clocks need agree. Sending an
old heartbeat back is harmless for the same reason: it extends nothing. Every partition publishes for itself, because
each decides about other scopes; an instance needs them all.

Leases go out every third of their time, and soon after an instance appears or says that it has none, so that a start
does not wait. Such an early one names those instances alone: in a crowd that starts, everybody would otherwise read of
everybody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from emergency_stop.domain.messages import Lease, Renewal, ServiceInstance
from emergency_stop.domain.values import InstanceState

#: Leases that go out while one lasts.
TURNS_PER_LEASE: Final = 3
#: Renewals in one record, about 100 kB; more instances than that are spread over several.
RENEWALS_MAX: Final = 2_000
#: How long early leases wait for further instances, so that a crowd does not get one each.
ARRIVALS_PAUSE_MS: Final = 100

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Presence:
    renewal: Renewal
    started_at: int
    #: By the coordinator's clock; the heartbeat itself is dated by another one.
    heard_at: int
    #: Which of all arrivals is the newest of this instance.
    arrival: int


class Attendance:
    """Which instances were heard lately. One per process, shared by its partitions; changes in place."""

    def __init__(self, lease_ms: int) -> None:
        """A heartbeat heard more than ``lease_ms`` ago renews nothing, so it is forgotten."""
        self._lease_ms = lease_ms
        self._present: dict[_Key, _Presence] = {}
        self._heard_at = 0
        #: Instances that appeared, appeared anew, or said that they have no lease, each time they did.
        self.arrivals = 0
        #: How often the coordinator's clock was set back.
        self.set_backs = 0

    def hear(self, instance: ServiceInstance, now_ms: int) -> None:
        """The next announcement of ``estop.services``, in the order of the topic."""
        self.set_backs += now_ms < self._heard_at
        self._heard_at = now_ms
        key = (instance.service, instance.instance_id)
        if instance.state is InstanceState.LEFT:
            self._present.pop(key, None)
            return
        renewal = Renewal(instance.service, instance.instance_id, instance.heartbeat_at)
        known = self._present.get(key)
        if known is not None and (known.renewal, known.started_at) == (renewal, instance.started_at):
            return
        if known is None or known.started_at != instance.started_at or instance.lease_lost_at is not None:
            self.arrivals += 1
            arrival = self.arrivals
        else:
            arrival = known.arrival
        self._present[key] = _Presence(renewal, instance.started_at, now_ms, arrival)

    def renewals(self, now_ms: int) -> list[Renewal]:
        """Of every instance that was heard within a lease's time."""
        over = [key for key, one in self._present.items() if now_ms - one.heard_at > self._lease_ms]
        for key in over:
            del self._present[key]
        return [one.renewal for one in self._present.values()]

    def arrived_since(self, arrivals: int) -> list[Renewal]:
        """Of the instances that came after so many arrivals."""
        return [one.renewal for one in self._present.values() if one.arrival > arrivals]


class LeaseTurns:
    """When one partition publishes which leases. The cycle is ``tick``, then, when it may publish, ``take``."""

    def __init__(
        self, attendance: Attendance, *, partition: int, partitions: int, lease_ms: int, issued_by: str
    ) -> None:
        self._attendance = attendance
        self._partition, self._partitions = partition, partitions
        self._lease_ms = lease_ms
        self._issued_by = issued_by
        #: When everybody's went out last, and when any did; ``None``: not yet.
        self._all_at: int | None = None
        self._last_at = 0
        self._answered = 0
        self._set_backs = 0
        self._ready: list[Lease] = []

    def next_deadline(self) -> int:
        """When ``tick`` is next due; 0: now."""
        if self._attendance.arrivals > self._answered:
            return min(self._all_due_at(), self._last_at + ARRIVALS_PAUSE_MS)
        return self._all_due_at()

    def _all_due_at(self) -> int:
        if self._all_at is None or self._attendance.set_backs != self._set_backs:
            return 0  # what a clock said before it was set back no longer tells what is due
        return self._all_at + self._lease_ms // TURNS_PER_LEASE

    def tick(self, now_ms: int) -> None:
        """Make ready what is due; nothing before its time, and nothing while former ones are not taken."""
        if self._ready or now_ms < self.next_deadline():
            return
        if now_ms >= self._all_due_at():
            renewals = self._attendance.renewals(now_ms)
            self._all_at, self._set_backs = now_ms, self._attendance.set_backs
        else:
            renewals = self._attendance.arrived_since(self._answered)
        self._last_at, self._answered = now_ms, self._attendance.arrivals
        self._ready = [self._lease(part, now_ms) for part in _parts(renewals)]

    def take(self) -> list[Lease]:
        """What may be published now, unsigned."""
        ready, self._ready = self._ready, []
        return ready

    def _lease(self, renewals: tuple[Renewal, ...], now_ms: int) -> Lease:
        return Lease(self._partition, self._partitions, self._issued_by, now_ms, self._lease_ms, renewals)


def _parts(renewals: list[Renewal]) -> Iterable[tuple[Renewal, ...]]:
    """At least one, though it be empty: it tells whoever reads it how many partitions there are, and which is there."""
    for first in range(0, max(1, len(renewals)), RENEWALS_MAX):
        yield tuple(renewals[first : first + RENEWALS_MAX])
