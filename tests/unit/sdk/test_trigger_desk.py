"""Triggers as a program changes them: every change is the next version, and what cannot be changed says why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emergency_stop.domain.default_triggers import BUILTIN_SUSPENSION_ID
from emergency_stop.domain.definition_reader import InvalidTriggerError
from emergency_stop.domain.trigger_definitions import parse_trigger
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.definitions import read_trigger
from emergency_stop.sdk.trigger_desk import TriggerChangeError, TriggerDesk
from tests.unit.domain.test_trigger_definitions import GUIDE_HEALTH, SERVICES

MINE = GUIDE_HEALTH | {"triggerId": "mine"}
CANARY = MINE | {"triggerId": "new", "canaryPercent": 10, "accountId": None}


def desk(*standing: Trigger, read: Any = parse_trigger) -> TriggerDesk:
    opened = TriggerDesk(read, SERVICES, "ann")
    for one in standing:
        opened.take(one)
    return opened


def standing(**changes: Any) -> Trigger:
    return replace(parse_trigger(MINE, services=SERVICES, updated_by="bob", updated_at=1), **changes)


def test_the_guide_s_trigger_comes_into_force_as_it_stands() -> None:
    added, superseded = desk().added(GUIDE_HEALTH, 7)
    assert (added.trigger_id, added.version, superseded) == ("health-score-critical", 1, None)
    assert (added.updated_by, added.updated_at, added.thresholds) == ("ann", 7, {"healthScore": 30.0})


def test_one_that_was_removed_comes_back_as_its_next_version() -> None:
    gone = standing(version=4, removed=True, is_active=False)
    assert desk(gone).added(MINE, 7) == (standing(version=5, updated_by="ann", updated_at=7), gone)


def test_an_update_keeps_what_it_does_not_name() -> None:
    before = standing(version=3)
    newer, superseded = desk(before).updated("mine", {"thresholds": {"healthScore": 25}, "isActive": False}, 7)
    assert superseded == before
    wanted = replace(before, version=4, thresholds={"healthScore": 25.0}, is_active=False)
    assert newer == replace(wanted, updated_by="ann", updated_at=7)


def test_a_removal_is_the_next_version_too() -> None:
    before = standing(version=3)
    gone, _ = desk(before).removed("mine", 7)
    wanted = replace(before, version=4, is_active=False, removed=True, updated_by="ann", updated_at=7)
    assert gone == wanted


def test_an_older_version_that_comes_late_changes_nothing() -> None:
    opened = desk(standing(version=5), standing(version=3))
    assert opened.removed("mine", 7)[0].version == 6


def test_active_ones_are_counted_with_the_built_in_two() -> None:
    opened = desk(standing(), standing(trigger_id="off", is_active=False), standing(trigger_id="gone", removed=True))
    assert opened.active() == 3
    opened.forget("mine")
    assert opened.active() == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.added(MINE, 7), "stands already, as version 3; update_trigger"),
        (lambda d: d.added(MINE | {"triggerId": "new", "priority": 9}, 7), "priority=9"),
        (lambda d: d.added(MINE | {"triggerId": BUILTIN_SUSPENSION_ID}, 7), "built in"),
        (lambda d: d.added(CANARY, 7), "estop triggers add FILE --canary"),
        (lambda d: d.updated("min", {"priority": 1}, 7), "did you mean 'mine'"),
        (lambda d: d.updated("mine", {"priority": 9}, 7), "priority=9"),
        (lambda d: d.updated("mine", {"colour": "red"}, 7), "colour='red': is not a field"),
        (lambda d: d.updated("mine", {"triggerId": "other"}, 7), "is not changed"),
        (lambda d: d.updated("canary", {"priority": 1}, 7), "is a canary now"),
        (lambda d: d.removed(BUILTIN_SUSPENSION_ID, 7), "built in"),
        (lambda d: d.removed("gone", 7), "no such trigger stands"),
    ],
)
def test_what_cannot_be_changed_says_why_and_changes_nothing(change: Any, words: str) -> None:
    opened = desk(
        standing(version=3),
        standing(trigger_id="canary", canary_percent=10),
        standing(trigger_id="gone", removed=True),
    )
    with pytest.raises((TriggerChangeError, InvalidTriggerError), match=words):
        change(opened)
    assert opened.removed("mine", 7)[1] == standing(version=3)


def test_a_rule_needs_the_reader_that_knows_its_grammar() -> None:
    rule = {
        key: value for key, value in MINE.items() if key != "thresholds"
    } | {"triggerType": "custom_rule_trigger", "rule": 'avg(health_score, "60s") < 40.0'}  # fmt: skip
    with pytest.raises(InvalidTriggerError, match="cannot be checked here"):
        desk().added(rule, 7)
    assert desk(read=read_trigger).added(rule, 7)[0].rule == rule["rule"]
