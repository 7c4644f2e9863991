"""What a coordinator's partition looks after beside its scopes: blind telemetry, common causes, and leases."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from emergency_stop.coordinate.blast import BlastEffect, BlastLimits, RecentStops
from emergency_stop.coordinate.blast_watch import KEY as BLAST_KEY
from emergency_stop.coordinate.blast_watch import BlastWatch
from emergency_stop.coordinate.blind_watch import KEY_PREFIX as BLIND_PREFIX
from emergency_stop.coordinate.blind_watch import BlindWatch, View
from emergency_stop.coordinate.blindness import BlindEffect, Watchers
from emergency_stop.coordinate.leases import LeaseTurns
from emergency_stop.coordinate.state import ScopeState
from emergency_stop.domain.messages import Lease


class Watches:
    """Not thread-safe. The cycle is that of each watch: ``tick``, ``take_dirty``, and once durable the effects.

    ``blind`` and ``view``: the telemetry partitions that this one looks after, and what is known of them.
    ``blast`` and ``live_accounts``: stops of many accounts; ``None`` everywhere but where scope ``global`` is at home.
    ``leases``: when the partition tells instances that it saw their heartbeats; ``None``: never.
    """

    def __init__(
        self,
        *,
        blind: BlindWatch | None = None,
        view: Callable[[], View] | None = None,
        blast: BlastWatch | None = None,
        live_accounts: Callable[[], int] = lambda: 0,
        leases: LeaseTurns | None = None,
    ) -> None:
        #: Both are read by metrics; changed by nobody else.
        self.blind = blind or BlindWatch((), 0)
        self.blast = blast or BlastWatch(BlastLimits(percent=0), RecentStops(0))
        self._view = view or (lambda: View({}, Watchers()))
        self._live_accounts = live_accounts
        self._leases = leases

    def tick(self, now_ms: int, everything: ScopeState) -> None:
        """Decide from what is known now; ``everything`` is the scope ``global``."""
        self.blind.tick(now_ms, self._view())
        self.blast.tick(now_ms, self._live_accounts(), everything)
        if self._leases is not None:
            self._leases.tick(now_ms)

    def next_deadline(self) -> int | None:
        """When ``tick`` is next due."""
        leases = None if self._leases is None else self._leases.next_deadline()
        deadlines = (self.blind.next_deadline(self._view()), self.blast.next_deadline(), leases)
        return min((at for at in deadlines if at is not None), default=None)

    def take_dirty(self) -> list[tuple[bytes, bytes | None]]:
        """State records changed since the last call."""
        return [*self.blind.take_dirty(), *self.blast.take_dirty()]

    def take_effects(self) -> tuple[Sequence[BlindEffect], Sequence[BlastEffect]]:
        """What may be published now: all that was decided before the last ``take_dirty``."""
        return self.blind.take_effects(), self.blast.take_effects()

    def take_leases(self) -> Sequence[Lease]:
        """Leases rest on no state; they are due once what was decided beside them is durable."""
        return () if self._leases is None else self._leases.take()

    def restore(self, key: bytes, value: bytes) -> bool:
        """Load a record that ``take_dirty`` gave; whether it is one. Raises ``SnapshotError``."""
        if key.startswith(BLIND_PREFIX):
            self.blind.restore(key, value)
        elif key == BLAST_KEY:
            self.blast.restore(key, value)
        else:
            return False
        return True
