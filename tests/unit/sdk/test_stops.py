"""How an instance answers commands: timelines of work, stops and deadlines.

In the drawings time runs to the right, ``[===]`` is work in flight, ``x`` where it is asked to end.
"""

from __future__ import annotations

import pytest

from emergency_stop.domain.values import AckState, Action
from tests.unit.sdk.scenario import (
    GRACEFUL,
    IMMEDIATE,
    SERVICE,
    Instance,
    Work,
    account_in_cohort_below,
    command,
    half_open,
    held,
    running,
)


def test_with_nothing_in_flight_the_handler_is_called_at_once_and_stopped_only_after_it() -> None:
    instance = Instance()
    assert instance.order(command()) == ["received", "stopping", "handler"]
    instance.now_ms = 5
    assert instance.handled() == ["stopped"]
    proof = instance.told[-1]
    assert (proof.in_flight, proof.last_side_effect_at, proof.acked_at, proof.epoch) == (0, None, 5, 1)


def test_a_graceful_stop_waits_for_work_in_flight() -> None:
    """As a timeline.

    work  [=========]
    stop      ^      ^ handler ^ STOPPED
    """
    instance = Instance()
    work = instance.begins()
    assert instance.order(command(level=GRACEFUL)) == ["received", "stopping"]
    assert instance.told[-1].in_flight == 1
    instance.now_ms = 900
    assert instance.ends(work) == ["handler"]
    assert work.asked == 0
    assert instance.handled() == ["stopped"]
    assert instance.told[-1].last_side_effect_at == 900


def test_what_a_graceful_stop_leaves_over_is_cancelled_before_the_deadline() -> None:
    """As a timeline.

    work  [==================x==]
    stop      ^              |   ^ handler, STOPPED in time
                             59,000 of 60,000 ms
    """
    instance = Instance()
    work = instance.begins()
    instance.order(command(level=GRACEFUL, deadline_at=60_000))
    assert instance.at(58_999) == []
    assert work.asked == 0
    assert instance.at(59_000) == []
    assert work.asked == 1
    assert instance.ends(work) == ["handler"]
    assert instance.handled() == ["stopped"]


def test_an_immediate_stop_asks_work_to_end_once_and_leaves_its_clean_up_in_peace() -> None:
    """The hold comes first, the command a moment later: the clean-up is not cancelled by the second."""
    instance = Instance()
    work = instance.begins()
    instance.hold(held(level=IMMEDIATE))
    instance.order(command(level=IMMEDIATE, deadline_at=5_000))
    instance.at(4_999)
    assert work.asked == 1
    assert instance.ends(work) == ["handler"]


def test_work_that_does_not_end_makes_the_stop_failed_at_the_deadline_and_stopped_when_it_does() -> None:
    """As a timeline.

    work  [==x==========x=======]
    stop     ^ deadline ^ FAILED ^ handler, STOPPED
    """
    instance = Instance()
    work = instance.begins()
    instance.order(command(level=IMMEDIATE, deadline_at=5_000))
    assert instance.at(5_000) == ["failed"]
    assert instance.told[-1].in_flight == 1
    assert "1 operations still in flight" in instance.told[-1].reason
    assert work.asked == 2
    instance.now_ms = 7_000
    assert instance.ends(work) == ["handler"]
    assert instance.handled() == ["stopped"]
    assert instance.told[-1].reason == "proven after the deadline"


@pytest.mark.parametrize("reason", ["the service's stop handler returned false", "it raised OSError: disk full"])
def test_a_handler_that_fails_makes_the_stop_failed_with_its_reason(reason: str) -> None:
    instance = Instance()
    instance.order(command())
    assert instance.handled(done=False, reason=reason) == ["failed"]
    assert instance.told[-1].reason == reason
    assert instance.order(command(attempt=2)) == ["received", "stopping", "handler"], "the next attempt tries again"


def test_a_handler_that_hangs_makes_the_stop_failed_at_the_deadline() -> None:
    instance = Instance()
    instance.order(command(deadline_at=5_000))
    assert instance.at(5_000) == ["failed"]
    assert "handler still runs" in instance.told[-1].reason
    assert instance.handled() == ["stopped"]


def test_a_duplicate_is_answered_with_the_same_words_and_does_nothing() -> None:
    instance = Instance()
    instance.order(command())
    instance.handled()
    said = instance.told[-1]
    instance.now_ms = 99
    assert instance.order(command()) == ["stopped"]
    assert instance.told[-1] == said
    assert instance.handlers == []


def test_an_escalation_cancels_what_the_graceful_stop_still_waits_for_and_both_are_proven() -> None:
    instance = Instance()
    work = instance.begins()
    instance.order(command(epoch=1, level=GRACEFUL))
    assert instance.order(command(epoch=2, level=IMMEDIATE, attempt=2)) == ["received", "stopping"]
    assert work.asked == 1
    assert instance.ends(work) == ["handler", "handler"]
    assert instance.handled() + instance.handled() == ["stopped", "stopped"]


