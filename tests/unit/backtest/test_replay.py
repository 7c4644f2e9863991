"""What a replay gives a detector, in which order: against the naive twin, and what detectors make of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from emergency_stop.apps.backtest.plans import Change as Written
from emergency_stop.apps.backtest.plans import PlanFrom, fixed, of_the_time
from emergency_stop.apps.backtest.replay import PartitionReplay, TickAt, order_of
from emergency_stop.apps.backtest.seen import Seen, put_in_order
from emergency_stop.columnar.columns import Columns
from emergency_stop.detect.plan import Plan
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.topics import TELEMETRY_BEHAVIORAL, TELEMETRY_DETECTION, TELEMETRY_HEALTH, TICKS
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.definitions import read_trigger
from tests.oracle.replays import Entry, follows, order
from tests.unit.backtest.arrived import arrived

START, SEED = 1_700_000_000_000, 7
TOPICS = (TELEMETRY_HEALTH, TELEMETRY_DETECTION, TELEMETRY_BEHAVIORAL)


def trigger(**more: Any) -> Trigger:
    common = {
        "name": "t",
        "triggerType": "custom_rule_trigger",
        "cooldownPeriod": 0,
        "stopLevel": "graceful",
        "priority": 1,
    }
    return read_trigger(common | more, services=())


EVERYTHING = trigger(
    triggerId="all",
    rule='absent(behavioral, "2s") || (avg(health_score, "60s") < 40.0 && count(detection, "5m") >= 2)',
)


class Noted(PartitionReplay):
    """Notes what its detector was given."""

    def __init__(self, first: PlanFrom) -> None:
        super().__init__(first, 0, frozenset(), enforcing=True, interval_ms=1_000)
        self.given: list[tuple[str, str, int]] = []
        self.plans = 0
        on_batch, on_tick, replan = self.detector.on_batch, self.detector.on_tick, self.detector.replan

        def note_batch(columns: Columns, now_ms: int) -> list[Hit]:
            self.given += [("row", columns.topic, offset) for offset in columns.offset.tolist()]
            return on_batch(columns, now_ms)

        def note_tick(at_ms: int, source: tuple[str, int], now_ms: int) -> list[Hit]:
            self.given.append(("tick", *source))
            return on_tick(at_ms, source, now_ms)

        def note_plan(plan: Plan) -> None:
            self.given.append(("change", "plan", self.plans))
            self.plans += 1
            replan(plan)

        self.detector.on_batch = note_batch  # type: ignore[method-assign]
        self.detector.on_tick = note_tick  # type: ignore[method-assign]
        self.detector.replan = note_plan  # type: ignore[method-assign]


def stream(rng: random.Random) -> list[Entry]:
    """Rows of three topics whose timestamps now and then go back, ticks, and changes of triggers."""
    entries = []
    for topic in TOPICS:
        at_ms = START
        for offset in range(rng.randrange(40)):
            at_ms += rng.randrange(4)
            entries.append(Entry("row", topic, offset, at_ms - rng.randrange(8)))
    entries += [Entry("tick", TICKS, number, START + 7 * number) for number in range(8)]
    entries += [Entry("change", "plan", number, START + 11 * number + 5) for number in range(rng.randrange(3))]
    return entries


def play(entries: Sequence[Entry], told: Sequence[Seen] = ()) -> list[tuple[str, str, int]]:
    replay = Noted(fixed([EVERYTHING])[0])
    rows = {
        topic: arrived(topic, found)
        for topic in TOPICS
        if (found := [(one.at_ms, "a", {"health_score": 50.0}) for one in entries if one.topic == topic])
    }
    ticks = [TickAt.behind(one.at_ms, one.offset, one.at_ms) for one in entries if one.kind == "tick"]
    changes = [PlanFrom(one.at_ms, fixed([EVERYTHING])[0].plan, ()) for one in entries if one.kind == "change"]
    placed, moved = put_in_order(rows, ticks, told)
    replay.play(placed, moved, changes, START + 1_000)
    return replay.given


@pytest.mark.parametrize("seed", range(SEED, SEED + 40))
def test_topics_that_share_a_condition_are_interleaved_as_the_naive_twin_does(seed: int) -> None:
    entries = stream(random.Random(seed))
    assert play(entries) == order(entries)


@pytest.mark.parametrize("seed", range(SEED, SEED + 40))
def test_what_hits_tell_of_the_order_is_heeded(seed: int) -> None:
    """The order of a detector that read one topic late, now and then: hits of it name what had been read."""
    rng = random.Random(seed)
    entries = [one for one in stream(rng) if one.kind != "change"]
    late = [Entry(one.kind, one.topic, one.offset, one.at_ms + rng.choice((0, 0, 30))) for one in entries]
    real = order(late)
    told, read = [], dict.fromkeys((*TOPICS, TICKS), 0)
    for kind, topic, offset in real:
        if rng.random() < 0.3:
            others = {name: read[name] for name in TOPICS if name != topic}
            told.append(Seen(topic, offset, others))
        read[topic] = offset + 1
        assert kind in ("row", "tick")
    found = play(entries, told)
    assert sorted(found) == sorted(real)
    assert follows(found, [(one.topic, one.offset, dict(one.others)) for one in told])
    # And the twin can tell: the order by timestamps alone does not follow a detector that was late.
    assert follows(real, [(one.topic, one.offset, dict(one.others)) for one in told])


def test_topics_that_share_nothing_are_one_batch_each() -> None:
    plan = fixed(
        [
            trigger(triggerId="h", rule="last(health_score) < 5.0"),
            trigger(triggerId="d", rule='count(detection, "5m") >= 9'),
        ]
    )
    assert [(one.topics, one.by_clock, one.in_parts) for one in order_of(plan[0].plan, frozenset())] == [
        ((TELEMETRY_DETECTION,), False, False), ((TELEMETRY_HEALTH,), False, False),
    ]  # fmt: skip
    shared = order_of(fixed([EVERYTHING])[0].plan, frozenset())
    assert [(one.topics, one.by_clock, one.in_parts) for one in shared] == [(tuple(sorted(TOPICS)), True, False)]


def test_parts_are_taken_only_where_none_are_on_record() -> None:
    across = trigger(
        triggerId="all", triggerType="health_score_critical", thresholds={"healthScore": 30}, timeWindow=60_000,
        across="accounts",
    )  # fmt: skip
    (first,) = fixed([across])
    (series,) = first.plan.topics[TELEMETRY_HEALTH].across
    rows = {
        TELEMETRY_HEALTH: arrived(TELEMETRY_HEALTH, [(START + 400 * n, "a", {"health_score": 9.0}) for n in range(6)])
    }
    made = PartitionReplay(first, 0, frozenset(), enforcing=True, interval_ms=1_000)
    made.play(rows, (), (), START + 10_000)
    assert [(one.at_ms, one.part.next_offset) for one in made.parts] == [
        (START + 999, 3), (START + 1_999, 5), (START + 2_999, 6),
    ]  # fmt: skip
    recorded = PartitionReplay(
        first, 0, frozenset({(TELEMETRY_HEALTH, series.name)}), enforcing=True, interval_ms=1_000
    )
    recorded.play(rows, (), (), START + 10_000)
    assert recorded.parts == []


def test_hits_are_those_of_the_triggers_of_the_time() -> None:
    """The threshold is 10 at first, and 60 for what is written after 2,000 ms: a version each."""
    first = trigger(
        triggerId="h", triggerType="health_score_critical", thresholds={"healthScore": 10}, timeWindow=1_000
    )
    second = trigger(
        triggerId="h", triggerType="health_score_critical", thresholds={"healthScore": 60}, timeWindow=1_000, version=2
    )
    removed = trigger(
        triggerId="h", triggerType="health_score_critical", thresholds={"healthScore": 60}, timeWindow=1_000
    )
    changes = [Written(START - 5, first), Written(START + 2_000, second), Written(START + 4_000, _gone(removed))]
    plans = of_the_time(changes, (), START)
    assert [one.from_ms for one in plans] == [START, START + 2_000, START + 4_000]
    scores = [(1_000, "a", 50.0), (1_900, "b", 5.0), (2_000, "c", 50.0), (2_001, "d", 50.0), (4_001, "e", 5.0)]
    rows = [(START + at, account, {"health_score": score}) for at, account, score in scores]
    replay = PartitionReplay(plans[0], 0, frozenset(), enforcing=True, interval_ms=1_000)
    replay.play({TELEMETRY_HEALTH: arrived(TELEMETRY_HEALTH, rows)}, (), plans[1:], START + 5_000)
    found = [(hit.scope, hit.trigger_version, hit.detected_at - START) for hit in replay.hits]
    assert found == [("account:b", 1, 1_900), ("account:d", 2, 2_001)]


def _gone(one: Trigger) -> Trigger:
    return replace(one, removed=True, is_active=False, version=3)
