"""Schedules and quiet hours: what only the time of day brings about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from emergency_stop.detect.compile import compile_plan
from emergency_stop.detect.detector import PartitionDetector
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.trigger_definitions import parse_trigger
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.calendar import QuietHours
from emergency_stop.rules.definitions import read_trigger
from tests.oracle.naive import Event
from tests.oracle.streams import columns_of, new_detector

TICK = 5_000


def at(text: str) -> int:
    """Milliseconds since the epoch of a moment in UTC."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)


def unchecked(_text: str) -> list[str]:
    return []


CHECKS = {f"options.{name}": unchecked for name in ("cron", "quietHours", "timeZone")}


def timed(options: dict[str, str], **more: Any) -> Trigger:
    definition = {
        "trigger_id": "timed", "name": "timed", "trigger_type": "time_based_trigger", "options": options,
        "cooldown_period": 0, "stop_level": "graceful", "priority": 1, **more,
    }  # fmt: skip
    return parse_trigger(definition, services=(), checks=CHECKS)


def nightly(**more: Any) -> Trigger:
    return timed({"cron": "0 2 * * *", "timeZone": "Europe/Berlin"}, **{"across": "accounts", **more})


def tick(detector: PartitionDetector, moment: str, offset: int = 0) -> list[Hit]:
    return detector.on_tick(at(moment), (topics.TICKS, offset), at(moment))


def test_a_schedule_fires_at_its_time_in_its_zone_and_once() -> None:
    detector = new_detector(compile_plan([nightly()]))
    assert detector.plan.needs_clock
    assert tick(detector, "2026-11-25T00:59:55") == []
    (hit,) = tick(detector, "2026-11-25T01:00:00", offset=7)
    assert (hit.scope, hit.account_id, hit.late) == ("global", None, False)
    assert (hit.occurred_at, hit.source_topic, hit.source_offset) == (at("2026-11-25T01:00:00"), topics.TICKS, 7)
    assert hit.reason == "the schedule '0 2 * * *' (Europe/Berlin) is due"
    assert tick(detector, "2026-11-25T01:00:00", offset=8) == [], "the other lane's tick"
    assert tick(detector, "2026-11-25T01:00:05") == []


def test_a_schedule_of_one_account_stops_that_account() -> None:
    detector = new_detector(compile_plan([nightly(across=None, account_id="acc-7")]))
    tick(detector, "2026-11-25T00:59:55")
    (hit,) = tick(detector, "2026-11-25T01:00:00")
    assert (hit.scope, hit.account_id) == ("account:acc-7", "acc-7")


def test_a_time_that_was_slept_through_fires_late_and_under_the_same_id() -> None:
    awake, asleep = (new_detector(compile_plan([nightly()])) for _ in range(2))
    for detector in (awake, asleep):
        tick(detector, "2026-11-25T00:59:55")
    (on_time,) = tick(awake, "2026-11-25T01:00:00")
    (late,) = tick(asleep, "2026-11-25T04:00:00", offset=9)
    assert late.late
    assert late.hit_id == on_time.hit_id
    assert late.occurred_at == on_time.occurred_at


def test_what_was_due_before_the_first_tick_ever_is_not_made_up_for() -> None:
    assert tick(new_detector(compile_plan([nightly()])), "2026-11-25T01:00:00") == []


def added(moment: str, **options: str) -> Trigger:
    return replace(timed({"cron": "0 9 * * *", **options}, across="accounts"), updated_at=at(moment))


@pytest.mark.parametrize(("written", "fires"), [("2026-11-25T08:59:58", True), ("2026-11-25T09:00:01", False)])
def test_a_new_schedule_makes_nothing_due_that_lies_before_it_was_written(written: str, *, fires: bool) -> None:
    """No tick was written for five days, because nothing waited for the clock."""
    detector = new_detector(compile_plan([nightly()]))
    tick(detector, "2026-11-20T00:59:55")
    detector.replan(compile_plan([]))
    detector.replan(compile_plan([added(written)]))
    assert bool(tick(detector, "2026-11-25T09:00:05")) is fires


def test_a_schedule_that_moves_makes_nothing_due_that_lies_before_the_change() -> None:
    detector = new_detector(compile_plan([added("2026-11-01T00:00:00")]))
    tick(detector, "2026-11-25T07:00:00")
    detector.replan(compile_plan([added("2026-11-25T08:30:00", cron="0 8 * * *")]))
    assert tick(detector, "2026-11-25T08:30:05") == [], "the detector was away from 7:00 on"
    assert len(tick(detector, "2026-11-26T08:00:00")) == 1


def test_an_edit_that_leaves_the_calendar_alone_loses_no_time() -> None:
    detector = new_detector(compile_plan([added("2026-11-01T00:00:00")]))
    tick(detector, "2026-11-25T08:59:55")
    detector.replan(compile_plan([added("2026-11-25T09:00:02")]))
    successor = new_detector(detector.plan)
    successor.load([(name, detector.write(name)) for name in detector.dirty()], {})
    assert len(tick(successor, "2026-11-25T09:00:05")) == 1