@pytest.mark.parametrize(
    ("scope", "waits"), [("global", 2), (f"service:{SERVICE}", 2), ("account:a", 1), ("account:c", 0)]
)
def test_only_work_in_the_scope_counts(scope: str, waits: int) -> None:
    instance = Instance()
    instance.begins("a")
    instance.begins("b")
    instance.order(command(scope=scope))
    assert instance.told[0].in_flight == waits


def test_a_hold_without_a_command_gives_work_in_flight_the_time_of_a_graceful_stop() -> None:
    instance = Instance()
    work = instance.begins()
    instance.hold(held(level=GRACEFUL))
    instance.at(59_999)
    assert work.asked == 0
    instance.at(60_000)
    assert work.asked == 1


def test_a_stop_that_is_lifted_under_way_ends_without_a_verdict() -> None:
    instance = Instance()
    instance.hold(held(epoch=1))
    instance.order(command(epoch=1))
    instance.hold(running(epoch=2))
    assert instance.handled() == []
    assert instance.stops.active == 0


def test_a_resume_waits_for_its_hold_and_is_confirmed_when_the_gate_is_open() -> None:
    """As a timeline.

    command  stop 1 ──────── resume 2 ─ ─ ─ ─┐
    hold     held 1 ───────────────── running 2 ─► RESUMED
    """
    instance = Instance()
    instance.hold(held(epoch=1))
    instance.order(command(epoch=1))
    instance.handled()
    assert instance.order(command(Action.RESUME, epoch=2)) == []
    assert instance.gate.shut_for("a") is not None
    assert instance.hold(running(epoch=2)) == ["resumed"]
    assert instance.gate.shut_for("a") is None


def test_a_resume_whose_hold_is_never_lifted_is_refused_at_its_deadline() -> None:
    instance = Instance()
    instance.hold(held(epoch=1))
    instance.order(command(Action.RESUME, epoch=2, deadline_at=5_000))
    assert instance.at(5_000) == ["refused"]
    assert "still held: held at 1" in instance.told[-1].reason


def test_a_stale_resume_is_refused_and_the_stop_stands() -> None:
    instance = Instance()
    instance.hold(held(epoch=3))
    assert instance.order(command(Action.RESUME, epoch=2)) == ["refused"]
    assert "not beyond the stop of epoch 3" in instance.told[-1].reason
    assert instance.gate.shut_for("a") is not None


def test_a_resume_that_waits_is_refused_when_a_newer_stop_comes() -> None:
    instance = Instance()
    instance.hold(held(epoch=1))
    assert instance.order(command(Action.RESUME, epoch=2)) == []
    assert instance.hold(held(epoch=3)) == ["refused"]


def test_a_resume_says_what_still_stops_the_account() -> None:
    instance = Instance()
    instance.hold(held("global"))
    assert instance.order(command(Action.RESUME, epoch=2)) == ["resumed"]
    assert "global is still stopped" in instance.told[-1].reason


def test_a_badly_signed_stop_is_obeyed_and_flagged_and_a_badly_signed_resume_refused() -> None:
    instance = Instance()
    flagged = "signature invalid: a stop is obeyed all the same"
    assert instance.order(command(), trusted=False, note=flagged) == ["received", "stopping", "handler"]
    assert instance.handled() == ["stopped"]
    assert {ack.reason for ack in instance.told} == {flagged}
    assert instance.order(command(Action.RESUME, epoch=2), trusted=False, note="signature invalid") == ["refused"]
    assert instance.gate.shut_for("a") is not None


@pytest.mark.parametrize("action", [Action.RECOVER, Action.RESET])
def test_an_action_that_is_no_order_to_a_service_is_refused_not_ignored(action: Action) -> None:
    instance = Instance()
    assert instance.order(command(action)) == ["refused"]
    assert instance.gate.shut_for("a") is None


def test_a_command_for_a_scope_that_is_none_fails_with_the_reason() -> None:
    instance = Instance()
    assert instance.order(command(scope="accounts:a")) == ["failed"]
    assert "is not one of" in instance.told[-1].reason


def test_every_answer_names_command_instance_and_epoch() -> None:
    instance = Instance()
    instance.hold(held(epoch=4))
    instance.order(command(epoch=4))
    ack = instance.told[0]
    assert (ack.service, ack.instance_id, ack.epoch, ack.emergency_id, ack.correlation_id) == (
        SERVICE, "i1", 4, "e1", "corr",
    )  # fmt: skip
    assert ack.state is AckState.RECEIVED
    assert len({answer.ack_id for answer in instance.told}) == len(instance.told)


# ------------------------------------------------------------------------------------------- half-open holds


