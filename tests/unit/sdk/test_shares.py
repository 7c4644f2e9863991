"""Half-open holds: which work they admit, and that nothing but a trusted share ever lets work through."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from emergency_stop.domain.messages import Command, Hold, HoldCause, Share
from emergency_stop.domain.values import Action, HoldState, StopLevel
from emergency_stop.sdk.gate import Gate, Stopped, Verdict
from emergency_stop.sdk.shares import cohort_of
from tests.unit.sdk.naive_gate import NaiveGate
from tests.unit.sdk.scenario import ACCOUNT, GRACEFUL, IMMEDIATE, SERVICE, command, half_open, held, running

OWN = f"service:{SERVICE}"
ACCOUNTS = [f"acc-{number:06d}" for number in range(2_000)]


def after(*holds: Hold) -> Gate:
    gate = Gate(SERVICE)
    gate.open()
    for hold in holds:
        gate.apply_hold(hold, trusted=True)
    return gate


def admits(gate: Gate, account_id: str | None = "a") -> bool:
    """As ``Permit`` asks: the slow path is taken where something is shut."""
    if gate.wide is not None or account_id in gate.accounts:
        try:
            gate.check(account_id)
        except Stopped:
            return False
    return True


def admitted_of(gate: Gate, attempts: int) -> list[int]:
    """Which of so many attempts for account a were admitted, counted from 1."""
    return [number for number in range(1, attempts + 1) if admits(gate)]


# --------------------------------------------------------------------------------------------- wide scopes


@pytest.mark.parametrize("scope", ["global", OWN])
@pytest.mark.parametrize("percent", [0, 1, 10, 50, 99, 100])
def test_a_wide_share_admits_whole_accounts_the_same_ones_every_time(scope: str, percent: int) -> None:
    gate = after(half_open(percent, scope))
    admitted = [account for account in ACCOUNTS if admits(gate, account)]
    assert admitted == [account for account in ACCOUNTS if cohort_of(account) < percent]
    assert admitted == [account for account in ACCOUNTS if admits(gate, account)], "a second attempt fares alike"
    assert abs(len(admitted) / len(ACCOUNTS) - percent / 100) < 0.05
    assert admits(gate, None) is (percent == 100), "work for no account comes last"


def test_who_was_admitted_at_a_small_share_is_admitted_at_a_larger_one() -> None:
    by_share = [{a for a in ACCOUNTS if admits(after(half_open(percent, "global")), a)} for percent in (10, 50, 100)]
    assert by_share[0] < by_share[1] < by_share[2]


def test_a_cohort_is_the_same_in_every_process() -> None:
    """Python salts ``hash``; a cohort must not be."""
    code = "from emergency_stop.sdk.shares import cohort_of; print(cohort_of('acc-000001'), cohort_of('ä \\ud800'))"
    run = [sys.executable, "-c", code]
    told = {
        subprocess.run(run, env={"PYTHONHASHSEED": seed}, check=True, capture_output=True, text=True).stdout
        for seed in ("1", "2")
    }
    assert told == {f"{cohort_of('acc-000001')} {cohort_of('ä ' + chr(0xD800))}\n"}


# ------------------------------------------------------------------------------------------- one account


@pytest.mark.parametrize(
    ("percent", "admitted"),
    [
        # of twenty attempts
        (0, []),
        (4, []),
        (10, [10, 20]),
        (25, [4, 8, 12, 16, 20]),
        (30, [4, 7, 10, 14, 17, 20]),
        (50, [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]),
        (100, [*range(1, 21)]),
    ],
)
def test_an_accounts_share_is_a_budget_of_attempts_evenly_spread(percent: int, admitted: list[int]) -> None:
    assert admitted_of(after(half_open(percent)), 20) == admitted


def test_a_budget_is_the_accounts_own_and_goes_on_through_a_larger_share() -> None:
    gate = after(half_open(50, "account:a"), half_open(50, "account:b"))
    assert [admits(gate, "a"), admits(gate, "b"), admits(gate, "a"), admits(gate, "b")] == [False, False, True, True]
    assert not admits(gate)
    gate.apply_hold(half_open(75, epoch=3), trusted=True)
    assert admitted_of(gate, 4) == [1, 2, 4], "half an action was left over; from nothing it would be 2, 3, 4"


def test_asking_what_would_refuse_uses_up_nothing() -> None:
    gate = after(half_open(50))
    assert [gate.shut_for("a") is None for _ in range(3)] == [False, False, False]
    assert not admits(gate)
    assert [gate.shut_for("a") is None for _ in range(3)] == [True, True, True]
    assert admits(gate)


def test_what_a_wide_scope_refuses_does_not_use_up_the_accounts_budget() -> None:
    gate = after(half_open(50))
    assert not admits(gate)
    gate.apply_hold(held("global"), trusted=True)
    assert admitted_of(gate, 5) == []
    gate.apply_hold(running("global"), trusted=True)
    assert admits(gate), "the second attempt of those that reached it"


# ------------------------------------------------------------------------------- several causes and scopes


def _cause(emergency_id: str, *shares: Share, services: tuple[str, ...] = ("all",)) -> HoldCause:
    return HoldCause(emergency_id, GRACEFUL, services, emergency_id, 1, None, shares)


@pytest.mark.parametrize(
    ("causes", "percent"),
    [
        ([_cause("e1", Share(SERVICE, 50))], 50),
        ([_cause("e1", Share(SERVICE, 50)), _cause("e2", Share(SERVICE, 20))], 20),
        ([_cause("e1", Share(SERVICE, 50)), _cause("e2")], 0),
        ([_cause("e1", Share(SERVICE, 50)), _cause("e2", services=("other",))], 50),
        ([_cause("e1", Share("other", 50))], 0),
        ([_cause("e1", Share("all", 50))], 0),
        ([_cause("e1", Share(SERVICE, 50), Share(SERVICE, 10))], 10),
        ([_cause("e1", Share(SERVICE, 101))], 0),
        ([_cause("e1", Share(SERVICE, -1))], 0),
        ([], 0),
    ],
)
def test_every_cause_that_covers_the_service_must_admit(causes: list[HoldCause], percent: int) -> None:
    """A service that is not named admits nothing, and what is no share is none."""
    hold = Hold(ACCOUNT, 1, HoldState.HELD, GRACEFUL, tuple(causes), "", 0)
    assert after(hold).percent_of(ACCOUNT) == percent


def test_an_action_needs_the_leave_of_every_scope_and_is_told_which_refused() -> None:
    inside, outside = (next(a for a in ACCOUNTS if (cohort_of(a) < 50) is wanted) for wanted in (True, False))
    gate = after(half_open(50, "global", level=IMMEDIATE))
    gate.apply_hold(held(f"account:{inside}"), trusted=True)
    with pytest.raises(Stopped) as refused:
        gate.check(inside)
    assert refused.value.scope == f"account:{inside}", "the milder of the two, but the one that refuses"
    with pytest.raises(Stopped, match=r"global is half open, 50 % of its work admitted"):
        gate.check(outside)


# ------------------------------------------------------------------------------------ a stop always wins


@pytest.mark.parametrize("percent", [10, 100])
def test_only_a_trusted_hold_admits_anything(percent: int) -> None:
    gate = after(held())
    assert gate.apply_hold(half_open(percent), trusted=False) is Verdict.ALARM
    assert admitted_of(gate, 100) == []
    gate.apply_hold(half_open(percent), trusted=True)
    assert len(admitted_of(gate, 100)) == percent
    assert gate.apply_hold(half_open(100, epoch=9), trusted=False) is Verdict.ALARM
    assert admitted_of(gate, 100) == [], "a forged share shuts even what was open"


@pytest.mark.parametrize("trusted", [True, False])
def test_a_stop_command_wins_over_a_share_and_a_newer_running_opens_all(trusted: bool) -> None:
    gate = after(half_open(50, epoch=2))
    gate.apply_stop(command(epoch=3), trusted=trusted)
    assert admitted_of(gate, 100) == []
    gate.apply_hold(held(epoch=3), trusted=True)
    assert admitted_of(gate, 100) == []
    gate.apply_hold(running(epoch=4), trusted=True)
    assert admitted_of(gate, 5) == [1, 2, 3, 4, 5]
    assert not gate.accounts


@pytest.mark.parametrize(
    ("records", "percent"),
    [
        ([half_open(50, epoch=3), half_open(90, epoch=2)], 50),
        ([half_open(50, epoch=3), half_open(10, epoch=2)], 10),
        ([held(epoch=3), half_open(90, epoch=2)], 0),
        ([half_open(50, epoch=3), half_open(90, epoch=2, level=IMMEDIATE)], 50),
        ([half_open(50, epoch=3), held(epoch=2)], 0),
        ([half_open(50, epoch=3), running(epoch=2)], 50),
        ([running(epoch=3), half_open(10, epoch=2)], 10),
        ([half_open(50, epoch=3), half_open(10, epoch=4)], 10),
    ],
)
def test_a_stale_record_may_admit_less_and_never_more(records: list[Hold], percent: int) -> None:
    assert after(*records).percent_of(ACCOUNT) == percent


def test_a_half_open_hold_is_no_proof_that_everything_stands_still() -> None:
    gate = after(half_open(10, epoch=5))
    assert not gate.holds(ACCOUNT, 5, GRACEFUL)
    gate.apply_hold(held(epoch=6), trusted=True)
    assert gate.holds(ACCOUNT, 6, GRACEFUL)


# --------------------------------------------------------------------------------- against the naive twin


def test_admission_is_the_naive_twins_on_random_holds_commands_and_work() -> None:
    """Three hundred random lives of a gate, each message and each attempt compared; a failure prints its seed."""
    seen: Counter[bool] = Counter()
    for seed in range(300):
        random, gate, twin = Random(seed), after(), NaiveGate(SERVICE)
        for _ in range(60):
            if random.random() < 0.3:
                _disturb(random, gate, twin)
            subject = random.choice(("a", "b", "acc-7", None))
            told, wanted = admits(gate, subject), twin.attempt(subject)
            assert told is wanted, f"seed {seed}: {subject} after {[str(entry) for entry in twin.log]}"
            seen[told] += 1
    assert min(seen.values()) > 3_000, seen


def _disturb(random: Random, gate: Gate, twin: NaiveGate) -> None:
    message, trusted = _message(random), random.random() < 0.9
    twin.take(message, trusted=trusted)
    if isinstance(message, Hold):
        gate.apply_hold(message, trusted=trusted)
    elif message.action is Action.STOP:
        gate.apply_stop(message, trusted=trusted)
    else:
        gate.apply_resume(message, trusted=trusted)
    for account in ("a", "b", "acc-7"):
        twin.settle(account)


def _message(random: Random) -> Hold | Command:
    scope = random.choice(("global", OWN, "service:other", "account:a", "account:a", "account:b", "account:acc-7"))
    epoch, level = random.randrange(1, 8), random.choice([*StopLevel])
    chance = random.random()
    if chance < 0.15:
        return command(random.choice((Action.STOP, Action.RESUME)), scope, epoch, level)
    if chance < 0.45:
        return running(scope, epoch)
    causes = tuple(_random_cause(random, number) for number in range(random.choice((0, 1, 1, 1, 2))))
    return replace(held(scope, epoch, level), causes=causes)


def _random_cause(random: Random, number: int) -> HoldCause:
    services = random.choice(((), ("all",), (SERVICE,), ("other",), ("other", SERVICE)))
    percents = random.choices((0, 1, 10, 33, 50, 99, 100, 101), k=random.choice((0, 1, 1, 2)))
    shares = tuple(Share(random.choice((SERVICE, SERVICE, "other")), percent) for percent in percents)
    return HoldCause(f"e{number}", random.choice([*StopLevel]), services, "random", 1, None, shares)
