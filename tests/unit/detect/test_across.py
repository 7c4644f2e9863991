"""One value over all accounts: what the parts add up to is what one window over everything would hold."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from emergency_stop.detect.across import PARTITIONS_MAX, ROW_BYTES_MAX, NoPartError
from emergency_stop.detect.compile import compile_plan
from emergency_stop.detect.detector import PartitionDetector
from emergency_stop.detect.standing import reasons_against
from emergency_stop.detect.unwatched_parts import UNWATCHED_BYTES_MAX
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Hit, Partial
from emergency_stop.domain.trigger_definitions import parse_trigger
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import TriggerType
from tests.oracle.naive import PANES, Event
from tests.oracle.streams import columns_of, new_detector, random_events

SEED = int(os.environ.get("SEED", "20"))
PARTITIONS = 3
START = 1_700_000_000_000


def across(trigger_type: str, thresholds: dict[str, float], **more: Any) -> Trigger:
    definition = {
        "trigger_id": "all", "name": "all", "trigger_type": trigger_type, "thresholds": thresholds,
        "time_window": 60_000, "cooldown_period": 0, "stop_level": "immediate", "priority": 1, "across": "accounts",
        **more,
    }  # fmt: skip
    return parse_trigger(definition, services=())


class Partitions:
    """Detectors of three partitions, and the log of parts that the first one reads."""

    def __init__(self, watched: Trigger, topic: str) -> None:
        self._plan, self._topic = compile_plan([watched]), topic
        self.detectors = [new_detector(self._plan, partition=number) for number in range(PARTITIONS)]
        self._positions = [0] * PARTITIONS
        self.log: list[Partial] = []

    def feed(self, partition: int, events: list[Event]) -> list[Hit]:
        """Apply events on one partition; hits of the parts that follow."""
        first = self._positions[partition]
        placed = [Event(first + number, event.account, event.at, event.values) for number, event in enumerate(events)]
        self._positions[partition] += len(events)
        assert self.detectors[partition].on_batch(columns_of(self._topic, placed, first), 0) == []
        parts = self.detectors[partition].take_parts()
        self.log += parts
        found = []
        for part in parts:
            found += self.detectors[0].on_part(part, (topics.PARTIALS, len(self.log)), 0)
        return found

    def crash(self, partition: int) -> PartitionDetector:
        """What is durable is put into a successor."""
        detector = self.detectors[partition]
        records = [(name, detector.write(name)) for name in detector.dirty()]
        self.detectors[partition] = new_detector(self._plan, partition=partition)
        self.detectors[partition].load(records, {self._topic: self._positions[partition]})
        return self.detectors[partition]


class Naive:
    """Everything that a partition took, in one heap."""

    def __init__(self, window_ms: int, field: str, *, paned: bool) -> None:
        self._window_ms, self._field, self._paned = window_ms, field, paned
        self._pane_ms = -(-window_ms // PANES)
        self._taken: list[tuple[int, Any]] = []
        self._newest: dict[int, int] = {}

    def take(self, partition: int, event: Event) -> None:
        newest = self._newest.get(partition)
        if newest is not None and not self._inside(event.at, newest):
            return
        self._newest[partition] = event.at if newest is None else max(newest, event.at)
        self._taken.append((event.at, event.values.get(self._field)))

    def _inside(self, moment: int, until: int) -> bool:
        if self._paned:
            return moment // self._pane_ms > until // self._pane_ms - PANES
        return moment > until - self._window_ms

    def window(self) -> list[Any]:
        until = max(moment for moment, _ in self._taken)
        return [value for moment, value in self._taken if self._inside(moment, until)]


@pytest.mark.parametrize(
    ("watched", "topic", "field", "fold"),
    [
        (across("health_score_critical", {"healthScore": 50}), topics.TELEMETRY_HEALTH, "health_score", "avg"),
        (across("account_suspension_risk", {"riskScore": 98}), topics.TELEMETRY_HEALTH, "risk_score", "max"),
        (across("detection_event_critical", {"eventCount": 16}, options={"minSeverity": "low"}),
         topics.TELEMETRY_DETECTION, "severity", "count"),
        (across("rate_limit_violation", {"violations": 8}), topics.TELEMETRY_PLATFORM, "kind", "kinds"),
    ],
    ids=["average", "highest", "count", "filtered"],
)  # fmt: skip
def test_the_value_over_all_accounts_is_the_naive_one(watched: Trigger, topic: str, field: str, fold: str) -> None:
    """Random batches on three partitions that crash now and then."""
    rng = random.Random(SEED)
    partitions, naive = Partitions(watched, topic), Naive(60_000, field, paned=fold in ("avg", "max"))
    events, compared = random_events(rng, topic, 1_500), 0
    while events:
        partition, size = rng.randrange(PARTITIONS), rng.randrange(1, 30)
        batch, events = events[:size], events[size:]
        for event in batch:
            if fold != "kinds" or event.values["kind"] == 1.0:
                naive.take(partition, event)
        parts = len(partitions.log)
        hits = partitions.feed(partition, batch)
        wanted = _folded(fold, naive.window()) if len(partitions.log) > parts else None
        fires = wanted is not None and _fires(watched, wanted)
        assert [hit.scope for hit in hits] == ["global"] * fires, f"seed {SEED}"
        if hits:
            compared += 1
            assert hits[0].observed == pytest.approx(wanted), f"seed {SEED}"
        if rng.random() < 0.1:
            partitions.crash(rng.randrange(PARTITIONS))
    assert compared > 10


def _folded(fold: str, values: list[Any]) -> float:
    if fold == "avg":
        return float(sum(values)) / len(values)
    if fold == "max":
        return float(max(values))
    return float(min(len(values), 16 if fold == "count" else 8))


def _fires(watched: Trigger, value: float) -> bool:
    (limit,) = watched.thresholds.values()
    if watched.trigger_type is TriggerType.HEALTH_SCORE_CRITICAL:
        return value < limit
    return value > limit if watched.trigger_type is TriggerType.ACCOUNT_SUSPENSION_RISK else value >= limit


def scores(*values: float, at: int = START) -> list[Event]:
    return [Event(0, f"acc-{n}", at + n, {"health_score": value, "risk_score": 0.0}) for n, value in enumerate(values)]


def test_a_condition_over_all_accounts_fires_once_for_all_and_then_cools_down() -> None:
    watched = across("health_score_critical", {"healthScore": 30}, cooldown_period=300_000)
    partitions = Partitions(watched, topics.TELEMETRY_HEALTH)
    assert partitions.feed(1, scores(80, 90)) == []
    (hit,) = partitions.feed(2, scores(0, 0, 0, 0, 0))
    assert (hit.scope, hit.account_id, hit.observed, hit.window_samples) == ("global", None, 170 / 7, 7)
    assert hit.reason == "average health_score over all accounts 24.2857 over 60 s is below 30"
    assert partitions.feed(2, scores(0)) == []


def test_where_all_accounts_stand_is_told() -> None:
    watched = across("health_score_critical", {"healthScore": 30}, min_samples=4)
    partitions = Partitions(watched, topics.TELEMETRY_HEALTH)
    assert partitions.detectors[0].overall_standing("another") is None
    partitions.feed(1, scores(80, 20))
    partitions.crash(0)
    standing = partitions.detectors[0].overall_standing("all")
    assert standing is not None
    assert (standing.terms[0].window.value, standing.terms[0].window.samples) == (50.0, 2)
    missing, few = reasons_against(standing)
    assert missing.endswith("= 50 is not below 30 (margin 20)")
    assert few == "2 samples in the window, min_samples=4"


def test_a_part_that_comes_again_changes_nothing() -> None:
    """Two lanes write the same parts, and a successor writes its predecessor's again."""
    watched = across("detection_event_critical", {"eventCount": 2})
    partitions = Partitions(watched, topics.TELEMETRY_DETECTION)
    critical = [Event(0, "acc", START, {"severity": 3.0})]
    partitions.feed(0, critical)
    assert partitions.detectors[0].on_part(partitions.log[0], (topics.PARTIALS, 9), 0) == []
    partitions.crash(0)
    (again,) = partitions.detectors[0].take_parts()
    assert again == partitions.log[0]
    assert partitions.detectors[0].on_part(again, (topics.PARTIALS, 10), 0) == []
    (hit,) = partitions.feed(1, critical)
    assert hit.observed == 2.0