def test_a_share_that_grows_ends_no_work_and_a_new_stop_ends_all() -> None:
    """As a timeline; a rollback is a stop like any other.

    hold  held 1 ── 10 % 2 ── 50 % 3 ── held 4
    work              [=========|=========x
    """
    instance = Instance()
    instance.hold(held("global", 1, IMMEDIATE))
    instance.hold(half_open(10, "global", 2, IMMEDIATE))
    inside = instance.begins(account_in_cohort_below(10))
    instance.hold(half_open(50, "global", 3, IMMEDIATE))
    assert inside.asked == 0
    instance.hold(held("global", 4, IMMEDIATE))
    assert inside.asked == 1


def test_a_share_that_shrinks_ends_the_work_that_it_no_longer_covers() -> None:
    instance = Instance()
    inside, outside = instance.begins(account_in_cohort_below(10)), Work(account_in_cohort_below(100, above=50))
    instance.gate.in_flight_actions.add(outside)
    instance.hold(half_open(10, "global", 2, IMMEDIATE))
    assert (inside.asked, outside.asked) == (0, 1)


def test_what_a_graceful_share_leaves_out_has_the_time_of_a_graceful_stop() -> None:
    instance = Instance()
    inside, outside = instance.begins(account_in_cohort_below(10)), Work(account_in_cohort_below(100, above=50))
    instance.gate.in_flight_actions.add(outside)
    instance.hold(held("global", 1, GRACEFUL))
    instance.hold(half_open(10, "global", 2, GRACEFUL))
    instance.at(59_999)
    assert (inside.asked, outside.asked) == (0, 0)
    instance.at(60_000)
    assert (inside.asked, outside.asked) == (0, 1)


def test_work_that_a_budget_admitted_outlives_the_time_of_the_stop_before_it() -> None:
    instance = Instance()
    old = instance.begins()
    instance.hold(held(epoch=1))
    instance.ends(old)
    instance.hold(half_open(50, epoch=2))
    admitted = Work("a")
    instance.gate.in_flight_actions.add(admitted)
    instance.at(120_000)
    assert admitted.asked == 0


def test_an_instance_that_leaves_ends_what_a_share_admits_as_well() -> None:
    instance = Instance()
    instance.hold(half_open(50, f"service:{SERVICE}"))
    work = instance.begins(account_in_cohort_below(50))
    instance.gate.close("the service is shutting down")
    assert instance.gate.revoke(instance.gate.own_scope) == 1
    assert work.asked == 1


def test_a_lost_lease_ends_what_a_share_admits_as_well_however_severe_the_hold() -> None:
    instance = Instance()
    instance.hold(half_open(50, f"service:{SERVICE}", level=IMMEDIATE))
    work = instance.begins(account_in_cohort_below(50))
    instance.gate.take_lease_away(GRACEFUL, "its lease has run out")
    assert instance.gate.revoke(instance.gate.own_scope) == 1
    assert work.asked == 1


def test_a_stop_under_way_ends_without_a_verdict_when_its_scope_is_half_opened() -> None:
    """STOPPED says that the gate was shut all along; a share admits work."""
    instance = Instance()
    instance.hold(held(epoch=1))
    instance.order(command(epoch=1))
    instance.hold(half_open(10, epoch=2))
    assert instance.handled() == []
    assert instance.stops.active == 0
    assert instance.order(command(epoch=3)) == ["received", "stopping", "handler"]
    assert instance.handled() == ["stopped"]


def test_a_resume_waits_for_running_even_where_all_is_admitted() -> None:
    instance = Instance()
    instance.hold(half_open(100, epoch=2))
    assert instance.order(command(Action.RESUME, epoch=3)) == []
    assert instance.hold(running(epoch=3)) == ["resumed"]


def test_a_resume_that_waits_does_not_end_a_stop_that_comes_after_it() -> None:
    """As a timeline; found by random lives. Stale stops are accepted as new.

    hold     50 % 4                   running 1: stale ── running 5 ─► RESUMED
    command         resume 5 ── stop 3
    """
    instance = Instance()
    instance.hold(half_open(50, epoch=4))
    assert instance.order(command(Action.RESUME, epoch=5)) == []
    instance.order(command(epoch=3))
    assert instance.hold(running(epoch=1)) == []
    assert instance.gate.percent_of("account:a") == 0
    assert instance.hold(running(epoch=5)) == ["resumed"]
    assert instance.gate.percent_of("account:a") == 100


def test_a_resume_that_ends_an_order_over_a_half_open_hold_ends_the_proof_as_well() -> None:
    """As a timeline; found by random lives.

    hold     50 % 2
    command         stop 3 ── resume 4 ─ ─ ─ (its hold has not come)
    handler             [==============] no STOPPED: half of the work is admitted again
    """
    instance = Instance()
    instance.hold(half_open(50, epoch=2))
    assert instance.order(command(epoch=3)) == ["received", "stopping", "handler"]
    assert instance.order(command(Action.RESUME, epoch=4)) == []
    assert instance.gate.percent_of("account:a") == 50
    assert instance.handled() == []
    assert instance.stops.active == 0
