"""When a condition has cleared: a table per kind of trigger, and whose windows are asked.

```
health < 30, margin 10 %      ──────── holds ────────┤30 within the margin 33├──── clear ────
5 rate limits in 60 s         x x x x x ·12 s· clear once fewer than 4.5 are in the window
```
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emergency_stop.detect.clearance import Clearance
from emergency_stop.detect.compile import compile_plan
from emergency_stop.detect.condition_answers import LIVE_MS, SIGHT_MS, ConditionBook
from emergency_stop.detect.detector import PartitionDetector
from emergency_stop.domain import topics
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import GLOBAL_SCOPE, ConditionState, Scope
from emergency_stop.rules.definitions import read_trigger
from tests.oracle.naive import Event
from tests.oracle.streams import columns_of, new_detector

START = 1_700_000_000_000
CLEAR, HOLDS, UNKNOWN = ConditionState.CLEAR, ConditionState.HOLDS, ConditionState.UNKNOWN
ACCOUNT = Scope.account("acc")


def trigger(trigger_type: str, thresholds: dict[str, float] | None = None, **more: Any) -> Trigger:
    definition = {
        "trigger_id": "t", "name": "t", "trigger_type": trigger_type, "thresholds": thresholds or {},
        "time_window": 60_000, "cooldown_period": 300_000, "stop_level": "immediate", "priority": 1, **more,
    }  # fmt: skip
    return read_trigger(definition, services=())


class Bench:
    """A detector of one trigger, and questions about it."""

    def __init__(self, watched: Trigger, *, partition: int = 0) -> None:
        self.detector: PartitionDetector = new_detector(compile_plan([watched]), partition)
        self.book = ConditionBook(10)
        self._offsets: dict[str, int] = {}

    def feed(self, topic: str, *rows: tuple[int, dict[str, Any]], account: str = "acc") -> Bench:
        """``rows``: (milliseconds after the start, fields)."""
        for after_ms, fields in rows:
            offset = self._offsets.get(topic, 0)
            self._offsets[topic] = offset + 1
            self.detector.on_batch(columns_of(topic, [Event(offset, account, START + after_ms, fields)], offset), 0)
        return self

    def ask(self, after_ms: int, scope: Scope = ACCOUNT, trigger_id: str = "t") -> Clearance:
        return self.book.clearance(self.detector, trigger_id, scope, START + after_ms)


def score(value: float) -> dict[str, Any]:
    return {"health_score": value, "risk_score": value}


def health(*rows: tuple[int, float]) -> list[tuple[int, dict[str, Any]]]:
    return [(after_ms, score(value)) for after_ms, value in rows]


RATE_LIMIT, CALL, ACTIVITY = ({"kind": kind, "outcome": 0.0} for kind in (1.0, 0.0, 5.0))
BELOW_30 = trigger("health_score_critical", {"healthScore": 30})


@pytest.mark.parametrize(
    ("limit", "value", "state"),
    [
        (30, 29.9, HOLDS),
        (30, 30.0, HOLDS),
        (30, 32.9, HOLDS),
        (30, 33.0, CLEAR),
        (96, 97.9, HOLDS),  # 10 % of 96 would be out of reach: half of the way to 100
        (96, 98.0, CLEAR),
        (100, 99.9, HOLDS),
        (100, 100.0, CLEAR),
    ],
)
def test_an_average_clears_a_tenth_of_its_threshold_away(limit: float, value: float, state: ConditionState) -> None:
    bench = Bench(trigger("health_score_critical", {"healthScore": limit}))
    assert bench.feed(topics.TELEMETRY_HEALTH, *health((0, value))).ask(10).state is state


@pytest.mark.parametrize(("value", "state"), [(85.1, HOLDS), (85, HOLDS), (76.6, HOLDS), (76.5, CLEAR), (0, CLEAR)])
def test_a_highest_value_clears_below_its_threshold(value: float, state: ConditionState) -> None:
    bench = Bench(trigger("account_suspension_risk", {"riskScore": 85}))
    assert bench.feed(topics.TELEMETRY_HEALTH, *health((0, value))).ask(10).state is state


@pytest.mark.parametrize(
    ("failed", "state"),
    [(6, HOLDS), (5, HOLDS), (4, CLEAR), (0, CLEAR)],  # of ten; half is too many, 45 % within the margin
)
def test_a_share_clears_below_its_threshold(failed: int, state: ConditionState) -> None:
    bench = Bench(trigger("external_api_failure", {"failureRate": 0.5}))
    rows = [(number, {"kind": 0.0, "outcome": float(number < failed)}) for number in range(10)]
    assert bench.feed(topics.TELEMETRY_PLATFORM, *rows).ask(10).state is state


def test_what_left_the_window_by_now_does_not_count() -> None:
    """The bad value is a minute old, a good one came since; later there is nothing left to tell."""
    bench = Bench(BELOW_30).feed(topics.TELEMETRY_HEALTH, *health((0, 0), (50_000, 60)))
    assert [bench.ask(at).state for at in (50_000, 59_999, 66_000, 130_000)] == [HOLDS, HOLDS, CLEAR, UNKNOWN]
    assert "no sample" in bench.ask(130_000).detail


def test_fewer_samples_than_a_hit_needs_tell_nothing_good() -> None:
    watched = replace(BELOW_30, min_samples=3)
    bench = Bench(watched).feed(topics.TELEMETRY_HEALTH, *health((0, 80), (1, 80)))
    assert bench.ask(10).state is UNKNOWN
    assert bench.feed(topics.TELEMETRY_HEALTH, *health((2, 80))).ask(10).state is CLEAR
    assert Bench(watched).feed(topics.TELEMETRY_HEALTH, *health((0, 10))).ask(10).state is HOLDS


def test_a_count_clears_when_it_is_lower_and_the_rate_is_too() -> None:
    """Five in 60 s fire, so a pause of 12 s is a lower rate. The second leaves the window at 70 s."""
    bench = Bench(trigger("rate_limit_violation", {"violations": 5}))
    bench.feed(topics.TELEMETRY_PLATFORM, *((number * 10_000, RATE_LIMIT) for number in range(6)))
    bench.feed(topics.TELEMETRY_PLATFORM, (60_000, CALL))
    states = {after_ms: bench.ask(after_ms).state for after_ms in (50_000, 59_999, 61_999, 69_999, 70_000, 110_000)}
    assert states == {50_000: HOLDS, 59_999: HOLDS, 61_999: HOLDS, 69_999: HOLDS, 70_000: CLEAR, 110_000: CLEAR}


def test_a_single_event_clears_when_it_has_left_the_window() -> None:
    bench = Bench(trigger("detection_event_critical"))
    bench.feed(topics.TELEMETRY_DETECTION, (0, {"severity": 3.0}), (30_000, {"severity": 0.0}))
    assert [bench.ask(after_ms).state for after_ms in (0, 59_999, 60_000)] == [HOLDS, HOLDS, CLEAR]


def test_absence_is_evidence_only_while_telemetry_arrives() -> None:
    bench = Bench(trigger("detection_event_critical")).feed(topics.TELEMETRY_DETECTION, (0, {"severity": 3.0}))
    assert bench.ask(SIGHT_MS).state is CLEAR
    assert bench.ask(SIGHT_MS + 1).state is UNKNOWN, "nothing of anybody is newer than that"
    bench.feed(topics.TELEMETRY_DETECTION, (100_000, {"severity": 0.0}), account="somebody-else")
    assert bench.ask(SIGHT_MS + 1).state is CLEAR


def test_absence_is_evidence_only_over_a_window_that_was_watched_whole() -> None:
    """The trigger was changed at the start: its window may be another one, and have missed what was before."""
    changed = replace(trigger("rate_limit_violation", {"violations": 1}), updated_at=START)
    bench = Bench(changed).feed(topics.TELEMETRY_PLATFORM, (1, CALL))
    assert [bench.ask(after_ms).state for after_ms in (59_999, 60_000)] == [UNKNOWN, CLEAR]


def test_of_a_cascade_one_half_that_is_clear_is_enough() -> None:
    bench = Bench(trigger("proxy_failure_cascade", {"failures": 2, "distinctProxies": 2}))
    rows = [(number, {"outcome": 1.0, "proxy_id": "one"}) for number in range(2)]
    bench.feed(topics.TELEMETRY_PROXY, *rows)
    assert [bench.ask(after_ms).state for after_ms in (10, 30_000, 30_001)] == [HOLDS, HOLDS, CLEAR]


def test_activity_clears_by_a_pause_or_while_it_is_short() -> None:
    bench = Bench(trigger("time_based_trigger", {"maxActiveMs": 100_000}))
    bench.feed(topics.TELEMETRY_PLATFORM, (0, ACTIVITY), (50_000, ACTIVITY))
    assert bench.ask(50_000).state is CLEAR
    bench.feed(topics.TELEMETRY_PLATFORM, (95_000, ACTIVITY), (110_000, CALL))
    assert [bench.ask(after_ms).state for after_ms in (95_000, 155_000, 155_001)] == [HOLDS, HOLDS, CLEAR]


def test_quiet_hours_hold_until_they_are_over() -> None:
    """2023-11-14 22:13:20 UTC is the start."""
    bench = Bench(trigger("time_based_trigger", options={"quietHours": "22:00-22:20"}))
    bench.feed(topics.TELEMETRY_PLATFORM, (0, ACTIVITY), (350_000, CALL), (390_000, CALL))
    found = {after_ms: bench.ask(after_ms).state for after_ms in (1, 360_000, 399_999, 400_000)}
    assert found == {1: HOLDS, 360_000: HOLDS, 399_999: HOLDS, 400_000: CLEAR}


def test_a_schedule_never_clears() -> None:
    bench = Bench(trigger("time_based_trigger", options={"cron": "0 3 * * *"}, across="accounts"))
    assert bench.ask(10, GLOBAL_SCOPE).state is HOLDS


@pytest.mark.parametrize(
    ("text", "rows", "state"),
    [
        ('avg(health_score, "60s") < 40.0', [(0, 39.0)], HOLDS),
        ('avg(health_score, "60s") < 40.0', [(0, 44.0)], HOLDS),  # less a tenth 39.6
        ('avg(health_score, "60s") < 40.0', [(0, 45.0)], CLEAR),
        ('avg(health_score, "60s") < 95.0', [(0, 97.4)], HOLDS),  # less what is left to 100: 94.8
        ('avg(health_score, "60s") < 95.0', [(0, 97.5)], CLEAR),
        ('count(detection, "60s") >= 1', [(0, 50.0)], UNKNOWN),  # of the topic that it is about nothing came
        ('avg(health_score, "60s") < 40.0 && count(detection, "60s") >= 2', [(0, 10.0)], CLEAR),
        ('avg(health_score, "10s") < 40.0 || count(detection, "60s") >= 2', [(0, 50.0)], UNKNOWN),
        ('count(health, "60s") >= 3', [(0, 50.0)], CLEAR),
        ('count(health, "60s") >= 3', [(0, 50.0), (1, 50.0)], HOLDS),  # one more would do
        ('ratio(health_score < 50.0, "60s") > 0.5', [(0, 10.0), (1, 60.0)], HOLDS),
        ('ratio(health_score < 50.0, "60s") > 0.5', [(0, 10.0), (1, 60.0), (2, 60.0)], CLEAR),
    ],
)
def test_a_rule_clears_where_a_tenth_more_or_less_leaves_it_false(
    text: str, rows: list[tuple[int, float]], state: ConditionState
) -> None:
    bench = Bench(trigger("custom_rule_trigger", rule=text)).feed(topics.TELEMETRY_HEALTH, *health(*rows))
    assert bench.ask(20_000).state is state, bench.ask(20_000)


def test_silence_clears_by_news_that_are_not_almost_as_old_again() -> None:
    bench = Bench(trigger("custom_rule_trigger", rule='absent(health, "30s")'))
    bench.feed(topics.TELEMETRY_HEALTH, *health((0, 50.0)))
    assert [bench.ask(after_ms).state for after_ms in (27_000, 27_001, 30_000)] == [CLEAR, HOLDS, HOLDS]


def test_a_last_value_of_long_ago_tells_nothing_good() -> None:
    bench = Bench(trigger("custom_rule_trigger", rule="last(risk_score) > 97.0"))
    bench.feed(topics.TELEMETRY_HEALTH, *health((0, 50.0)))
    bench.feed(topics.TELEMETRY_HEALTH, *health((299_999, 50.0)), account="somebody-else")
    assert [bench.ask(after_ms).state for after_ms in (300_000, 300_001)] == [CLEAR, UNKNOWN]
    bench.feed(topics.TELEMETRY_HEALTH, *health((300_001, 99.0)))
    assert bench.ask(700_000).state is HOLDS


def test_an_answer_explains_itself() -> None:
    found = Bench(BELOW_30).feed(topics.TELEMETRY_HEALTH, *health((0, 31))).ask(10)
    assert found.detail == "avg(health_score,60000ms,0) = 31 of 1 samples, clear from 33"
    bench = Bench(trigger("custom_rule_trigger", rule="last(risk_score) > 97.0"))
    assert (
        bench.feed(topics.TELEMETRY_HEALTH, *health((0, 96.0)))
        .ask(10)
        .detail.endswith("last(risk_score) = 96; it is false, but values within 10 % may make it true")
    )


# ---------------------------------------------------------------------------------------------- whom it is about


def test_nobody_knows_of_an_account_that_was_never_seen_or_a_trigger_that_is_none() -> None:
    bench = Bench(BELOW_30).feed(topics.TELEMETRY_HEALTH, *health((0, 90)))
    assert bench.ask(10, Scope.account("stranger")).state is UNKNOWN
    assert bench.ask(10, trigger_id="gone").state is UNKNOWN
    assert bench.ask(10, GLOBAL_SCOPE).state is UNKNOWN, "it watches accounts, one by one"


CPU = trigger("system_resource_critical", {"cpuPercent": 90})


def load(percent: float) -> dict[str, Any]:
    return {"cpu_percent": percent, "memory_bytes": 0.0}


def test_a_service_is_clear_when_all_its_live_hosts_are() -> None:
    bench = Bench(CPU)
    for host, percent in (("alpha@one", 20.0), ("alpha@two", 95.0), ("beta@one", 99.0)):
        bench.feed(topics.TELEMETRY_SYSTEM, (0, load(percent)), account=host)
    alpha = Scope.service("alpha")
    found = bench.ask(10, alpha)
    assert (found.state, found.subjects, "alpha@two" in found.detail) == (HOLDS, 2, True)
    bench.feed(topics.TELEMETRY_SYSTEM, (100_000, load(20.0)), account="alpha@one")
    assert bench.ask(100_000, alpha).state is UNKNOWN, "two said nothing for a window, and may be alive"
    bench.feed(topics.TELEMETRY_SYSTEM, (LIVE_MS, load(20.0)), account="alpha@one")
    found = bench.ask(LIVE_MS + 1, alpha)
    assert (found.state, found.subjects) == (CLEAR, 1)
    assert bench.ask(10, Scope.service("gamma")).subjects == 0


def test_a_value_over_all_accounts_is_told_by_the_partition_that_has_the_sum() -> None:
    watched = trigger("health_score_critical", {"healthScore": 30}, across="accounts")
    parts = Bench(watched, partition=1).feed(topics.TELEMETRY_HEALTH, *health((0, 20.0)))
    whole = Bench(watched)
    assert parts.ask(10, GLOBAL_SCOPE) == Clearance(CLEAR, "its part is in the sum", 1)
    assert parts.ask(SIGHT_MS + 1, GLOBAL_SCOPE).subjects == 0
    assert whole.ask(10, GLOBAL_SCOPE).state is UNKNOWN, "no part yet"
    for after_ms, value, state in ((0, None, HOLDS), (30_000, 80.0, CLEAR), (60_000, None, CLEAR)):
        if value is not None:
            parts.feed(topics.TELEMETRY_HEALTH, *health((after_ms, value)))
        for part in parts.detector.take_parts():
            whole.detector.on_part(part, (topics.PARTIALS, 0), 0)
        assert whole.ask(after_ms, GLOBAL_SCOPE).state is state
    assert whole.ask(95_000, GLOBAL_SCOPE).state is UNKNOWN, "everything has left the window"
    assert whole.ask(10).state is UNKNOWN, "it tells nothing of one account"
