"""What people are told follows from what a coordinator publishes: once per decision, and always under the same id."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from emergency_stop.apps.notifier.last_resort import Standing
from emergency_stop.coordinate.audit import decision
from emergency_stop.coordinate.blast import RAISED
from emergency_stop.coordinate.blindness import PartitionSight, Sight, Watchers
from emergency_stop.coordinate.blindness import step as step_sight
from emergency_stop.coordinate.lifecycle import Tick
from emergency_stop.coordinate.notices import _DECISIONS, SUBJECT_LENGTH_MAX, TEXT_LENGTH_MAX, notices_of
from emergency_stop.coordinate.publication import publishable
from emergency_stop.coordinate.state import ScopeState
from emergency_stop.coordinate.step import step
from emergency_stop.coordinate.tables import Stage
from emergency_stop.domain.messages import Emergency, Notice, Recovery
from emergency_stop.domain.values import (
    AckState,
    Action,
    EmergencyState,
    Mode,
    NoticeKind,
    RecoveryOutcome,
    RecoveryPhase,
    StopLevel,
)
from tests.unit.coordinate.scenario import (
    SCOPE,
    ack,
    command_to,
    emergencies,
    hit,
    instance,
    opened,
    request,
    resume,
    world,
)
from tests.unit.coordinate.test_blindness import trigger

PAGE, WARNING, INFO = NoticeKind.PAGE, NoticeKind.WARNING, NoticeKind.INFO
#: When both deadlines of an immediate stop that nobody proves are over.
ESCALATED_AT, GIVEN_UP_AT = 5_000, 10_000


def the(notices: list[Notice]) -> Notice:
    (only,) = notices
    return only


def partial() -> tuple[ScopeState, Emergency, Notice]:
    """A stop that service y never proves: its state, its last record, and what was told of that."""
    state = opened(hit(level=StopLevel.IMMEDIATE))
    state, _ = step(state, ack(command_to(state.cases[0], "x"), AckState.STOPPED), 1, world())
    state, _ = step(state, Tick(SCOPE), ESCALATED_AT, world())
    state, effects = step(state, Tick(SCOPE), GIVEN_UP_AT, world())
    return state, emergencies(effects)[-1], the(notices_of(publishable(effects)))


@pytest.mark.parametrize(("priority", "kind"), [(1, INFO), (2, WARNING), (4, WARNING)])
def test_an_emergency_that_opens_is_told_with_its_trigger(priority: int, kind: NoticeKind) -> None:
    _, effects = step(ScopeState(SCOPE), hit(priority=priority), 5, world())
    told = the(notices_of(effects))
    (emergency,) = emergencies(effects)
    assert (told.kind, told.scope, told.at, told.trigger_id) == (kind, SCOPE, 5, "t1")
    assert (told.emergency_id, told.correlation_id) == (emergency.emergency_id, "corr-h1")
    assert told.subject == "graceful stop of account:a begins"
    assert "12 < 30" in told.text


def test_a_person_who_stops_is_told_of_too() -> None:
    _, effects = step(ScopeState(SCOPE), request(), 5, world())
    assert (the(notices_of(effects)).kind, the(notices_of(effects)).trigger_id) == (WARNING, None)


def test_an_escalation_is_a_warning_that_names_who_owes_the_proof() -> None:
    state = opened(hit(level=StopLevel.IMMEDIATE))
    _, effects = step(state, Tick(SCOPE), ESCALATED_AT, world())
    told = the(notices_of(publishable(effects)))
    assert told.kind is WARNING
    assert "x/1, y/1" in told.text


def test_a_stop_without_proof_is_a_page_that_names_what_is_missing() -> None:
    _, emergency, told = partial()
    assert emergency.state is EmergencyState.PARTIAL
    assert (told.kind, told.emergency_id, told.trigger_id) == (PAGE, emergency.emergency_id, "t1")
    assert "NOT PROVEN" in told.subject
    assert "Without proof: y/1" in told.text
    assert "x/1" not in told.text


def test_a_proven_stop_and_a_resume_are_for_information() -> None:
    state = opened(hit())
    state, _ = step(state, ack(command_to(state.cases[0], "x"), AckState.STOPPED), 1, world())
    state, effects = step(state, ack(command_to(state.cases[0], "y"), AckState.STOPPED, at=7), 8, world())
    proven = the(notices_of(publishable(effects)))
    assert (proven.kind, proven.subject) == (INFO, "graceful stop of account:a is proven after 7 ms")
    _, effects = step(state, resume("r1", state.epoch), 9, world())
    resumed = the(notices_of(publishable(effects)))
    assert (resumed.kind, resumed.scope, resumed.emergency_id) == (INFO, SCOPE, None)
    assert resumed.subject == "account:a was resumed by ann"


def test_a_planned_stop_is_told_ahead_with_its_time_and_so_is_that_it_was_called_off() -> None:
    plan = request(level=StopLevel.MAINTENANCE, starts_at=86_400_000)
    state, effects = step(ScopeState(SCOPE), plan, 5, world())
    (emergency,) = emergencies(effects)
    told = the(notices_of(publishable(effects)))
    assert (told.kind, told.scope, told.at, told.emergency_id) == (INFO, SCOPE, 5, emergency.emergency_id)
    assert told.subject == "maintenance stop of account:a is planned for 1970-01-02T00:00:00Z"
    assert f"--emergency {emergency.emergency_id}" in told.text
    assert the(notices_of(publishable(effects))).notice_id == told.notice_id
    _, effects = step(state, resume("r9", 0, emergency_id=emergency.emergency_id), 9, world())
    off = the(notices_of(publishable(effects)))
    assert (off.kind, off.scope, off.at, off.emergency_id) == (INFO, SCOPE, 9, emergency.emergency_id)
    assert off.subject == "the planned maintenance stop of account:a was called off by ann"


@pytest.mark.parametrize("starts_at", [253_402_300_799_999, 1 << 62])
def test_a_plan_for_a_time_that_no_calendar_has_is_told_all_the_same(starts_at: int) -> None:
    _, effects = step(ScopeState(SCOPE), request(level=StopLevel.MAINTENANCE, starts_at=starts_at), 5, world())
    assert the(notices_of(effects)).subject.endswith("is planned for 9999-12-31T23:59:59Z")


def test_a_plan_that_begins_is_told_as_any_stop() -> None:
    state, _ = step(ScopeState(SCOPE), request(level=StopLevel.MAINTENANCE, starts_at=500), 5, world())
    _, effects = step(state, Tick(SCOPE), 500, world())
    told = the(notices_of(publishable(effects)))
    assert (told.kind, told.subject) == (WARNING, "maintenance stop of account:a begins")


def test_a_trigger_that_only_warns_does() -> None:
    _, effects = step(ScopeState(SCOPE), hit(mode=Mode.WARN), 5, world())
    told = the(notices_of(effects))
    assert (told.kind, told.scope, told.trigger_id, told.emergency_id) == (WARNING, SCOPE, "t1", None)
    _, effects = step(ScopeState(SCOPE), hit(mode=Mode.SHADOW), 5, world())
    assert notices_of(effects) == []


def test_a_drill_never_pages() -> None:
    asked = request(action=Action.DRILL)
    state, effects = step(ScopeState(SCOPE), asked, 0, world())
    assert the(notices_of(publishable(effects))).kind is INFO
    state, _ = step(state, Tick(SCOPE), ESCALATED_AT, world())
    _, effects = step(state, Tick(SCOPE), GIVEN_UP_AT, world())
    told = the(notices_of(publishable(effects)))
    assert (told.kind, told.subject) == (WARNING, "immediate drill of account:a is NOT PROVEN: PARTIAL")


def test_a_blind_partition_is_a_page_and_its_end_is_told() -> None:
    watchers = Watchers((trigger("h"),), 3)
    state, effects = step_sight(PartitionSight(2), Sight(1, 1), watchers, now_ms=40_000, after_ms=30_000)
    blind = the(notices_of(effects))
    assert (blind.kind, blind.scope, blind.emergency_id) == (PAGE, "global", None)
    assert "telemetry-partition:2" in blind.subject
    _, effects = step_sight(state, Sight(39_000, 41_000), watchers, now_ms=41_000, after_ms=30_000)
    assert the(notices_of(effects)).kind is INFO


def recovery(outcome: RecoveryOutcome) -> Recovery:
    return Recovery(
        "rec-1", "e1", SCOPE, "corr", 3, "standard_recovery", (), RecoveryPhase.MONITORING, outcome, "system", 5,
        deadline_at=9, checks_passed=0, shares=(), detail="the same cause came back", ended_at=8,
    )  # fmt: skip


def test_a_recovery_that_fails_warns_and_one_that_latches_pages() -> None:
    _, before, _ = partial()
    latched = dataclasses.replace(before, emergency_id="e1", latched=True, failed_recoveries=3)
    failed, page = notices_of([recovery(RecoveryOutcome.ROLLED_BACK), latched])
    assert (failed.kind, failed.emergency_id, failed.trigger_id, failed.at) == (WARNING, "e1", "t1", 8)
    assert "the same cause came back" in failed.text
    assert (page.kind, page.subject) == (PAGE, "account:a is latched after 3 failed recoveries")
    assert the(notices_of([recovery(RecoveryOutcome.COMPLETED)])).kind is INFO
    assert notices_of([recovery(RecoveryOutcome.UNDER_WAY), dataclasses.replace(latched, failed_recoveries=0)]) == []


def test_what_is_published_again_is_told_under_the_same_id() -> None:
    """A later look at the same emergency, an answer too late for it, is no new page."""
    state, emergency, told = partial()
    _, again, same = partial()
    assert (again, same) == (emergency, told)
    _, effects = step(state, ack(command_to(state.cases[0], "y"), AckState.FAILED), 12_000, world())
    assert [one.state for one in emergencies(effects)] == [EmergencyState.PARTIAL]
    assert notices_of(publishable(effects)) == []


def test_the_second_time_that_it_is_in_doubt_is_a_second_page() -> None:
    """Proven after all, and then an instance that nobody had asked shows up working."""
    state, _, first = partial()
    state, effects = step(state, ack(command_to(state.cases[0], "y"), AckState.STOPPED), 11_000, world())
    assert the(notices_of(publishable(effects))).kind is INFO
    state, effects = step(state, ack(command_to(state.cases[0], "y"), AckState.FAILED, "2"), 12_000, world())
    second = the(notices_of(publishable(effects)))
    assert second.kind is PAGE
    assert second.notice_id != first.notice_id
    assert second.emergency_id == first.emergency_id


def test_a_text_without_end_has_one() -> None:
    _, effects = step(ScopeState(SCOPE), hit(reason="x" * 100_000), 5, world(instance("x")))
    told = the(notices_of(effects))
    assert len(told.text) <= TEXT_LENGTH_MAX
    assert len(told.subject) <= SUBJECT_LENGTH_MAX


def test_the_page_has_all_that_people_are_told_of_with_its_kind() -> None:
    """docs/notifications.md names the audit's action of every decision that makes a notice."""
    page = (Path(__file__).parents[3] / "docs/notifications.md").read_text()
    rows = page.split("| in the audit |\n|---|---|---|\n", 1)[1].split("\n\n", 1)[0].splitlines()
    kinds = {action: row.split("|")[2] for row in rows for action in re.findall(r"`(\w+)`", row.split("|")[3])}
    recoveries = {f"recovery_{stage.value}" for stage in (Stage.COMPLETED, Stage.ROLLED_BACK)}
    resorts = {f"last_resort_{standing.value}" for standing in (Standing.DONE, Standing.FAILED)}
    assert kinds.keys() == {*_DECISIONS, *recoveries, *resorts, RAISED}
    emergency = emergencies(step(ScopeState(SCOPE), hit(priority=2), 5, world())[1])[0]
    for action, say in _DECISIONS.items():
        note = decision(at=5, actor="ann", action=action, subject="e1", reason="why", correlation_id="c", cause="c")
        kind, *_ = say(note, dataclasses.replace(emergency, drill=action.startswith("drill_")))
        assert kind.value in kinds[action], action