def test_a_schedule_survives_a_crash_and_cools_down() -> None:
    plan = compile_plan([timed({"cron": "* * * * *"}, across="accounts", cooldown_period=150_000)])
    detector = new_detector(plan)
    tick(detector, "2026-11-25T01:00:00")
    assert len(tick(detector, "2026-11-25T01:01:00")) == 1
    assert tick(detector, "2026-11-25T01:02:00") == []
    successor = new_detector(plan)
    successor.load([(name, detector.write(name)) for name in detector.dirty()], {})
    assert tick(successor, "2026-11-25T01:03:00") == []
    (hit,) = tick(successor, "2026-11-25T01:04:00")
    assert hit.suppressed_before == 2


def test_only_one_partition_keeps_schedules() -> None:
    detector = new_detector(compile_plan([nightly()]), partition=1)
    tick(detector, "2026-11-25T00:59:55")
    assert tick(detector, "2026-11-25T01:00:00") == []


ACTIVE = {"kind": 5.0, "outcome": 0.0}
QUIET = timed({"quietHours": "22:00-07:00", "timeZone": "Europe/Berlin"}, min_samples=2)


@pytest.mark.parametrize(
    ("moments", "fires"),
    [
        (("2026-11-25T20:59:30", "2026-11-25T20:59:59"), False),
        (("2026-11-25T20:59:59", "2026-11-25T21:00:00"), False),
        (("2026-11-25T21:00:00", "2026-11-25T21:00:10"), True),
        (("2026-11-25T05:59:58", "2026-11-25T05:59:59"), True),
        (("2026-11-25T05:59:59", "2026-11-25T06:00:00"), False),
        (("2026-11-25T21:00:00", "2026-11-25T21:01:01"), False),
    ],
)
def test_activity_in_quiet_hours_fires(moments: tuple[str, str], *, fires: bool) -> None:
    """Berlin is an hour ahead of UTC in winter; two events within a minute are asked for."""
    events = [Event(number, "acc", at(moment), ACTIVE) for number, moment in enumerate(moments)]
    hits = new_detector(compile_plan([QUIET])).on_batch(columns_of(topics.TELEMETRY_PLATFORM, events, 0), 0)
    assert bool(hits) is fires
    if fires:
        assert "occurred_at in 22:00-07:00 Europe/Berlin" in hits[0].reason


def test_moments_that_lie_far_apart_cost_no_more_than_their_own_days(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong clocks, at 1970 and at the end of time, beside a right one in the quiet hours of its day."""
    asked: list[int] = []
    whole = QuietHours.intervals

    def counted(self: QuietHours, first_ms: int, last_ms: int) -> Any:
        asked.append(last_ms - first_ms)
        return whole(self, first_ms, last_ms)

    monkeypatch.setattr(QuietHours, "intervals", counted)
    moments = (0, 2**63 - 1, at("2026-11-25T21:00:00"), 2**62, at("2026-11-25T12:00:00"), at("9998-12-31T14:00:00"))
    plan = compile_plan(
        [replace(QUIET, min_samples=1, options={"quietHours": "22:00-07:00", "timeZone": "Asia/Tokyo"})]
    )
    events = [Event(number, f"acc-{number}", moment, ACTIVE) for number, moment in enumerate(moments)]
    hits = new_detector(plan).on_batch(columns_of(topics.TELEMETRY_PLATFORM, events, 0), 0)
    assert [hit.source_offset for hit in hits] == [2, 5]
    assert sum(asked) <= len(moments) * 86_400_000


def test_a_plan_without_anything_for_the_clock_needs_none() -> None:
    assert not compile_plan([QUIET]).needs_clock


def test_a_tick_between_the_slices_of_a_checkpoint_is_asked_again_after_a_crash() -> None:
    """Its silence is told once, under one id, though only the page before it and the clock after it were written."""
    rule = {
        "trigger_id": "silent", "name": "silent", "trigger_type": "custom_rule_trigger", "cooldown_period": 0,
        "rule": 'absent(platform, "30s")', "stop_level": "graceful", "priority": 1,
    }  # fmt: skip
    plan = compile_plan([read_trigger(rule, services=())])
    detector = new_detector(plan)
    event = Event(0, "acc", at("2026-11-25T01:00:00"), ACTIVE)
    detector.on_batch(columns_of(topics.TELEMETRY_PLATFORM, [event], 0), 0)
    assert tick(detector, "2026-11-25T01:00:10", 0) == []
    page, clock = detector.dirty()
    written = [(page, detector.write(page))]
    (hit,) = tick(detector, "2026-11-25T01:00:30", 1)
    written.append((clock, detector.write(clock)))
    successor = new_detector(plan)
    successor.load(written, {topics.TELEMETRY_PLATFORM: 1})
    assert tick(successor, "2026-11-25T01:00:30", 1) == [hit]
    assert tick(successor, "2026-11-25T01:00:35", 2) == []
    assert set(detector.dirty()) == {page, clock}, "the tick is still to be written"
