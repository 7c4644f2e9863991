"""What counts as a proof that a service can be stopped at a level, and for how long."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emergency_stop.control.cli.drill import DRILL_AGE_MS_MAX, is_red, newest_proofs
from emergency_stop.coordinate.instances import LEFT_IN_GOOD_ORDER
from emergency_stop.domain.messages import Emergency, InstanceStop
from emergency_stop.domain.values import AckState, EmergencyState, StopLevel, TriggerType

GRACEFUL, IMMEDIATE, SPECIFIC = StopLevel.GRACEFUL, StopLevel.IMMEDIATE, StopLevel.SERVICE_SPECIFIC


def told(service: str, reason: str = "") -> InstanceStop:
    return InstanceStop(service, "1", AckState.STOPPED, reason, 0, 5)


PROOF = Emergency(
    "e1", EmergencyState.RESOLVED, "global", None, GRACEFUL, 0, 4, "drill", "request:r1", None,
    TriggerType.MANUAL_TRIGGER, ("all",), (told("x"), told("y")), "corr", 0, 0, 60_000, completed_at=100, success=True,
    drill=True, asked_level=GRACEFUL,
)  # fmt: skip


def proven(*emergencies: Emergency) -> dict[tuple[str, StopLevel], int | None]:
    return {pair: one.completed_at for pair, one in newest_proofs(emergencies).items()}


@pytest.mark.parametrize("drill", [True, False], ids=["drill", "stop"])
def test_a_drill_or_a_stop_that_succeeded_proves_its_level_for_every_service(*, drill: bool) -> None:
    assert proven(replace(PROOF, drill=drill)) == {("x", GRACEFUL): 100, ("y", GRACEFUL): 100}


def test_the_newest_counts() -> None:
    older = replace(PROOF, emergency_id="e0", completed_at=50)
    assert proven(PROOF, older) == proven(older, PROOF) == {("x", GRACEFUL): 100, ("y", GRACEFUL): 100}


@pytest.mark.parametrize(
    "changes",
    [{"success": False}, {"success": None, "completed_at": None}],
    ids=["not proven", "under way"],
)
def test_others_prove_nothing(changes: dict[str, Any]) -> None:
    assert proven(replace(PROOF, **changes)) == {}


def test_an_escalated_stop_proves_the_level_that_it_came_to() -> None:
    assert set(proven(replace(PROOF, drill=False, level=IMMEDIATE))) == {("x", IMMEDIATE), ("y", IMMEDIATE)}


def test_a_service_specific_stop_proves_what_it_carried_too() -> None:
    one = replace(PROOF, level=IMMEDIATE, asked_level=SPECIFIC, instances=(told("x"),))
    assert set(proven(one)) == {("x", IMMEDIATE), ("x", SPECIFIC)}


def test_a_service_whose_instances_had_left_proved_nothing() -> None:
    assert set(proven(replace(PROOF, instances=(told("x"), told("y", LEFT_IN_GOOD_ORDER))))) == {("x", GRACEFUL)}


@pytest.mark.parametrize(
    ("proof", "now_ms", "red"),
    [
        (None, 0, True),
        (PROOF, 100, False),
        (PROOF, 100 + DRILL_AGE_MS_MAX, False),
        (PROOF, 101 + DRILL_AGE_MS_MAX, True),
    ],
)
def test_it_is_red_after_thirty_days_or_when_it_never_was(proof: Emergency | None, now_ms: int, *, red: bool) -> None:
    assert is_red(proof, now_ms) is red
