"""Which triggers were in force when."""

from __future__ import annotations

from dataclasses import replace

from emergency_stop.apps.backtest.plans import Change, in_force, of_the_time, only, warm_up_ms
from emergency_stop.domain.default_triggers import builtin_triggers, default_pack
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import StopLevel

BUILTIN = builtin_triggers(StopLevel.GRACEFUL)
PACK = {one.trigger_id: one for one in default_pack(0)}
RISK, HEALTH = PACK["default-suspension-risk"], PACK["default-health-score"]


def versions(found: tuple[Trigger, ...]) -> dict[str, int]:
    return {one.trigger_id: one.version for one in found if not one.trigger_id.startswith("builtin")}


def test_the_version_written_last_stands_until_the_next() -> None:
    """
    Written   10: risk 1   20: health 1, risk 2   30: risk gone   40: risk 3
    """  # noqa: D200, D212  (a timeline)
    changes = [
        Change(10, RISK), Change(20, HEALTH), Change(20, replace(RISK, version=2)),
        Change(30, replace(RISK, version=3, removed=True)), Change(40, replace(RISK, version=4)),
    ]  # fmt: skip
    plans = of_the_time(changes, BUILTIN, 15)
    assert [(one.from_ms, versions(one.triggers)) for one in plans] == [
        (15, {RISK.trigger_id: 1}),
        (20, {HEALTH.trigger_id: 1, RISK.trigger_id: 2}),
        (30, {HEALTH.trigger_id: 1}),
        (40, {HEALTH.trigger_id: 1, RISK.trigger_id: 4}),
    ]
    for one in plans:
        assert one.triggers == in_force(changes, BUILTIN, one.from_ms)
        assert {two.trigger_id for two in BUILTIN} < {three.trigger_id for three in one.triggers}


def test_no_record_replaces_what_is_built_in() -> None:
    fake = replace(BUILTIN[0], version=9, is_active=False)
    wanted = tuple(sorted(BUILTIN, key=lambda one: one.trigger_id))
    assert in_force([Change(1, fake)], BUILTIN, 2) == wanted
    assert of_the_time([Change(1, fake)], BUILTIN, 2)[0].triggers == wanted


def test_an_import_of_many_triggers_is_a_few_plans() -> None:
    changes = [Change(1_000 + 40 * number, replace(RISK, version=number + 1)) for number in range(500)]
    plans = of_the_time([*changes, Change(60_000, HEALTH)], BUILTIN, 0)
    assert len(plans) <= 7
    assert plans[-2].from_ms == changes[-1].at_ms
    assert versions(plans[-2].triggers) == {RISK.trigger_id: 500}
    assert versions(plans[-1].triggers) == {RISK.trigger_id: 500, HEALTH.trigger_id: 1}
    for one in plans[1:]:
        assert versions(one.triggers)[RISK.trigger_id] == max(
            two.trigger.version for two in changes if two.at_ms <= one.from_ms
        )


def test_windows_and_a_cooldown_are_filled_before_hits_count() -> None:
    assert warm_up_ms([]) == 0
    assert warm_up_ms([RISK]) == RISK.time_window + RISK.cooldown_period
    activity = PACK["default-activity"]
    assert warm_up_ms([RISK, activity]) == activity.time_window + 57_600_000 + activity.cooldown_period
    assert warm_up_ms([replace(activity, is_active=False), replace(RISK, for_ms=7)]) == warm_up_ms([RISK]) + 7


def test_a_trigger_is_chosen_with_what_replaces_it() -> None:
    own = replace(RISK, trigger_id="own", overrides=RISK.trigger_id, account_id="a")
    assert only([RISK, HEALTH, own], frozenset({RISK.trigger_id})) == (RISK, own)
    assert only([RISK, HEALTH, own], None) == (RISK, HEALTH, own)
