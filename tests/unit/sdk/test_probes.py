"""How an instance answers whether it is fit to be let back in: timelines of probes and holds."""

from __future__ import annotations

from functools import partial

import pytest

from emergency_stop.domain.messages import Hold
from emergency_stop.domain.values import Action
from tests.unit.sdk.scenario import SERVICE, Instance, account_in_cohort_below, command, half_open, held, running

OWN = f"service:{SERVICE}"
probe = partial(command, Action.PROBE, deadline_at=5_000)


def stopped(*holds: Hold) -> Instance:
    """It was stopped at epoch 1; the holds came after."""
    instance = Instance()
    for hold in (held(epoch=1), *holds):
        instance.hold(hold)
    return instance


def refusal(instance: Instance) -> str:
    return instance.told[-1].reason


def test_a_probe_without_a_share_asks_whether_the_service_is_prepared() -> None:
    instance = stopped()
    assert instance.order(probe(epoch=1)) == ["handler"]
    assert instance.handled() == ["ready"]
    assert instance.gate.shut_for("a") is not None, "to be prepared is not to be let in"


def test_a_probe_of_a_share_waits_for_its_hold_and_then_asks_whether_the_service_is_well() -> None:
    """As a timeline.

    command  probe 2, 10 % ─ ─ ─ ┐
    hold     held 1 ────── 10 % 2 ─► handler ─► READY
    """
    instance = stopped()
    assert instance.order(probe(epoch=2, share_percent=10)) == []
    assert instance.hold(half_open(10, epoch=2)) == ["handler"]
    assert instance.handled() == ["ready"]


def test_a_probe_whose_hold_is_there_already_asks_at_once() -> None:
    assert stopped(half_open(10, epoch=2)).order(probe(epoch=2, share_percent=10)) == ["handler"]


def test_a_full_share_is_admitted_by_a_half_open_hold_and_by_running_alike() -> None:
    for hold in (half_open(100, epoch=2), running(epoch=2)):
        assert stopped(hold).order(probe(epoch=2, share_percent=100)) == ["handler"]


@pytest.mark.parametrize("share_percent", [0, 10])
def test_a_service_that_is_not_fit_refuses_with_its_own_words(share_percent: int) -> None:
    instance = stopped(half_open(10, epoch=2))
    instance.order(probe(epoch=2, share_percent=share_percent))
    assert instance.handled(done=False, reason="the database is away") == ["refused"]
    assert refusal(instance) == "the database is away"


@pytest.mark.parametrize(
    ("holds", "epoch", "share_percent", "why"),
    [
        ([held(epoch=3)], 2, 0, "epoch 2 is older than what is known of account:a, of epoch 3"),
        ([held(epoch=3)], 2, 10, "epoch 2 is older than what is known of account:a, of epoch 3"),
        ([running(epoch=3)], 2, 10, "of epoch 3"),
        ([running(epoch=3)], 2, 0, "of epoch 3"),
        ([held(epoch=2)], 2, 10, "0 % of account:a is admitted, not 10 %: held at 2"),
        ([half_open(50, epoch=2)], 2, 10, "50 % of account:a is admitted, not 10 %"),
        ([running(epoch=2)], 2, 10, "100 % of account:a is admitted, not 10 %, because nothing stops it"),
        ([half_open(10, epoch=2), held("global")], 2, 10, "account:a is not admitted, because global is stopped"),
        ([half_open(10, epoch=2)], 2, 101, "share_percent is 101; allowed: 0 to 100"),
        ([half_open(10, epoch=2)], 2, -1, "share_percent is -1; allowed: 0 to 100"),
    ],
)
def test_what_stands_in_the_way_is_refused_at_once(holds: list[Hold], epoch: int, share_percent: int, why: str) -> None:
    instance = stopped(*holds)
    assert instance.order(probe(epoch=epoch, share_percent=share_percent)) == ["refused"]
    assert why in refusal(instance)
    assert instance.handlers == []


def test_a_probe_of_a_wide_scope_heeds_the_other_one_and_an_accounts_probe_its_cohort() -> None:
    instance = Instance()
    instance.hold(half_open(50, "global", 2))
    instance.hold(half_open(10, OWN, 2))
    assert instance.order(probe(scope="global", epoch=2, share_percent=50)) == ["refused"]
    assert f"because {OWN} is stopped" in refusal(instance)
    assert instance.order(probe(scope=OWN, epoch=2, share_percent=10, attempt=2)) == ["handler"]
    subjects = ((account_in_cohort_below(10), "handler"), (account_in_cohort_below(50, above=10), "refused"))
    for attempt, (name, answer) in enumerate(subjects, 3):
        scope = f"account:{name}"
        instance.hold(half_open(30, scope, 2))
        assert instance.order(probe(scope=scope, epoch=2, share_percent=30, attempt=attempt)) == [answer]


