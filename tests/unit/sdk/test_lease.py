"""How long an instance may act without the coordinator: the table, and what extends a lease and what does not."""

from __future__ import annotations

import itertools
import random

import pytest

from emergency_stop.coordinate.lease_table import LEASE, LeaseState
from emergency_stop.coordinate.tables import IllegalTransitionError
from emergency_stop.domain.messages import Lease, Renewal
from emergency_stop.sdk.lease import BEATS_MAX, LeaseHolder

LEASE_MS = 30_000
DELAY_MS = 10_000
HOUR_MS = 3_600_000
SERVICE, NAME = "behavioralEngine", "i1"

#              renewed    aged       expired    delay_over
ROWS = """
awaited        held       -          -          -
held           -          warned     -          -
warned         held       -          holding    -
holding        held       -          -          lost
lost           held       -          -          -
"""
EVENTS = "renewed aged expired delay_over".split()


def lease(
    heartbeat_at: int,
    partition: int = 0,
    partitions: int = 1,
    *,
    service: str = SERVICE,
    name: str = NAME,
    lease_ms: int = LEASE_MS,
    issued_at: int = 0,
) -> Lease:
    return Lease(partition, partitions, "c1", issued_at, lease_ms, (Renewal(service, name, heartbeat_at),))


class Instance:
    """A holder whose heartbeats are dated ``skew_ms`` beside the clock that counts."""

    def __init__(self, skew_ms: int = 0) -> None:
        self.holder = LeaseHolder(SERVICE, NAME, DELAY_MS)
        self.skew_ms = skew_ms

    def beats(self, at: int) -> int:
        self.holder.beat(at + self.skew_ms, at)
        return at + self.skew_ms

    def hears(self, message: Lease, at: int) -> list[str]:
        return [state.value for state in self.holder.renew(message, at)]

    def at(self, now_ms: int) -> list[str]:
        """Time passes to ``now_ms``, one due moment after the other."""
        entered: list[LeaseState] = []
        for _ in itertools.count():
            due = self.holder.next_deadline()
            if due is None or due > now_ms:
                break
            entered += self.holder.on_tick(due)
        return [state.value for state in entered + self.holder.on_tick(now_ms)]


def started(skew_ms: int = 0) -> Instance:
    """Its heartbeat of 0 has come back at 100."""
    instance = Instance(skew_ms)
    assert instance.hears(lease(instance.beats(0)), 100) == ["held"]
    return instance


def test_machine_is_exactly_this_table() -> None:
    expected = {
        (state, event): following
        for state, *row in (line.split() for line in ROWS.strip().splitlines())
        for event, following in zip(EVENTS, row, strict=True)
        if following != "-"
    }
    assert {(str(s), str(e)): str(f) for (s, e), f in LEASE.table.items()} == expected


def test_an_illegal_pair_raises() -> None:
    event = next(event for state, event in LEASE.table if state is LeaseState.HELD)
    with pytest.raises(IllegalTransitionError, match="lease in state 'lost'"):
        LEASE.next(LeaseState.LOST, event)


def test_a_lease_that_is_not_renewed_is_lost_step_by_step_each_at_its_time() -> None:
    instance = started()
    assert instance.at(19_999) == []
    assert instance.at(20_000) == ["warned"]
    assert instance.at(29_999) == []
    assert instance.holder.left_ms(29_999) == 1
    assert instance.at(30_000) == ["holding"]
    assert (instance.holder.left_ms(30_000), instance.holder.lapsed_at) == (0, 30_000)
    assert instance.at(39_999) == []
    assert instance.at(40_000) == ["lost"]
    assert (instance.at(10 * HOUR_MS), instance.holder.times_lost) == ([], 1)


def test_time_runs_from_when_the_heartbeat_was_sent_not_from_when_the_lease_came() -> None:
    instance = Instance()
    assert instance.hears(lease(instance.beats(0)), 29_999) == ["held", "warned"]
    assert instance.at(30_000) == ["holding"]


