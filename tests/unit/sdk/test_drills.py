"""How an instance answers a drill: the whole way of a stop, and nothing is stopped."""

from __future__ import annotations

from functools import partial

from emergency_stop.domain.values import AckState, Action
from tests.unit.sdk.scenario import IMMEDIATE, Instance, command

drill = partial(command, Action.DRILL, level=IMMEDIATE, deadline_at=5_000)


def test_a_drill_is_answered_like_a_stop_and_stops_nothing() -> None:
    instance = Instance()
    work = instance.begins()
    assert instance.order(drill()) == ["received", "stopping", "handler"]
    assert instance.gate.shut_for("a") is None
    assert instance.handled() == ["stopped"]
    assert instance.gate.shut_for("a") is None
    assert work.asked == 0
    assert {ack.reason for ack in instance.told} == {"a drill", "a drill: the way is proven, and nothing was stopped"}
    assert instance.told[-1].in_flight == 1, "the evidence tells the truth: work goes on"


def test_a_drill_that_nobody_signed_proves_nothing() -> None:
    instance = Instance()
    assert instance.order(drill(), trusted=False, note="signature invalid") == ["failed"]
    assert "proves something only if it is signed by a known key; signature invalid" in instance.told[-1].reason


def test_a_service_that_fails_its_drill_says_why() -> None:
    instance = Instance()
    instance.order(drill())
    assert instance.handled(done=False, reason="the service's drill handler returned false") == ["failed"]
    assert instance.told[-1].reason == "a drill: the service's drill handler returned false"


def test_a_drill_without_an_outcome_by_its_deadline_has_failed_for_good() -> None:
    instance = Instance()
    instance.order(drill())
    assert instance.at(5_000) == ["failed"]
    assert instance.handled() == []
    assert instance.order(drill()) == ["failed"], "a repetition gets the same answer"


def test_a_good_outcome_at_the_deadline_is_too_late() -> None:
    instance = Instance()
    instance.order(drill())
    instance.now_ms = 5_000
    assert instance.handled() == ["failed"]
    assert instance.at(6_000) == []


def test_drills_are_counted_apart_from_stops() -> None:
    instance = Instance()
    instance.order(drill())
    instance.handled()
    instance.order(drill())
    instance.order(command())
    assert instance.stops.counts[Action.DRILL, AckState.STOPPED] == 1, "a repetition is not counted"
    assert instance.stops.counts[Action.STOP, AckState.STOPPED] == 0
    assert instance.stops.active == 1


def test_a_drill_beside_a_real_stop_leaves_it_in_force() -> None:
    instance = Instance()
    instance.order(command(epoch=3))
    instance.order(drill(epoch=3))
    assert instance.handled() == ["stopped"]
    assert instance.gate.shut_for("a") is not None
