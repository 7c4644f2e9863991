"""Who counts as an instance: by its own date of its heartbeat, or by when that was heard."""

from __future__ import annotations

import pytest

from emergency_stop.coordinate.services import FORGOTTEN_AFTER_LIMITS, Liveness, Services
from emergency_stop.coordinate.state import World
from emergency_stop.coordinate.tables import Standing
from emergency_stop.domain.messages import ServiceInstance
from emergency_stop.domain.values import GLOBAL_SCOPE, InstanceState
from tests.unit.coordinate.scenario import POLICY, hit, instance, on_record, opened

LOST_MS = POLICY.heartbeat_lost_ms
COUNTS_MS = LOST_MS * FORGOTTEN_AFTER_LIMITS
NOW = 1_800_000_000_000
HOUR_MS = 3_600_000


def liveness(one: ServiceInstance, heard_at: int | None = None, *, may_act_ms: int = 0) -> Liveness | None:
    services = Services(("x",), may_act_ms=may_act_ms)
    services.put(one, heard_at)
    found = services.instances("x", NOW, LOST_MS)
    return found["1"][1] if found else None


@pytest.mark.parametrize(
    ("dated_ms_ago", "heard_ms_ago", "counts_as"),
    [
        #  by its own date alone, where nobody knows when it was heard
        (0, None, Liveness.LIVE),
        (LOST_MS, None, Liveness.LIVE),
        (LOST_MS + 1, None, Liveness.LOST),
        (COUNTS_MS, None, Liveness.LOST),
        (COUNTS_MS + 1, None, None),
        #  its clock is an hour behind
        (HOUR_MS, 0, Liveness.LIVE),
        (HOUR_MS, LOST_MS + 1, Liveness.LOST),
        (HOUR_MS, COUNTS_MS, Liveness.LOST),
        (HOUR_MS, COUNTS_MS + 1, None),
        #  its clock is ahead: it counts for longer, never for less
        (-HOUR_MS, COUNTS_MS + 1, Liveness.LIVE),
    ],
)
def test_the_later_of_both_counts(dated_ms_ago: int, heard_ms_ago: int | None, counts_as: Liveness | None) -> None:
    one = instance("x", heartbeat_at=NOW - dated_ms_ago)
    assert liveness(one, None if heard_ms_ago is None else NOW - heard_ms_ago) is counts_as


def test_whoever_may_act_on_its_lease_counts_for_so_long_at_least() -> None:
    silent = instance("x", heartbeat_at=NOW - COUNTS_MS - 1)
    assert liveness(silent) is None
    assert liveness(silent, may_act_ms=COUNTS_MS + 1) is Liveness.LOST


def test_one_that_left_left() -> None:
    assert liveness(instance("x", heartbeat_at=NOW, state=InstanceState.LEFT), NOW) is Liveness.LEFT


def test_no_stop_is_claimed_without_an_instance_whose_clock_is_behind() -> None:
    services = Services(("x",))
    services.put(instance("x", "right", heartbeat_at=NOW), NOW)
    services.put(instance("x", "behind", heartbeat_at=NOW - HOUR_MS), NOW)
    state = opened(hit(), NOW, World(POLICY, services, on_record))
    standings = {target.instance_id: target.standing for target in state.cases[0].targets}
    assert standings == {"right": Standing.PENDING, "behind": Standing.PENDING}


class TestForgetting:
    """Who counts no more is struck out; what says that a service is there, or has left, stays."""

    def of(self, *instances: ServiceInstance) -> Services:
        return Services(("x",), instances)

    def left(self, instance_id: str, at: int) -> ServiceInstance:
        return instance("x", instance_id, heartbeat_at=at, state=InstanceState.LEFT)

    def test_the_silent_and_those_that_left_go_but_for_the_last(self) -> None:
        services = self.of(
            self.left("1", 1),
            self.left("2", 2),
            instance("x", "3", heartbeat_at=3),
            instance("x", "4", heartbeat_at=4),
            instance("x", "5", heartbeat_at=NOW),
            instance("y", "6", heartbeat_at=6),
            instance("y", "7", heartbeat_at=7),
        )
        assert set(services.forget(NOW - COUNTS_MS)) == {("x", "1"), ("x", "3"), ("x", "4"), ("y", "6")}
        assert set(services.instances("x", NOW, LOST_MS)) == {"2", "5"}
        assert services.named((), GLOBAL_SCOPE) == ("x", "y"), "a stop of everything names who was ever there"
        assert services.forget(NOW - COUNTS_MS) == []

    def test_a_service_of_which_all_left_counts_as_stopped_still(self) -> None:
        services = self.of(self.left("1", 1), self.left("2", 2))
        services.forget(NOW)
        state = opened(hit(), NOW, World(POLICY, services, on_record))
        assert [(one.instance_id, one.standing) for one in state.cases[0].targets] == [("2", Standing.STOPPED)]

    def test_nobody_goes_who_was_heard_lately_whatever_its_clock_says(self) -> None:
        services = Services(("x",))
        for name in "12":
            services.put(instance("x", name, heartbeat_at=NOW - HOUR_MS), NOW)
        assert services.forget(NOW - COUNTS_MS) == []

    def test_one_that_is_struck_out_is_not_there(self) -> None:
        services = self.of(instance("x", heartbeat_at=NOW))
        services.remove("x", "1")
        services.remove("x", "1")
        services.remove("z", "1")
        assert services.membership(NOW, LOST_MS) == frozenset()