def test_whoever_slept_through_everything_takes_all_steps_at_once() -> None:
    assert started().holder.on_tick(HOUR_MS) == ["warned", "holding", "lost"]


@pytest.mark.parametrize("at", [15_000, 25_000, 35_000, HOUR_MS], ids=["held", "warned", "holding", "lost"])
def test_a_fresh_lease_restores_from_every_state(at: int) -> None:
    instance = started()
    instance.at(at)
    instance.holder.stop_is_over(at)
    before = instance.holder.state
    sent = instance.beats(at)
    assert instance.hears(lease(sent), at + 50) == ([] if before is LeaseState.HELD else ["held"])
    assert instance.holder.until == at + LEASE_MS
    assert instance.holder.lapsed_at is None


def test_a_fresh_lease_waits_for_the_end_of_the_services_own_stop() -> None:
    instance = started()
    instance.at(40_000)
    assert instance.hears(lease(instance.beats(41_000)), 41_100) == []
    assert instance.holder.stop_is_over(42_000) == ["held"]


def test_a_lease_that_ran_out_during_the_services_own_stop_is_none() -> None:
    instance = started()
    instance.at(40_000)
    instance.hears(lease(instance.beats(41_000)), 41_100)
    assert instance.holder.stop_is_over(41_000 + LEASE_MS) == []
    assert instance.holder.state is LeaseState.LOST


@pytest.mark.parametrize("skew_ms", [-5 * HOUR_MS, -1, 0, 5 * HOUR_MS])
@pytest.mark.parametrize("coordinator_is_at", [-9 * HOUR_MS, 0, 9 * HOUR_MS])
def test_no_clocks_need_agree(skew_ms: int, coordinator_is_at: int) -> None:
    """Neither the date of the heartbeat nor the coordinator's clock changes how long a lease lasts."""
    instance = Instance(skew_ms)
    sent = instance.beats(HOUR_MS)
    instance.hears(lease(sent, issued_at=coordinator_is_at), HOUR_MS + 100)
    assert instance.holder.until == HOUR_MS + LEASE_MS


def test_a_clock_that_is_set_back_lends_a_heartbeat_no_younger_age() -> None:
    """Two heartbeats with one date: the answer may be to the older one."""
    instance = Instance()
    instance.holder.beat(7, 0)
    instance.holder.beat(7, 20_000)
    instance.hears(lease(7), 20_100)
    assert instance.holder.until == LEASE_MS


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(lease(0), id="the one that it has"),
        pytest.param(lease(-1), id="a heartbeat that it did not send"),
        pytest.param(lease(99_999), id="a heartbeat from the future"),
        pytest.param(lease(10_000, service="sessionManager"), id="another service's"),
        pytest.param(lease(10_000, name="i2"), id="another instance's"),
        pytest.param(lease(10_000, partition=1), id="a partition that there is not"),
        pytest.param(lease(10_000, partition=-1), id="no partition"),
        pytest.param(lease(10_000, lease_ms=0), id="no time"),
        pytest.param(Lease(0, 1, "c1", 0, LEASE_MS, ()), id="nobody's"),
    ],
)
def test_what_extends_nothing(message: Lease) -> None:
    instance = started()
    instance.beats(10_000)
    assert not instance.holder.is_news(message)
    assert instance.hears(message, 10_100) == []
    assert instance.holder.until == LEASE_MS


def test_a_restart_under_the_same_name_takes_nothing_over() -> None:
    """Leases that answer the predecessor are still on the topic when the successor reads it."""
    started()
    successor = Instance()
    successor.beats(5_000)
    assert successor.hears(lease(0), 5_100) == []
    assert (successor.holder.state, successor.holder.until) == (LeaseState.AWAITED, None)
    assert successor.at(10 * HOUR_MS) == [], "nothing runs out that was never had"


