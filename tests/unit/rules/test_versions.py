"""From one version of a trigger to the next: canaries, promotions, rollbacks, removals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emergency_stop.domain.default_triggers import default_pack
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.definitions import stable_text, stable_version
from emergency_stop.rules.versions import (
    Author,
    VersionError,
    after,
    differences,
    is_canary,
    promoted,
    removed,
    rolled_back,
)

FIRST = default_pack(0)[0]
ANN = Author("ann", 1_000)


def version(number: int, **fields: Any) -> Trigger:
    return replace(FIRST, version=number, **fields)


def limit(trigger: Trigger | None) -> float:
    assert trigger is not None
    return trigger.thresholds["healthScore"]


def low(value: float) -> dict[str, float]:
    return {"healthScore": value}


#: v1 ─ v2 ─ v3 (a canary of 10 %) ─ v4 (a canary of 25 %)
V1, V2 = version(1, thresholds=low(30)), version(2, thresholds=low(25))
V3 = after(V2, version(1, thresholds=low(20), canary_percent=10))
V4 = after(V3, version(1, thresholds=low(15), canary_percent=25))
HISTORY = {1: V1, 2: V2, 3: V3, 4: V4}


def test_a_version_gets_a_number_above_the_one_that_stands() -> None:
    assert after(None, version(1)).version == 1
    assert after(V2, version(1)).version == 3
    assert after(V2, version(9)).version == 9


def test_a_canary_carries_the_version_in_force_and_reads_it_back_as_it_was() -> None:
    assert (V3.version, V3.canary_percent, is_canary(V3)) == (3, 10, True)
    assert stable_version(V3) == V2


def test_a_canary_of_a_canary_keeps_what_was_stable_before_both() -> None:
    assert V4.version == 4
    assert stable_version(V4) == V2
    assert V4.stable.count("stable") == 1


@pytest.mark.parametrize("standing", [None, removed(V2, ANN), removed(V3, ANN)])
def test_a_canary_of_nothing_leaves_the_others_nothing(standing: Trigger | None) -> None:
    assert stable_version(after(standing, version(1, canary_percent=5))) is None


def test_a_version_for_every_account_carries_no_other() -> None:
    assert after(V4, version(1, thresholds=low(10))).stable == ""


def test_a_stable_of_a_foreign_hand_is_refused_or_read_but_never_misread() -> None:
    for text in ("{", "[]", "1", '"x"', "{}", stable_text(replace(V2, trigger_id="another")), '{"trigger_id": "x"}'):
        with pytest.raises(ValueError, match="stable="):
            stable_version(replace(V3, stable=text))


def test_a_promoted_canary_watches_every_account() -> None:
    now = promoted(V4, ANN)
    assert (now.version, now.canary_percent, now.stable, limit(now)) == (5, 100, "", 15)
    assert (now.updated_by, now.updated_at) == ("ann", 1_000)
    with pytest.raises(VersionError, match="version 2 of default-health-score is no canary"):
        promoted(V2, ANN)


@pytest.mark.parametrize(
    # in force   to    number  threshold  percent
    ("standing", "to", "number", "value", "percent"),
    [
        (V2,     None,      3,       30,      100),
        (V4,     None,      5,       25,      100),  # from a canary back to what is stable
        (V4,        3,      5,       20,       10),  # to the canary before
        (V4,        1,      5,       30,      100),
        (removed(V2, ANN), None, 4,  25,      100),  # a removal is taken back
        (removed(V3, ANN), None, 5,  20,       10),
    ],
)  # fmt: skip
def test_a_rollback_is_a_new_version_with_the_content_of_an_earlier_one(
    standing: Trigger, to: int | None, number: int, value: float, percent: int
) -> None:
    back = rolled_back(standing, {**HISTORY, standing.version: standing}, ANN, to)
    assert (back.version, limit(back), back.canary_percent) == (number, value, percent)
    assert (back.updated_by, back.updated_at, back.removed, back.is_active) == ("ann", 1_000, False, True)
    assert (stable_version(back) == V2) == (percent == 10)


@pytest.mark.parametrize(
    ("standing", "to", "words"),
    [
        (V1, None, "version 1 of default-health-score has no version before it"),
        (V2, 2, "is in force already; history has: 1, 2, 3, 4"),
        (V2, 7, "has no version 7; history has: 1, 2, 3, 4"),
        (after(None, version(1, canary_percent=5)), None, "its other accounts have no version"),
    ],
)
def test_a_rollback_to_nothing_says_what_there_is(standing: Trigger, to: int | None, words: str) -> None:
    with pytest.raises(VersionError, match=words):
        rolled_back(standing, HISTORY, ANN, to)


def test_a_removal_is_nothing_to_go_back_to() -> None:
    gone = removed(V2, ANN)
    again = version(4)
    with pytest.raises(VersionError, match="version 3 is the removal"):
        rolled_back(again, {2: V2, 3: gone, 4: again}, ANN, 3)
    assert rolled_back(again, {2: V2, 3: gone, 4: again}, ANN).version == 5


def test_a_rollback_and_another_one_come_back_to_where_they_started() -> None:
    third = rolled_back(V2, {1: V1, 2: V2}, ANN)
    fourth = rolled_back(third, {1: V1, 2: V2, 3: third}, ANN)
    assert (limit(third), limit(fourth)) == (30, 25)


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (None, V1, ["first version"]),
        (V1, V2, ["thresholds.healthScore: 30 → 25"]),
        (V2, V3, ["canary_percent: 100 → 10", "thresholds.healthScore: 25 → 20"]),
        (V1, replace(V1, account_id="a", overrides="b"), ["account_id: none → a", "overrides: none → b"]),
        (V1, replace(V1, target_services=("x", "y")), ["target_services: all → x,y"]),
        (V1, replace(V1, updated_by="else", updated_at=9), ["nothing"]),
        (V1, removed(V1, ANN), ["removed"]),
        (removed(V1, ANN), rolled_back(removed(V1, ANN), {1: V1}, ANN), ["restored"]),
    ],
)  # fmt: skip
def test_what_changed_is_told_field_by_field(before: Trigger | None, now: Trigger, told: list[str]) -> None:
    assert differences(before, now) == told
