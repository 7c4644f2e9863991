"""Emergencies as a program sees them: the newest account stands, and the sums are those of all of them."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from emergency_stop.coordinate.state import ScopeState
from emergency_stop.coordinate.step import step
from emergency_stop.domain.messages import Emergency, InstanceStop, Recovery
from emergency_stop.domain.values import AckState, EmergencyState, RecoveryOutcome, RecoveryPhase
from emergency_stop.sdk import emergency_book
from emergency_stop.sdk.emergency_book import EmergencyBook, SystemMetrics
from tests.unit.coordinate.scenario import emergencies, hit, world

STATE = EmergencyState


def opened(number: int = 1) -> Emergency:
    _, effects = step(ScopeState("account:a"), hit(f"h{number}"), 1_000 + number, world())
    return emergencies(effects)[0]


def ended(emergency: Emergency, state: EmergencyState = STATE.STOPPED, took_ms: int = 400) -> Emergency:
    at, success = emergency.started_at + took_ms, state is STATE.STOPPED
    return replace(emergency, state=state, completed_at=at, success=success, time_to_stop_ms=took_ms)


def recovery(known_as: str, outcome: RecoveryOutcome, emergency_id: str = "e1") -> Recovery:
    return Recovery(
        known_as, emergency_id, "account:a", "corr", 1, "standard_recovery", (), RecoveryPhase.MONITORING, outcome,
        "ann", 0, 0, 0, (), "",
    )  # fmt: skip


def test_an_emergency_is_shown_as_the_guide_shows_it() -> None:
    book, one = EmergencyBook(), opened()
    assert book.event(one.emergency_id) is None
    book.take(one)
    event = book.event(one.emergency_id)
    assert event is not None
    assert (event.success, event.execution_duration, event.account_id) == (None, None, "a")
    instances = tuple(
        InstanceStop(service, name, state, "", 0, 0)
        for service, name, state in (
            ("x", "1", AckState.STOPPED),
            ("x", "2", AckState.STOPPED),
            ("y", "1", AckState.STOPPED),
            ("y", "2", AckState.UNKNOWN),
            ("z", "1", AckState.FAILED),
            ("z", "2", AckState.STOPPING),
        )
    )
    book.take(replace(ended(one, STATE.PARTIAL), instances=instances))
    event = book.event(one.emergency_id)
    assert event is not None
    assert (event.success, event.execution_duration) == (False, 400)
    assert event.services == {"x": AckState.STOPPED, "y": AckState.UNKNOWN, "z": AckState.FAILED}


def test_active_are_those_that_hold_something_from_oldest_to_newest() -> None:
    book, ones = EmergencyBook(), [opened(number) for number in range(4)]
    for one in reversed(ones):
        book.take(one)
    book.take(replace(ones[1], state=STATE.RESOLVED))
    book.take(replace(opened(5), drill=True))
    book.take(replace(opened(6), state=STATE.SCHEDULED))
    assert [event.emergency_id for event in book.active()] == [ones[n].emergency_id for n in (0, 2, 3)]


def test_the_sums_before_anything_happened() -> None:
    assert EmergencyBook().metrics() == SystemMetrics(0, 0, None, 0, 0)


@pytest.mark.parametrize("seed", range(15))
def test_the_sums_are_those_of_the_newest_records_however_often_they_come(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The naive twin keeps everything; the book forgets what is over beyond its bound, and not its share."""
    monkeypatch.setattr(emergency_book, "OVER_MAX", 5)
    rng, book, newest = random.Random(seed), EmergencyBook(), dict[str, Emergency]()
    for number in range(60):
        one = opened(rng.randrange(20))
        if (before := newest.get(one.emergency_id)) and before.state is STATE.RESOLVED:
            continue  # nothing comes after that
        one = replace(one, trigger_id=rng.choice(("t", None)), drill=rng.random() < 0.2)
        if rng.random() < 0.6:
            one = ended(one, rng.choice((STATE.STOPPED, STATE.PARTIAL)), rng.randrange(900))
        if rng.random() < 0.3:
            one = replace(one, state=STATE.RESOLVED)
        newest[one.emergency_id] = one
        for _ in range(rng.choice((1, 1, 2)) if one.state is not STATE.RESOLVED else 1):
            book.take(one)
        real = [e for e in newest.values() if not e.drill]
        took = [e.time_to_stop_ms or 0 for e in real if e.success]
        found = book.metrics()
        assert found.total_triggers == sum(e.trigger_id is not None for e in real), f"seed {seed}, record {number}"
        assert found.successful_stops == len(took)
        assert found.average_stop_time == (pytest.approx(sum(took) / len(took)) if took else None)
    assert len(book._over) <= 5


def test_recoveries_count_once_by_how_they_ended() -> None:
    book, outcome = EmergencyBook(), RecoveryOutcome
    for one in (
        recovery("r1", outcome.UNDER_WAY),
        recovery("r1", outcome.ROLLED_BACK),
        recovery("r1", outcome.ROLLED_BACK),
        recovery("r2", outcome.COMPLETED),
        recovery("r3", outcome.ABANDONED),
        recovery("r4", outcome.COMPLETED, "e2"),
        recovery("r5", outcome.UNDER_WAY),
    ):
        book.take_recovery(one)
    found = book.metrics()
    assert (found.successful_recoveries, found.failed_recoveries) == (2, 1)
    assert [one.recovery_id for one in book.ended_recoveries("e1")] == ["r1", "r2", "r3"]
