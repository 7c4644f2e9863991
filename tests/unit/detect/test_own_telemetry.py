"""What our own processes report of themselves warns, and makes nothing else look alive."""

from __future__ import annotations

from typing import Any

import pytest

from emergency_stop.detect.compile import compile_plan
from emergency_stop.detect.condition_answers import SIGHT_MS, ConditionBook
from emergency_stop.detect.own_telemetry import is_own
from emergency_stop.domain import topics
from emergency_stop.domain.trigger_definitions import parse_trigger
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import OWN_PROCESSES, ConditionState, Mode, Scope
from emergency_stop.sdk import StopGuard
from tests.oracle.evaluations import recording_detector
from tests.oracle.naive import Event
from tests.oracle.streams import columns_of, new_detector

START = 1_700_000_000_000
OTHERS = ("alpha@host", "estop-detectors@host", "estop-sin", "estop-sink", "a", "my-estop-sink@host", "estop@sink")


def trigger(trigger_type: str, thresholds: dict[str, float], **more: Any) -> Trigger:
    definition = {
        "trigger_id": "t", "name": "t", "trigger_type": trigger_type, "thresholds": thresholds,
        "time_window": 60_000, "cooldown_period": 0, "stop_level": "immediate", "priority": 1, **more,
    }  # fmt: skip
    return parse_trigger(definition, services=())


def load(*subjects: str, at: int = START, first: int = 0) -> list[Event]:
    used = {"cpu_percent": 99.0, "memory_bytes": 1.0}
    return [Event(first + number, subject, at, used) for number, subject in enumerate(subjects)]


def test_our_own_rows_are_told_by_their_whole_name() -> None:
    own = [f"{name}@host/{name}-1" for name in OWN_PROCESSES]
    rows = load(*OTHERS, *own, *OTHERS[::-1], "estop-detector@")
    wanted = [row.account in own for row in rows]
    assert is_own(columns_of(topics.TELEMETRY_SYSTEM, rows, 0)).tolist() == [*wanted[:-1], False]
    for row in rows:
        alone = is_own(columns_of(topics.TELEMETRY_SYSTEM, [row], row.offset))
        assert alone.tolist() == [row.account in own], row.account


@pytest.mark.parametrize(
    ("given", "of_others", "of_ours"),
    [
        (Mode.ENFORCE, Mode.ENFORCE, Mode.WARN),
        (Mode.WARN, Mode.WARN, Mode.WARN),
        (Mode.SHADOW, Mode.SHADOW, Mode.SHADOW),
    ],
)
def test_a_hit_of_our_own_process_warns_at_the_most(given: Mode, of_others: Mode, of_ours: Mode) -> None:
    """Stopping a detector for its load would stop what stops; commands to it would reach nobody."""
    busy = trigger("system_resource_critical", {"cpuPercent": 90}, mode=given.value)
    detector = recording_detector(compile_plan([busy]), 5)
    hits = detector.on_batch(columns_of(topics.TELEMETRY_SYSTEM, load("alpha@host", "estop-sink@host"), 0), START)
    assert {hit.scope: hit.mode for hit in hits} == {"service:alpha": of_others, "service:estop-sink": of_ours}


def test_an_account_that_has_its_name_is_stopped_as_any_other() -> None:
    low = trigger("health_score_critical", {"healthScore": 30})
    event = Event(0, "estop-sink", START, {"health_score": 10.0, "risk_score": 0.0})
    (hit,) = new_detector(compile_plan([low])).on_batch(columns_of(topics.TELEMETRY_HEALTH, [event], 0), START)
    assert (hit.scope, hit.mode) == ("account:estop-sink", Mode.ENFORCE)


@pytest.mark.parametrize(
    ("subject", "state"), [("alpha@host", ConditionState.CLEAR), ("estop-detector@host", ConditionState.UNKNOWN)]
)
def test_nothing_is_clear_because_a_detector_still_speaks(subject: str, state: ConditionState) -> None:
    """All producers fell silent: what was stopped stays so, however busy we are ourselves."""
    detected = trigger("detection_event_critical", {"eventCount": 1})
    detector = new_detector(compile_plan([detected]))
    event = Event(0, "acc", START, {"severity": 3.0})
    detector.on_batch(columns_of(topics.TELEMETRY_DETECTION, [event], 0), START)
    asked_at = START + SIGHT_MS + 60_000
    detector.on_batch(columns_of(topics.TELEMETRY_SYSTEM, load(subject, at=asked_at), 0), asked_at)
    found = ConditionBook(10).clearance(detector, "t", Scope.account("acc"), asked_at)
    assert found.state is state, found


def test_our_own_load_is_no_part_of_a_value_over_all() -> None:
    everybody = trigger("system_resource_critical", {"cpuPercent": 90}, across="accounts")
    detector = new_detector(compile_plan([everybody]))
    detector.on_batch(columns_of(topics.TELEMETRY_SYSTEM, load("estop-detector@host", "estop-sink@host"), 0), START)
    assert not detector.has_parts
    detector.on_batch(columns_of(topics.TELEMETRY_SYSTEM, load("estop-sink@host", "alpha@host", first=2), 2), START)
    assert detector.has_parts


def test_no_service_of_the_sdk_can_take_such_a_name() -> None:
    with pytest.raises(ValueError, match="is a process of the emergency stop itself; give yours another name"):
        StopGuard("estop-sink", "127.0.0.1:9")