def test_every_partition_must_renew_and_the_oldest_renewal_counts() -> None:
    instance = Instance()
    assert instance.holder.missing() is None
    first, second = instance.beats(0), instance.beats(5_000)
    assert instance.hears(lease(first, 2, 3), 100) == []
    assert instance.holder.missing() == (0, 1)
    assert instance.hears(lease(first, 0, 3), 100) == []
    assert instance.hears(lease(second, 1, 3), 5_100) == ["held"]
    assert (instance.holder.missing(), instance.holder.until) == ((), LEASE_MS)
    assert instance.hears(lease(second, 2, 3), 5_100) == []
    assert instance.holder.until == LEASE_MS, "partition 0 has not renewed"
    instance.at(20_000)
    assert instance.hears(lease(second, 0, 3), 20_100) == ["held"]
    assert instance.holder.until == 5_000 + LEASE_MS


def test_one_partition_that_falls_silent_costs_the_lease() -> None:
    instance = Instance()
    for at in range(0, 100_000, 5_000):
        sent = instance.beats(at)
        instance.hears(lease(sent, 0, 2), at)
        if at <= 5_000:
            instance.hears(lease(sent, 1, 2), at)
        instance.at(at)
    assert instance.holder.state is LeaseState.LOST
    assert instance.holder.times_lost == 1


def test_new_partitions_must_renew_before_the_former_end() -> None:
    instance = started()
    sent = instance.beats(10_000)
    instance.hears(lease(sent, 0, 2), 10_100)
    assert (instance.holder.until, instance.holder.missing()) == (LEASE_MS, (1,))
    instance.hears(lease(sent, 1, 2), 15_000)
    assert (instance.holder.until, instance.holder.missing()) == (10_000 + LEASE_MS, ())


def test_a_shorter_lease_is_in_force_from_its_first_record() -> None:
    instance = started()
    instance.hears(lease(instance.beats(3_000), lease_ms=6_000), 3_100)
    assert (instance.holder.until, instance.holder.next_deadline()) == (9_000, 7_000)


def test_heartbeats_go_out_well_within_the_lease_once_it_is_known() -> None:
    instance = Instance()
    assert instance.holder.beats_every_ms(10_000) == 10_000
    instance.hears(lease(instance.beats(0)), 0)
    assert (instance.holder.beats_every_ms(10_000), instance.holder.beats_every_ms(100)) == (5_000, 100)


def test_what_is_remembered_is_bounded() -> None:
    instance = Instance()
    for at in range(BEATS_MAX + 10):
        instance.beats(at)
    assert not instance.holder.is_news(lease(9))
    assert instance.holder.is_news(lease(10))


@pytest.mark.parametrize("seed", range(50))
def test_reordered_repeated_and_dropped_leases_never_let_it_act_longer_than_the_newest_allows(seed: int) -> None:
    """Against the rule itself: every partition sent back a heartbeat that is younger than the lease."""
    chance = random.Random(seed)
    instance, skew_ms, partitions = Instance(chance.randrange(-HOUR_MS, HOUR_MS)), 0, 3
    skew_ms = instance.skew_ms
    told: dict[int, list[int]] = {number: [] for number in range(partitions)}
    sent: list[int] = []
    for at in range(0, 300_000, 500):
        if chance.random() < 0.1:
            sent.append(instance.beats(at) - skew_ms)
        if sent and chance.random() < 0.15:
            partition, heartbeat = chance.randrange(partitions), chance.choice(sent[-8:])
            told[partition].append(heartbeat)
            instance.hears(lease(heartbeat + skew_ms, partition, partitions), at)
        instance.at(at)
        if instance.holder.state is LeaseState.LOST:
            instance.holder.stop_is_over(at)
        may_act = instance.holder.state in (LeaseState.HELD, LeaseState.WARNED)
        allowed = all(any(at < heartbeat + LEASE_MS for heartbeat in told[number]) for number in told)
        assert may_act == allowed, f"seed {seed}, at {at}"
