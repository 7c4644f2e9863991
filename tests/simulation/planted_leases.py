"""Bugs planted in what an instance does about its lease."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from emergency_stop.coordinate.lease_table import LeaseState
from emergency_stop.domain.messages import Lease
from emergency_stop.domain.values import StopLevel
from emergency_stop.sdk.lease import LeaseHolder
from emergency_stop.sdk.permit import PermitGate
from tests.simulation.planting import Planted
from tests.simulation.weather import LEASES_AT, SPECIAL_EVERY
from tests.simulation.world import Parts


class LeaseFromReceipt(LeaseHolder):
    """Counts a lease from when it came, not from when the heartbeat went."""

    def renew(self, lease: Lease, now_ms: int) -> list[LeaseState]:
        self._beats = {one.heartbeat_at: now_ms for one in lease.renewals}
        return super().renew(lease, now_ms)


class EndlessLease(LeaseHolder):
    """Once had, it is never over."""

    def on_tick(self, now_ms: int) -> list[LeaseState]:
        return super().on_tick(now_ms) if self.state is LeaseState.AWAITED else []

    def next_deadline(self) -> int | None:
        return None


class UnwatchedLease(LeaseHolder):
    """Notices its end only when somebody asks for leave."""

    def next_deadline(self) -> int | None:
        return None


class LeaseOfAnyPartition(LeaseHolder):
    """Counts a lease for all partitions, whichever it is of."""

    def renew(self, lease: Lease, now_ms: int) -> list[LeaseState]:
        return super().renew(replace(lease, partition=0, partitions=1), now_ms)


class LeaseOfPredecessor(LeaseHolder):
    """Counts a heartbeat that one of its id sent before it was started."""

    def _read(self, lease: Lease) -> Any:
        for one in lease.renewals:
            if (one.service, one.instance_id) == (self.service, self.instance_id):
                self._beats.setdefault(one.heartbeat_at, one.heartbeat_at)
        return super()._read(lease)


class GateWithoutLease(PermitGate):
    """Stays open without a lease."""

    def take_lease_away(self, level: StopLevel, reason: str) -> None:
        pass


def _bug(name: str, kind: str, parts: Parts) -> Planted:
    return Planted(name, frozenset({kind}), parts, every=SPECIAL_EVERY, at=LEASES_AT)


LEASE_BUGS: Final = (
    _bug("a lease counts from its receipt", "acted_without_lease", Parts(leases=LeaseFromReceipt)),
    _bug("a lease never ends", "acted_without_lease", Parts(leases=EndlessLease)),
    _bug("nobody watches a lease", "outlives_lease", Parts(leases=UnwatchedLease)),
    _bug("the lease of one partition is enough", "acted_without_lease", Parts(leases=LeaseOfAnyPartition)),
    _bug("a predecessor's lease counts", "acted_without_lease", Parts(leases=LeaseOfPredecessor)),
    _bug("a lost lease shuts nothing", "acted_without_lease", Parts(gate=GateWithoutLease)),
)