@pytest.mark.parametrize("scope", ["global", OWN, "account:a"])
def test_a_service_that_is_leaving_is_not_fit_to_be_let_in(scope: str) -> None:
    instance = Instance()
    instance.hold(half_open(100, scope, 2))
    instance.gate.close("the service is shutting down")
    assert instance.order(probe(scope=scope, epoch=2, share_percent=100)) == ["refused"]
    assert "the service is shutting down" in refusal(instance)


def test_a_good_answer_at_the_deadline_is_too_late_even_before_the_clock_has_struck() -> None:
    instance = stopped(half_open(10, epoch=2))
    instance.order(probe(epoch=2, share_percent=10))
    instance.now_ms = 5_000
    assert instance.handled() == ["refused"]
    assert instance.at(6_000) == []


def test_a_probe_that_nobody_signed_is_refused_because_it_could_let_work_through() -> None:
    instance = stopped(half_open(10, epoch=2))
    ordered = probe(epoch=2, share_percent=10)
    assert instance.order(ordered, trusted=False, note="signature invalid") == ["refused"]
    assert refusal(instance) == "a probe must be signed by a known key; signature invalid"


@pytest.mark.parametrize("stop", ["command", "hold", "alarm"])
def test_a_newer_stop_ends_a_probe_that_waits(stop: str) -> None:
    instance = stopped()
    instance.order(probe(epoch=2, share_percent=10))
    if stop == "command":
        assert "refused" in instance.order(command(epoch=3))
    elif stop == "hold":
        assert instance.hold(held(epoch=3)) == ["refused"]
    else:
        assert instance.hold(held(epoch=3), trusted=False) == [], "a forged one ends nothing that admits nothing yet"
        assert instance.hold(half_open(10, epoch=2)) == ["handler"]


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("share_percent", [0, 10])
def test_a_stop_that_comes_while_the_service_is_asked_wins_over_its_good_answer(
    trusted: bool, share_percent: int
) -> None:
    instance = stopped(half_open(10, epoch=2))
    instance.order(probe(epoch=2, share_percent=share_percent))
    instance.order(command(epoch=3), trusted=trusted, note="")
    instance.handlers = [asked for asked in instance.handlers if asked.action is Action.PROBE]
    forged_and_nothing_admitted = not trusted and share_percent == 0
    assert instance.handled() == ["ready" if forged_and_nothing_admitted else "refused"]


@pytest.mark.parametrize(
    ("holds", "share_percent", "why"),
    [
        ([], 10, "its hold, of epoch 2 with 10 %, has not come by the deadline"),
        ([half_open(10, epoch=2)], 10, "the service's health check still runs at the deadline"),
        ([], 0, "the service's prepare handler still runs at the deadline"),
    ],
)
def test_by_its_deadline_a_probe_is_refused_and_what_comes_later_changes_nothing(
    holds: list[Hold], share_percent: int, why: str
) -> None:
    instance = stopped(*holds)
    instance.order(probe(epoch=2, share_percent=share_percent))
    assert instance.at(4_999) == []
    assert instance.at(5_000) == ["refused"]
    assert refusal(instance) == why
    assert instance.hold(half_open(10, epoch=2)) == []
    while instance.handlers:
        assert instance.handled() == []
    assert instance.stops.next_deadline() is None


def test_a_probe_that_comes_after_its_deadline_is_refused() -> None:
    instance = stopped(half_open(10, epoch=2))
    instance.now_ms = 5_004
    assert instance.order(probe(epoch=2, share_percent=10)) == ["refused"]
    assert "4 ms after its deadline" in refusal(instance)


def test_a_repeated_probe_is_asked_once_and_answered_alike() -> None:
    instance = stopped()
    ordered = probe(epoch=2, share_percent=10)
    assert instance.order(ordered) == []
    assert instance.order(ordered) == []
    assert instance.hold(half_open(10, epoch=2)) == ["handler"]
    assert instance.order(ordered) == []
    assert instance.handled() == ["ready"]
    assert instance.order(ordered) == ["ready"]
    assert instance.handlers == []


def test_a_recovery_from_the_first_step_to_the_last() -> None:
    """As a timeline.

    hold   held 1 ─── 10 % 2 ─── 50 % 3 ─── 100 % 4 ─── running 5
    probe       0 %        10 %       50 %       100 %  resume
    """
    instance = stopped()
    assert instance.order(probe(epoch=1)) == ["handler"]
    assert instance.handled() == ["ready"]
    for epoch, percent in ((2, 10), (3, 50), (4, 100)):
        instance.hold(half_open(percent, epoch=epoch))
        assert instance.order(probe(epoch=epoch, share_percent=percent)) == ["handler"]
        assert instance.handled() == ["ready"]
    instance.hold(running(epoch=5))
    assert instance.order(command(Action.RESUME, epoch=5)) == ["resumed"]