def test_the_cooldown_over_all_accounts_survives_a_crash() -> None:
    watched = across("detection_event_critical", {"eventCount": 1}, cooldown_period=60_000)
    partitions = Partitions(watched, topics.TELEMETRY_DETECTION)
    assert len(partitions.feed(1, [Event(0, "acc", START, {"severity": 3.0})])) == 1
    partitions.crash(0)
    assert partitions.feed(1, [Event(0, "acc", START + 59_999, {"severity": 3.0})]) == []
    (hit,) = partitions.feed(1, [Event(0, "acc", START + 60_000, {"severity": 3.0})])
    assert hit.suppressed_before == 1


def part_of(series: str, partition: int, next_offset: int = 1, row: bytes = bytes(152)) -> Partial:
    return Partial(topics.TELEMETRY_HEALTH, series, partition, next_offset, row)


def test_parts_of_series_that_nobody_watches_are_kept_within_bounds_and_so_is_their_record() -> None:
    detector = new_detector(compile_plan([]))
    for number in range(5_000):
        detector.on_part(part_of(f"avg(score_{number},60000ms,0,across)", number % 7), (topics.PARTIALS, number), 0)
    assert detector._overall._unwatched.size_bytes <= UNWATCHED_BYTES_MAX
    record = detector.write("overall")
    assert len(record) < 2 * UNWATCHED_BYTES_MAX
    successor = new_detector(compile_plan([]))
    successor.load([("overall", record)], {})
    assert successor.write("overall") == record


def test_a_part_that_came_before_its_trigger_counts_once_that_is_watched() -> None:
    """Detectors take up a trigger one after the other; and a crash lies between."""
    watched = across("detection_event_critical", {"eventCount": 2})
    partitions = Partitions(watched, topics.TELEMETRY_DETECTION)
    early = new_detector(compile_plan([]))
    critical = [Event(0, "acc", START, {"severity": 3.0})]
    partitions.feed(1, critical)
    early.on_part(partitions.log[0], (topics.PARTIALS, 0), 0)
    successor = new_detector(compile_plan([]))
    successor.load([("overall", early.write("overall"))], {})
    successor.replan(compile_plan([watched]))
    partitions.feed(2, critical)
    (hit,) = successor.on_part(partitions.log[1], (topics.PARTIALS, 1), 0)
    assert hit.observed == 2.0


@pytest.mark.parametrize(
    "part",
    [part_of("s", -1), part_of("s", PARTITIONS_MAX), part_of("s", 0, row=bytes(ROW_BYTES_MAX + 8))],
    ids=["a partition before all", "a partition behind all", "a row that is too long"],
)
def test_what_no_detector_writes_is_no_part_whoever_watches(part: Partial) -> None:
    detector = new_detector(compile_plan([]))
    with pytest.raises(NoPartError, match="allowed"):
        detector.on_part(part, (topics.PARTIALS, 0), 0)
    assert list(detector._overall._unwatched) == []
