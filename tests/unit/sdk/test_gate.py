"""Which holds, orders and alarms shut the gate for whom, and what opens it again."""

from __future__ import annotations

import pickle

import pytest

from emergency_stop.domain.messages import Hold, HoldCause
from emergency_stop.domain.values import Action, HoldState, StopLevel
from emergency_stop.sdk.gate import Gate, Stopped, Verdict
from tests.unit.sdk.scenario import (
    ACCOUNT,
    GRACEFUL,
    IMMEDIATE,
    MAINTENANCE,
    SERVICE,
    Work,
    command,
    half_open,
    held,
    running,
)

OWN = f"service:{SERVICE}"


def opened() -> Gate:
    gate = Gate(SERVICE)
    gate.open()
    return gate


def after(*holds: Hold) -> Gate:
    gate = opened()
    for hold in holds:
        gate.apply_hold(hold, trusted=True)
    return gate


def shuts(gate: Gate) -> str:
    """Who may not act: of account a, account b, and the service for no account."""
    subjects = {"a": "a", "b": "b", "-": None}
    return "".join(name for name, account in subjects.items() if gate.shut_for(account) is not None)


@pytest.mark.parametrize(
    ("hold", "shut"),
    [
        (held("global"), "ab-"),
        (held(OWN), "ab-"),
        (held("service:other"), ""),
        (held("account:a"), "a"),
        (held("account:a", services=(SERVICE,)), "a"),
        (held("account:a", services=("other", SERVICE)), "a"),
        (held("account:a", services=("other",)), ""),
        (held("account:a", services=()), "a"),
        (held("global", services=("other",)), ""),
        (held(OWN, services=("other",)), "ab-"),
        (running("global"), ""),
    ],
    ids=lambda case: (
        f"{case.scope}/{','.join(c for cause in case.causes for c in cause.services)}"
        if isinstance(case, Hold)
        else case or "none"
    ),
)
def test_a_hold_shuts_what_its_scope_and_services_cover(hold: Hold, shut: str) -> None:
    """A list of services that is empty means all, and a hold of the service itself needs no list."""
    assert shuts(after(hold)) == shut


def test_before_it_is_opened_a_gate_lets_nothing_pass() -> None:
    gate = Gate(SERVICE)
    assert shuts(gate) == "ab-"
    with pytest.raises(Stopped, match="not started"):
        gate.check("a")


@pytest.mark.parametrize(
    ("wide", "narrow", "effective"),
    [
        (IMMEDIATE, GRACEFUL, IMMEDIATE),
        (GRACEFUL, IMMEDIATE, IMMEDIATE),
        (MAINTENANCE, GRACEFUL, GRACEFUL),
        (GRACEFUL, GRACEFUL, GRACEFUL),
    ],
)
def test_the_most_severe_level_over_all_scopes_is_effective(
    wide: StopLevel, narrow: StopLevel, effective: StopLevel
) -> None:
    shut = after(held("global", level=wide), held("account:a", level=narrow)).shut_for("a")
    assert shut is not None
    assert shut.level is effective


def test_lifting_a_narrow_hold_leaves_the_broad_one_in_force() -> None:
    gate = after(held("global"), held("account:a"), running("account:a"))
    assert shuts(gate) == "ab-"
    gate.apply_hold(running("global"), trusted=True)
    assert shuts(gate) == ""


def test_only_causes_that_cover_the_service_count_for_its_level() -> None:
    causes = (HoldCause("e1", IMMEDIATE, ("other",), "not ours", 1), HoldCause("e2", GRACEFUL, (SERVICE,), "ours", 2))
    shut = after(Hold("account:a", 2, HoldState.HELD, IMMEDIATE, causes, "", 0)).shut_for("a")
    assert shut is not None
    assert (shut.level, shut.emergency_id, shut.reason) == (GRACEFUL, "e2", "ours")


