"""What a hit takes over from its trigger, whichever way it came about."""

from __future__ import annotations

import pytest

from emergency_stop.detect.compile import compile_plan
from emergency_stop.domain import topics
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import ClearRule
from emergency_stop.rules.definitions import read_trigger
from tests.oracle.naive import Event
from tests.oracle.streams import columns_of, new_detector

START = 1_700_000_000_000


def trigger(trigger_type: str, clear_rule: ClearRule, **more: object) -> Trigger:
    definition = {
        "trigger_id": "t", "name": "t", "trigger_type": trigger_type, "time_window": 60_000, "cooldown_period": 0,
        "stop_level": "immediate", "priority": 1, "clear_rule": clear_rule.value, **more,
    }  # fmt: skip
    return read_trigger(definition, services=())


@pytest.mark.parametrize("clear_rule", ClearRule)
def test_a_hit_says_what_must_happen_before_its_stop_may_be_undone(clear_rule: ClearRule) -> None:
    """One caused by an event, and one by the clock."""
    low = trigger("health_score_critical", clear_rule, thresholds={"healthScore": 30})
    detector = new_detector(compile_plan([low]))
    event = Event(0, "acc", START, {"health_score": 10.0, "risk_score": 0.0})
    (hit,) = detector.on_batch(columns_of(topics.TELEMETRY_HEALTH, [event], 0), START)
    assert hit.clear_rule is clear_rule

    nightly = trigger("time_based_trigger", clear_rule, options={"cron": "* * * * *"}, across="accounts")
    detector = new_detector(compile_plan([nightly]))
    detector.on_tick(START, (topics.TICKS, 0), START)
    (hit,) = detector.on_tick(START + 60_000, (topics.TICKS, 1), START)
    assert hit.clear_rule is clear_rule
