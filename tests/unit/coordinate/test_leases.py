"""Which heartbeats a coordinator partition sends back, and when."""

from __future__ import annotations

from dataclasses import replace

from emergency_stop.coordinate.leases import ARRIVALS_PAUSE_MS, RENEWALS_MAX, Attendance, LeaseTurns
from emergency_stop.domain.messages import Lease
from emergency_stop.domain.values import InstanceState
from tests.unit.coordinate.scenario import instance

LEASE_MS = 30_000
TURN_MS = LEASE_MS // 3
HOUR_MS = 3_600_000


class Partition:
    """Partition 1 of 2, and what it and its neighbour heard."""

    def __init__(self) -> None:
        self.attendance = Attendance(LEASE_MS)
        self.turns = LeaseTurns(self.attendance, partition=1, partitions=2, lease_ms=LEASE_MS, issued_by="c1")

    def hears(self, name: str, heartbeat_at: int, at: int, *, started_at: int = 0, lost_at: int | None = None) -> None:
        announced = instance(name, heartbeat_at=heartbeat_at, started_at=started_at)
        self.attendance.hear(replace(announced, lease_lost_at=lost_at), at)

    def leaves(self, name: str, at: int) -> None:
        self.attendance.hear(instance(name, state=InstanceState.LEFT), at)

    def publishes(self, at: int) -> list[Lease]:
        self.turns.tick(at)
        return self.turns.take()

    def renews(self, at: int) -> dict[str, int] | None:
        """The heartbeats that one lease sends back; ``None`` where none is due."""
        leases = self.publishes(at)
        assert len(leases) <= 1
        return {one.service: one.heartbeat_at for one in leases[0].renewals} if leases else None


def test_the_first_lease_is_due_at_once_and_says_who_is_there() -> None:
    partition = Partition()
    partition.hears("x", 7, 100)
    assert partition.turns.next_deadline() == 0
    (lease,) = partition.publishes(200)
    assert (lease.partition, lease.partitions, lease.issued_by, lease.issued_at) == (1, 2, "c1", 200)
    assert (lease.lease_ms, lease.signature) == (LEASE_MS, b"")
    assert [(one.service, one.instance_id, one.heartbeat_at) for one in lease.renewals] == [("x", "1", 7)]


def test_leases_go_out_every_third_of_their_time_with_the_newest_heartbeats() -> None:
    """A heartbeat may come back more than once.

    ::

        heartbeats   7      8  9
        leases       7              9        9
                     0           1/3       2/3
    """
    partition = Partition()
    partition.hears("x", 7, 0)
    assert partition.renews(0) == {"x": 7}
    assert partition.turns.next_deadline() == TURN_MS
    partition.hears("x", 8, 5_000)
    partition.hears("x", 9, 8_000)
    assert partition.renews(TURN_MS - 1) is None
    assert partition.renews(TURN_MS) == {"x": 9}
    assert partition.renews(2 * TURN_MS) == {"x": 9}


def test_a_newcomer_is_answered_soon_and_alone() -> None:
    partition = Partition()
    partition.hears("x", 7, 0)
    assert partition.renews(0) == {"x": 7}
    partition.hears("y", 8, 3_000)
    assert partition.turns.next_deadline() <= 3_000
    assert partition.renews(3_000) == {"y": 8}
    assert partition.turns.next_deadline() == TURN_MS, "the regular turn is not put off"
    partition.hears("z", 9, 3_010)
    partition.hears("z2", 9, 3_050)
    assert partition.renews(3_050) is None
    assert partition.renews(3_000 + ARRIVALS_PAUSE_MS) == {"z": 9, "z2": 9}, "a crowd gets one"
    assert partition.renews(TURN_MS) == {"x": 7, "y": 8, "z": 9, "z2": 9}


def test_whoever_starts_anew_or_says_that_it_has_no_lease_is_answered_soon_too() -> None:
    partition = Partition()
    partition.hears("x", 7, 0)
    partition.renews(0)
    partition.hears("x", 8, 1_000, started_at=900)
    assert partition.renews(1_000) == {"x": 8}
    partition.hears("x", 9, 2_000, started_at=900, lost_at=1_500)
    assert partition.renews(2_000) == {"x": 9}
    partition.hears("x", 10, 3_000, started_at=900)
    assert partition.renews(3_000) is None


def test_who_left_or_fell_silent_is_not_named_and_who_comes_back_is() -> None:
    partition = Partition()
    partition.hears("x", 7, 0)
    partition.hears("y", 7, 0)
    partition.leaves("y", 1_000)
    assert partition.renews(LEASE_MS) == {"x": 7}
    partition.hears("x", 7, LEASE_MS)
    assert partition.renews(LEASE_MS + TURN_MS) == {}, "the same record, read again, is no new heartbeat"
    partition.hears("x", 8, LEASE_MS + TURN_MS + 500)
    assert partition.renews(LEASE_MS + TURN_MS + 500) == {"x": 8}


def test_an_instance_whose_clock_is_hours_off_is_named_as_it_dates_itself() -> None:
    for skew_ms in (-5 * HOUR_MS, 5 * HOUR_MS):
        partition, now_ms = Partition(), 10 * HOUR_MS
        partition.hears("x", now_ms + skew_ms, now_ms)
        assert partition.renews(now_ms) == {"x": now_ms + skew_ms}
        assert partition.renews(now_ms + TURN_MS) == {"x": now_ms + skew_ms}


def test_a_clock_that_is_set_back_stops_no_leases() -> None:
    partition = Partition()
    partition.hears("x", 7, HOUR_MS)
    assert partition.renews(HOUR_MS) == {"x": 7}
    partition.hears("x", 8, 1_000)
    assert partition.turns.next_deadline() == 0
    assert partition.renews(1_000) == {"x": 8}
    assert partition.turns.next_deadline() == 1_000 + TURN_MS


def test_a_crowd_is_spread_over_several_records_and_each_is_named_once() -> None:
    partition = Partition()
    for number in range(RENEWALS_MAX + 1):
        partition.hears(f"s{number}", number, 0)
    leases = partition.publishes(0)
    assert [len(lease.renewals) for lease in leases] == [RENEWALS_MAX, 1]
    assert len({one.service for lease in leases for one in lease.renewals}) == RENEWALS_MAX + 1


def test_nothing_piles_up_while_nothing_may_be_published() -> None:
    partition = Partition()
    for at in range(0, 10 * LEASE_MS, TURN_MS):
        partition.turns.tick(at)
    assert len(partition.turns.take()) == 1


def test_partitions_of_one_process_take_their_turns_each() -> None:
    partition = Partition()
    neighbour = LeaseTurns(partition.attendance, partition=0, partitions=2, lease_ms=LEASE_MS, issued_by="c1")
    partition.hears("x", 7, 0)
    assert partition.renews(0) == {"x": 7}
    assert neighbour.next_deadline() == 0
    neighbour.tick(50)
    assert [lease.partition for lease in neighbour.take()] == [0]