def test_a_refusal_carries_reason_level_epoch_and_scope() -> None:
    with pytest.raises(Stopped) as refused:
        after(held("account:a", epoch=7)).check("a")
    stop = refused.value
    assert (stop.scope, stop.epoch, stop.level, stop.reason) == ("account:a", 7, GRACEFUL, "held at 7")
    assert (stop.emergency_id, stop.account_id) == ("e1", "a")


@pytest.mark.parametrize(
    ("records", "shut"),
    [
        # what came, in the order of the log                       whether it is shut in the end
        ([held(epoch=1), running(epoch=2)], False),
        ([held(epoch=3), running(epoch=2)], True),  # a stale resume loosens nothing
        ([held(epoch=3), held(epoch=2, services=("other",))], True),  # nor does a stale, narrower stop
        ([held(epoch=3), held(epoch=4, services=("other",))], False),
        ([running(epoch=4), held(epoch=3)], True),  # a stale stop is obeyed as a new one
        ([held(epoch=7), held(epoch=5), running(epoch=6)], True),  # and lowers the bar for no resume
        ([held(epoch=7), held(epoch=5), running(epoch=8)], False),
        ([held(epoch=3), running(epoch=3)], True),  # of two holds of one epoch the stricter counts,
        ([running(epoch=3), held(epoch=3)], True),  # whichever comes first,
        ([running(epoch=3), held(epoch=3), running(epoch=3)], True),  # and however often
        ([running(epoch=3), held(epoch=3), running(epoch=4)], False),
        ([held(epoch=1), running(epoch=2)] * 2, False),  # a log that is read once more
    ],
)
def test_what_tightens_is_always_taken_and_what_loosens_must_not_be_stale(records: list[Hold], shut: bool) -> None:
    assert (after(*records).shut_of(ACCOUNT) is not None) is shut


def test_a_share_is_not_widened_by_a_hold_of_the_same_epoch() -> None:
    """A coordinator that was cut off eased the hold under the epoch under which its successor rolled it back."""
    for records in (half_open(50, epoch=3), held(epoch=3)), (held(epoch=3), half_open(50, epoch=3)):
        gate = after(*records, half_open(50, epoch=3))
        assert gate.percent_of(ACCOUNT) == 0
        assert gate.apply_hold(half_open(50, epoch=4), trusted=True) is Verdict.APPLIED
        assert gate.percent_of(ACCOUNT) == 50


def test_a_hold_that_comes_again_changes_nothing() -> None:
    for hold in (held(epoch=3), half_open(50, epoch=3), running(epoch=3)):
        assert after(hold).apply_hold(hold, trusted=True) is Verdict.UNCHANGED


def test_an_unsigned_lifting_is_refused_and_an_unsigned_stop_obeyed_until_a_signed_record_comes() -> None:
    gate = after(held(epoch=1))
    assert gate.apply_hold(running(epoch=2), trusted=False) is Verdict.REFUSED_UNTRUSTED
    assert shuts(gate) == "a"
    gate.apply_hold(running(epoch=2), trusted=True)
    assert gate.apply_hold(held(epoch=10**15), trusted=False) is Verdict.ALARM
    assert shuts(gate) == "a"
    gate.apply_hold(running(epoch=3), trusted=True)
    assert shuts(gate) == "", "a forged epoch must not keep a good resume out"


@pytest.mark.parametrize(
    ("then", "shut"),
    [
        ([], "a"),
        ([held(epoch=1)], "a"),
        ([running(epoch=1)], "a"),  # not newer than the order
        ([held(epoch=1), running(epoch=2)], ""),
        ([running(epoch=2)], ""),
    ],
)
def test_a_stop_command_shuts_by_itself_until_a_newer_hold_is_known(then: list[Hold], shut: str) -> None:
    gate = opened()
    gate.apply_stop(command(epoch=1), trusted=True)
    for hold in then:
        gate.apply_hold(hold, trusted=True)
    assert shuts(gate) == shut


