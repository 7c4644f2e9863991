"""Which procedure undoes what, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emergency_stop.coordinate.recovery_choice import History, UnknownProcedureError, choose, history_of
from emergency_stop.coordinate.recovery_procedures import Procedure, When, default_procedures
from emergency_stop.domain.values import StopLevel, TriggerType
from tests.unit.coordinate.scenario import hit, opened, request

DEFAULTS = default_procedures()
CASE = opened(hit()).cases[0]


@pytest.mark.parametrize(
    # what is unlike a graceful stop of an account by its health    failed   procedure              why
    ("changes", "failed", "name", "reason"),
    [
        ({}, 0, "standard_recovery", "nothing speaks for another"),
        ({"level": StopLevel.MAINTENANCE}, 0, "maintenance_recovery", "the level is maintenance"),
        ({"level": StopLevel.IMMEDIATE}, 0, "gradual_recovery", "the level is immediate"),
        ({"scope": "global"}, 0, "gradual_recovery", "the scope's kind is global"),
        ({"scope": "service:x"}, 0, "gradual_recovery", "the scope's kind is service"),
        (
            {"trigger_type": TriggerType.RATE_LIMIT_VIOLATION},
            0,
            "gradual_recovery",
            "the trigger's type is rate_limit_violation",
        ),
        ({}, 1, "gradual_recovery", "1 recoveries of the scope failed, and 1 or more"),
        ({}, 2, "critical_recovery", "2 recoveries of the scope failed, and 2 or more"),
        ({"priority": 4}, 0, "critical_recovery", "the trigger's priority is 4, and 4 or more"),
        (
            {"trigger_type": TriggerType.ACCOUNT_SUSPENSION_RISK},
            0,
            "critical_recovery",
            "the trigger's type is account_suspension_risk",
        ),
        # a person's stop has the highest priority, and that says nothing of how grave its cause is
        ({"trigger_id": None, "priority": 4}, 0, "standard_recovery", "nothing speaks for another"),
    ],
)
def test_the_defaults(changes: dict[str, Any], failed: int, name: str, reason: str) -> None:
    procedure, reasons = choose(replace(CASE, **changes), History(failed), DEFAULTS)
    assert (procedure.name, reasons) == (name, (reason,))


def test_all_that_is_given_must_hold_and_all_of_it_is_a_reason() -> None:
    mine = Procedure("mine", when=(When(levels=(StopLevel.GRACEFUL,), priority_min=3),))
    assert choose(CASE, History(), (mine, *DEFAULTS)) == (
        mine,
        ("the level is graceful", "the trigger's priority is 3, and 3 or more"),
    )
    assert choose(replace(CASE, priority=2), History(), (mine, *DEFAULTS))[0].name == "standard_recovery"


def test_a_name_decides() -> None:
    procedure, reasons = choose(CASE, History(9), DEFAULTS, "standard_recovery", "ann")
    assert (procedure.name, reasons) == ("standard_recovery", ("named by ann",))


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownProcedureError, match=r"is unknown \(did you mean 'critical_recovery'\?\)"):
        choose(CASE, History(), DEFAULTS, "critical_recovry", "ann")


def test_where_none_applies_one_must_be_named() -> None:
    with pytest.raises(UnknownProcedureError, match="name one of: mine"):
        choose(CASE, History(), (Procedure("mine"),))


def test_failures_of_all_emergencies_of_the_scope_count() -> None:
    state = opened(request())
    other = replace(state.cases[0], emergency_id="e2", failed_recoveries=2)
    state = replace(state, cases=(replace(state.cases[0], failed_recoveries=1), other))
    assert history_of(state) == History(failed=3)


def test_there_is_always_room_for_one_check_more_than_must_pass() -> None:
    for procedure in default_procedures(600_000, 1_000, 1_000):
        assert procedure.interval_ms * procedure.checks < procedure.validation_timeout_ms
        assert procedure.shares[-1] == 100
