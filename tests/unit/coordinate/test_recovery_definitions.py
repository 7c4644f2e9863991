"""Procedures as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from emergency_stop.coordinate.recovery_definitions import InvalidProceduresError, read_procedures
from emergency_stop.coordinate.recovery_procedures import Gate, When, default_procedures
from emergency_stop.domain.values import ScopeKind, StopLevel, TriggerType

DEFAULTS = default_procedures(7_000, 20_000, 40_000)


def problems(*entries: Any) -> list[str]:
    with pytest.raises(InvalidProceduresError) as wrong:
        read_procedures({"procedures": list(entries)}, DEFAULTS)
    return list(wrong.value.problems)


def test_ones_own_are_asked_first_and_what_they_leave_out_is_as_in_the_standard() -> None:
    mine, *others = read_procedures(
        {
            "procedures": [
                {
                    "name": "mine",
                    "checks": 4,
                    "shares": [1, 100],
                    "gates": ["condition"],
                    "when": [{"levels": ["graceful"], "scope_kinds": ["account"], "priority_min": 2}],
                }
            ]
        },
        DEFAULTS,
    )
    assert (mine.checks, mine.shares, mine.gates) == (4, (1, 100), (Gate.CONDITION,))
    assert (mine.check_interval_ms, mine.validation_timeout_ms, mine.monitoring_ms) == (7_000, 20_000, 40_000)
    assert mine.when == (When(levels=(StopLevel.GRACEFUL,), scope_kinds=(ScopeKind.ACCOUNT,), priority_min=2),)
    assert others == list(DEFAULTS)


def test_one_that_says_not_when_is_used_only_by_name() -> None:
    assert read_procedures({"procedures": [{"name": "mine"}]}, DEFAULTS)[0].when == ()


def test_under_a_defaults_name_it_takes_its_place_and_keeps_what_it_does_not_say() -> None:
    found = read_procedures({"procedures": [{"name": "critical_recovery", "checks": 9}]}, DEFAULTS)
    assert [procedure.name for procedure in found] == [procedure.name for procedure in DEFAULTS]
    critical = found[1]
    assert (critical.checks, critical.shares, critical.when) == (9, DEFAULTS[1].shares, DEFAULTS[1].when)


@pytest.mark.parametrize("document", [None, [], {"procedures": []}, {"procedures": [], "more": 1}, "text", {"a": 1}])
def test_a_file_has_one_list_of_procedures(document: Any) -> None:
    with pytest.raises(InvalidProceduresError, match="one entry 'procedures'"):
        read_procedures(document, DEFAULTS)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({}, "procedure 1: name=None must be 1 to 64 letters"),
        ({"name": "a b"}, "procedure 1: name='a b' must be 1 to 64 letters"),
        ("mine", "procedure 1: entry='mine' is not a mapping of fields"),
        ({"name": "a", "check": 3}, "procedure 'a': check=3 is no field (did you mean 'checks'?)"),
        ({"name": "a", "checks": 0}, "procedure 'a': checks=0 must be a whole number from 1 to 100"),
        ({"name": "a", "checks": True}, "procedure 'a': checks=True must be a whole number from 1 to 100"),
        ({"name": "a", "soak_ms": 1.5}, "procedure 'a': soak_ms=1.5 must be a whole number from 1000 to 3600000"),
        ({"name": "a", "shares": [10, 50]}, "the last of them 100"),
        ({"name": "a", "shares": [50, 10, 100]}, "rising"),
        ({"name": "a", "shares": [0, 100]}, "from 1"),
        ({"name": "a", "shares": 100}, "shares=100 must be"),
        ({"name": "a", "gates": ["conditon"]}, "gates='conditon' is unknown (did you mean 'condition'?)"),
        ({"name": "a", "gates": "condition"}, "gates='condition' must be a list of: failed_actions, condition"),
        ({"name": "a", "when": {}}, "when={} must be a list of mappings"),
        ({"name": "a", "when": [{"level": ["graceful"]}]}, "level=['graceful'] is no field (did you mean 'levels'?)"),
        ({"name": "a", "when": [{"levels": []}]}, "levels=[] is empty, so it would never apply"),
        ({"name": "a", "when": [{"trigger_types": ["health"]}]}, "trigger_types='health' is unknown"),
        ({"name": "a", "when": [{"priority_min": 5}]}, "priority_min=5 must be a whole number from 1 to 4"),
    ],
)
def test_what_is_wrong_is_told(entry: Any, problem: str) -> None:
    (found,) = problems(entry)
    assert problem in found


def test_all_of_it_is_told_at_once() -> None:
    found = problems({"name": "a", "checks": 0, "shares": []}, {"name": "b"}, {"name": "b", "when": 1})
    assert [line.split("=")[0] for line in found] == [
        "procedure 'a': checks",
        "procedure 'a': shares",
        "procedure 'b': when",
        "procedure 'b': name",
    ]


def test_names_are_those_of_the_vocabularies() -> None:
    every = [kind.value for kind in TriggerType]
    (mine, *_) = read_procedures({"procedures": [{"name": "a", "when": [{"trigger_types": every}]}]}, DEFAULTS)
    assert mine.when[0].trigger_types == tuple(TriggerType)
