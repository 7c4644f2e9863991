"""Leases in a simulated shell: heartbeats out, leases back, and what an instance does when none comes.

The holder, the gate, and the coordinator's turns are the production ones; this keeps the rules of
``sdk/lease_keeper.py`` and of the lane's lease loop. The judge's clock is the instance's own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from emergency_stop.coordinate.lease_table import LeaseState
from emergency_stop.coordinate.leases import Attendance, LeaseTurns
from emergency_stop.domain.messages import Lease, ServiceInstance
from emergency_stop.domain.values import StopLevel

if TYPE_CHECKING:
    from tests.simulation.instance import Instance
    from tests.simulation.world import SimulatedWorld

#: As short as may be, and shorter than some coordinators are away.
LEASE_MS: Final = 6_000
HOLD_DELAY_MS: Final = 1_500
BEAT_MS: Final = 1_000
#: Until what is in flight without a lease has been asked to end, beyond the hold delay.
ASKED_WITHIN_MS: Final = 100
_HAS_LEASE: Final = frozenset({LeaseState.HELD, LeaseState.WARNED})


class Leasing:
    """One instance's lease. It acts by ``holder``; ``until`` is the judge's own account of the same."""

    def __init__(self, world: SimulatedWorld, instance: Instance) -> None:
        self._world, self._engine, self._instance = world, world.engine, instance
        self.holder = world.parts.leases(instance.service, instance.instance_id, HOLD_DELAY_MS)
        self._sent: set[int] = set()
        #: By partition: until when the newest heartbeat that it sent back would let the instance act.
        self._renewed: dict[int, int] = {}
        self._armed_at: int | None = None
        #: One that comes again may read what its predecessor's heartbeats brought, before its own go out.
        self._mute_until = self._engine.now_ms + world.engine.random.choice((0, 1_500)) if world.weather.anew else 0
        instance.gate.lapsed = self._lapsed

    @property
    def until(self) -> int:
        """Until when it may act: as long as every partition lets it; 0 while one never did."""
        return min(self._renewed.values()) if len(self._renewed) == self._world.weather.leases else 0

    @property
    def is_obtained(self) -> bool:
        """Whether it may begin to act."""
        return self.holder.state in _HAS_LEASE

    def beat(self) -> None:
        """Announce itself, and again in a while."""
        now_ms, instance = self._engine.now_ms, self._instance
        announced = instance.announcement(now_ms)
        if announced is not None and instance.left_at is None:
            self.holder.beat(now_ms, now_ms)
            self._sent.add(now_ms)
            lost_at = None if self.is_obtained else now_ms
            beat = replace(announced, heartbeat_at=now_ms, lease_lost_at=lost_at)
            instance.after(max(0, self._mute_until - now_ms), instance.online, self._world.hear_beat, beat)
        instance.after(BEAT_MS, self.beat)

    def take(self, lease: Lease) -> None:
        """A lease has reached the instance."""
        now_ms = self._engine.now_ms
        for one in lease.renewals:
            if (one.service, one.instance_id) == self._instance.key and one.heartbeat_at in self._sent:
                until = one.heartbeat_at + lease.lease_ms
                self._renewed[lease.partition] = max(until, self._renewed.get(lease.partition, 0))
        if self.holder.is_news(lease):
            self._enter(self.holder.renew(lease, now_ms))

    def _lapsed(self) -> bool:
        until = self.holder.until
        if until is None or self._engine.now_ms < until or not self.is_obtained:
            return False
        self._tick()
        return self._instance.gate.wide is not None

    def _tick(self) -> None:
        self._enter(self.holder.on_tick(self._engine.now_ms))

    def _enter(self, states: list[LeaseState]) -> None:
        gate = self._instance.gate
        for state in states:
            self._world.note("%s: lease %s", self._instance, state.value)
            if state is LeaseState.HELD and gate.lacks_lease:
                self._instance.read_up(self._return)
            elif state is LeaseState.HOLDING:
                gate.take_lease_away(StopLevel.GRACEFUL, "no lease")
            elif state is LeaseState.LOST:
                gate.take_lease_away(StopLevel.IMMEDIATE, "no lease, and the hold delay is over")
                self._stop()
        due = self.holder.next_deadline()
        if due is not None and due != self._armed_at:
            self._armed_at = due
            self._instance.after(max(0, due - self._engine.now_ms), self._timer, due)

    def _return(self) -> None:
        if self.is_obtained:
            self._instance.gate.give_lease_back()

    def _timer(self, at: int) -> None:
        if self._armed_at == at:
            self._armed_at = None
            self._tick()

    def _stop(self) -> None:
        """The service's own stop: what is in flight is asked to end, until nothing is."""
        gate = self._instance.gate
        gate.revoke(gate.own_scope, again=True)
        if gate.in_flight_actions:
            self._instance.after(200, self._stop)
        else:
            self._enter(self.holder.stop_is_over(self._engine.now_ms))

    def judge(self) -> None:
        """When a lease and its delay are over, whatever still acts has been asked to end; looked at once per end."""
        # one that stood still finds out when it wakes
        over_at = max(self.until + HOLD_DELAY_MS, self._instance.paused_until) + ASKED_WITHIN_MS
        if self._engine.now_ms >= over_at:
            unasked = [action for action in self._instance.acting if not action.was_asked]
            if unasked:
                self._world.judge.violated("outlives_lease", f"{self._instance} has {len(unasked)} actions in flight")
        self._instance.after(max(BEAT_MS, over_at - self._engine.now_ms), self.judge)


class Granting:
    """The lease loop of one life of a partition's coordinator."""

    def __init__(self, world: SimulatedWorld, partition: int = 0) -> None:
        self._world, self._engine = world, world.engine
        self._attendance = Attendance(LEASE_MS)
        self._turns = LeaseTurns(
            self._attendance, partition=partition, partitions=world.weather.leases, lease_ms=LEASE_MS,
            issued_by="simulated",
        )  # fmt: skip
        self._armed_at: int | None = None
        self.is_over = False

    def hear(self, beat: ServiceInstance) -> None:
        """A heartbeat, in the order of its topic."""
        if not self.is_over:
            self._attendance.hear(beat, self._engine.now_ms)
            self.go_on()

    def go_on(self, at: int | None = None) -> None:
        """Publish what is due, and come again."""
        if self.is_over or at not in (None, self._armed_at):
            return
        self._turns.tick(self._engine.now_ms)
        for lease in self._turns.take():
            self._world.grant(lease)
        due = max(self._turns.next_deadline(), self._engine.now_ms + 1)
        if self._armed_at is None or self._armed_at <= self._engine.now_ms or due < self._armed_at:
            self._armed_at = due
            self._engine.after(due - self._engine.now_ms, self.go_on, due)


class LeaseOffice:
    """A further partition of the coordinator, of which the schedule sees the leases alone. It may be closed a while."""

    def __init__(self, world: SimulatedWorld, partition: int) -> None:
        self._world, self._partition = world, partition
        self._granting: Granting | None = None
        self.open()

    def open(self) -> None:
        """Begin anew, knowing nobody, unless it is open."""
        if self._granting is None:
            self._granting = Granting(self._world, self._partition)
            self._granting.go_on()

    def close(self, for_ms: int) -> None:
        """Its process is away for so long."""
        if self._granting is not None:
            self._world.note("the coordinator of partition %s is away for %s ms", self._partition, for_ms)
            self._granting.is_over = True
            self._granting = None
            self._world.engine.after(for_ms, self.open)

    def hear(self, beat: ServiceInstance) -> None:
        """A heartbeat, in the order of its topic."""
        if self._granting is not None:
            self._granting.hear(beat)