RESUME = Action.RESUME


@pytest.mark.parametrize(
    ("holds", "epoch", "trusted", "verdict"),
    [
        ([held(epoch=1), running(epoch=2)], 2, True, Verdict.APPLIED),
        ([held(epoch=1)], 2, True, Verdict.AWAITS_HOLD),
        ([held(epoch=3)], 2, True, Verdict.REFUSED_STALE),
        ([held(epoch=2)], 2, True, Verdict.REFUSED_STALE),
        ([held(epoch=1), running(epoch=2)], 2, False, Verdict.REFUSED_UNTRUSTED),
        ([], 1, True, Verdict.APPLIED),
    ],
)
def test_a_resume_is_confirmed_only_when_nothing_newer_stops_the_scope(
    holds: list[Hold], epoch: int, trusted: bool, verdict: Verdict
) -> None:
    assert after(*holds).apply_resume(command(RESUME, epoch=epoch), trusted=trusted) is verdict


def test_a_resume_ends_no_order_of_its_own_epoch() -> None:
    """One of a coordinator that was cut off does not end the stop that its successor gave the same epoch."""
    gate = opened()
    gate.apply_stop(command(epoch=2), trusted=True)
    assert gate.apply_resume(command(RESUME, epoch=2), trusted=True) is Verdict.REFUSED_STALE
    assert shuts(gate) == "a"


def test_a_resume_is_not_confirmed_while_an_unproven_stop_shuts_the_scope_again() -> None:
    gate = after(running(epoch=3))
    gate.apply_hold(held(epoch=4), trusted=False)
    assert gate.resume_verdict(command(RESUME, epoch=3)) is Verdict.STILL_HELD


def test_a_resume_ends_an_order_of_which_no_hold_is_known() -> None:
    gate = opened()
    gate.apply_stop(command(epoch=1), trusted=True)
    assert gate.apply_resume(command(RESUME, epoch=2), trusted=True) is Verdict.APPLIED
    assert shuts(gate) == ""
    gate.apply_stop(command(epoch=4), trusted=True)
    assert gate.apply_resume(command(RESUME, epoch=3), trusted=True) is Verdict.REFUSED_STALE
    assert shuts(gate) == "a"


@pytest.mark.parametrize("hold", [half_open(10, "global"), half_open(10, OWN, level=IMMEDIATE), held(ACCOUNT)])
def test_a_lost_lease_shuts_everything_whatever_holds_admit_and_gives_back_what_they_say(hold: Hold) -> None:
    gate = after(hold)
    before = shuts(gate)
    gate.take_lease_away(IMMEDIATE, "lost")
    assert shuts(gate) == "ab-"
    work = [Work(f"acc-{number}") for number in range(20)]
    gate.in_flight_actions.update(work)
    assert gate.revoke(OWN) == len(work)
    gate.give_lease_back()
    assert shuts(gate) == before


def test_held_scopes_counts_each_scope_once() -> None:
    gate = after(held("global"), held(OWN), held("account:a"), held("account:b"), held("service:other"))
    gate.apply_stop(command(scope="account:a"), trusted=True)
    assert gate.held_scopes == 4


@pytest.mark.parametrize("scope", ["", "world", "account:", "service: x"])
def test_a_scope_that_is_none_is_named_in_the_error(scope: str) -> None:
    with pytest.raises(ValueError, match="is not one of: global"):
        opened().apply_stop(command(scope=scope), trusted=True)


def test_a_refusal_says_the_same_in_another_process() -> None:
    gate = after(half_open(10, "account:a", epoch=3))
    with pytest.raises(Stopped, match="account:a is half open, 10 % of its work admitted") as refused:
        gate.check("a")
    again = pickle.loads(pickle.dumps(refused.value))  # noqa: S301  # our own bytes
    assert str(again) == str(refused.value)
    assert (again.scope, again.epoch, again.account_id) == ("account:a", 3, "a")
