"""What ``estop why-not`` says of an account: the windows' contents, and every reason against a hit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emergency_stop.detect.compile import compile_plan
from emergency_stop.detect.detector import PartitionDetector
from emergency_stop.detect.standing import Standing, reasons_against, reasons_without_effect
from emergency_stop.domain import topics
from emergency_stop.domain.trigger_definitions import parse_trigger
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import Mode
from tests.oracle.naive import Event
from tests.oracle.streams import columns_of, new_detector

START = 1_700_000_000_000


def trigger(trigger_type: str, thresholds: dict[str, float], **more: Any) -> Trigger:
    definition = {
        "trigger_id": "t", "name": "t", "trigger_type": trigger_type, "thresholds": thresholds, "time_window": 60_000,
        "cooldown_period": 300_000, "stop_level": "immediate", "priority": 1, **more,
    }  # fmt: skip
    return parse_trigger(definition, services=())


def standing(topic: str, watched: Trigger, *values: dict[str, Any], step_ms: int = 5_000) -> Standing:
    detector = new_detector(compile_plan([watched]))
    events = [Event(number, "acc", START + number * step_ms, fields) for number, fields in enumerate(values)]
    detector.on_batch(columns_of(topic, events, 0), 0)
    assert list(detector.standing(b"nobody")) == []
    (found,) = detector.standing(b"acc")
    return found


def scores(*values: float) -> list[dict[str, Any]]:
    return [{"health_score": value, "risk_score": value} for value in values]


HEALTH = trigger("health_score_critical", {"healthScore": 30}, min_samples=3)


def test_a_window_tells_its_average_its_samples_and_the_margin() -> None:
    found = standing(topics.TELEMETRY_HEALTH, HEALTH, *scores(80, 40, 30))
    (term,) = found.terms
    assert (term.window.value, term.window.samples, term.window.newest_at) == (50.0, 3, START + 10_000)
    assert (term.holds, term.margin) == (False, 20.0)
    (reason,) = reasons_against(found)
    assert reason.endswith("= 50 is not below 30 (margin 20)")


def test_samples_that_are_missing_are_told() -> None:
    assert reasons_against(standing(topics.TELEMETRY_HEALTH, HEALTH, *scores(10, 10))) == [
        "2 samples in the window, min_samples=3"
    ]


def test_what_left_the_window_does_not_count() -> None:
    found = standing(topics.TELEMETRY_HEALTH, HEALTH, *scores(0, 50), step_ms=61_000)
    assert (found.terms[0].window.value, found.terms[0].window.samples) == (50.0, 1)


def test_a_cooldown_is_told_with_what_it_suppressed() -> None:
    found = standing(topics.TELEMETRY_HEALTH, HEALTH, *scores(10, 10, 10, 10, 10))
    assert (found.cooldown_until, found.suppressed) == (START + 310_000, 2)
    assert reasons_against(found) == [
        "suppressed by cooldown for another 290000 ms of event time; 2 hits were suppressed"
    ]


def test_a_condition_that_has_not_held_long_enough_is_told() -> None:
    found = standing(topics.TELEMETRY_HEALTH, replace(HEALTH, for_ms=30_000), *scores(10, 10, 10, 10))
    assert reasons_against(found) == ["the condition has held for 5000 ms, for_ms=30000"]


def test_the_highest_value_is_told() -> None:
    watched = trigger("account_suspension_risk", {"riskScore": 85})
    found = standing(topics.TELEMETRY_HEALTH, watched, *scores(20, 85, 30))
    assert found.terms[0].window.value == 85.0
    assert reasons_against(found)[0].endswith("= 85 is not above 85 (margin 0)")


def test_both_terms_of_a_cascade_are_told() -> None:
    watched = trigger("proxy_failure_cascade", {"failures": 3, "distinctProxies": 3})
    failed = {"outcome": 1.0, "proxy_id": "one"}
    found = standing(topics.TELEMETRY_PROXY, watched, failed, failed)
    assert [term.window.value for term in found.terms] == [2.0, 1.0]
    assert len(reasons_against(found)) == 2


def test_one_of_two_is_enough_where_one_of_two_is_asked() -> None:
    watched = trigger("system_resource_critical", {"cpuPercent": 90, "memoryBytes": 1e9}, min_samples=2)
    found = standing(topics.TELEMETRY_SYSTEM, watched, {"cpu_percent": 99.0, "memory_bytes": 5.0})
    assert found.holds
    assert reasons_against(found) == ["1 samples in the window, min_samples=2"]


def test_a_run_of_activity_is_told() -> None:
    watched = trigger("time_based_trigger", {"maxActiveMs": 60_000})
    active = {"kind": 5.0, "outcome": 0.0}
    found = standing(topics.TELEMETRY_PLATFORM, watched, active, active, active)
    assert (found.terms[0].window.value, found.terms[0].window.samples) == (10_000.0, 3)
    paused = standing(topics.TELEMETRY_PLATFORM, watched, active, active, step_ms=60_001)
    assert (paused.terms[0].window.value, paused.terms[0].window.samples) == (0.0, 1)


def test_an_account_without_a_counted_event_is_told() -> None:
    watched = trigger("rate_limit_violation", {"violations": 3})
    found = standing(topics.TELEMETRY_PLATFORM, watched, {"kind": 0.0, "outcome": 0.0})
    assert reasons_against(found) == ["no event of the account has counted for it"]


@pytest.mark.parametrize(
    ("change", "words"),
    [({"is_active": False}, "switched off"), ({"mode": Mode.SHADOW}, "recorded"), ({"mode": Mode.WARN}, "mode=warn")],
)
def test_a_trigger_that_stops_nothing_says_so(change: dict[str, Any], words: str) -> None:
    (reason,) = reasons_without_effect(replace(HEALTH, **change))
    assert words in reason
    assert reasons_without_effect(HEALTH) == []


def test_a_trigger_may_gain_and_lose_for_ms_without_losing_its_cooldowns() -> None:
    events = [Event(number, "acc", START + number * 5_000, fields) for number, fields in enumerate(scores(*[10] * 12))]
    held = replace(HEALTH, for_ms=10_000)

    def fed(detector: PartitionDetector, first: int, last: int) -> int:
        return len(detector.on_batch(columns_of(topics.TELEMETRY_HEALTH, events[first:last], first), 0))

    detector = new_detector(compile_plan([HEALTH]))
    assert fed(detector, 0, 4) == 1
    detector.replan(compile_plan([held]))
    assert fed(detector, 4, 8) == 0, "in its cooldown"
    (found,) = detector.standing(b"acc")
    assert (found.holds_since, found.cooldown_until) == (START + 20_000, START + 310_000)

    records = [(name, detector.write(name)) for name in detector.dirty()]
    successor = new_detector(compile_plan([HEALTH]))
    successor.load(records, {topics.TELEMETRY_HEALTH: 8})
    assert fed(successor, 8, 12) == 0
    (found,) = successor.standing(b"acc")
    assert (found.holds_since, found.cooldown_until) == (None, START + 310_000)
