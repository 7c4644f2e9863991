"""What a process leaves off past its bounds never changes what it decides, nor what it keeps."""

from __future__ import annotations

import os
import random

import pytest

from emergency_stop.detect.compile import compile_plan
from emergency_stop.detect.detector import PartitionDetector
from emergency_stop.detect.recording import PERIOD_MS
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Evaluation
from emergency_stop.domain.trigger_definitions import parse_trigger
from tests.oracle.evaluations import recording_detector
from tests.oracle.naive import Event
from tests.oracle.streams import TOPICS, columns_of, encoded, random_events, random_triggers

SEED = int(os.environ.get("SEED", "20"))
START = 1_700_000_040_000 - 1_700_000_040_000 % PERIOD_MS


def periods(detector: PartitionDetector) -> dict[str, Evaluation]:
    """All that wait, by id."""
    found: dict[str, Evaluation] = {}
    while (period := detector.recorder.take_period(0)) is not None:
        found |= {one.evaluation_id: one for one in period}
    return found


def compare(seed: int) -> tuple[int, int, int, int]:
    """(hits, rows of the whole stream, rows left where shedding comes and goes, evaluations shed)."""
    rng, moods = random.Random(seed), random.Random(f"moods {seed}")
    topic = rng.choice(tuple(TOPICS))
    plan = compile_plan(trigger for trigger, _ in random_triggers(rng, topic))
    stream, at, hits = random_events(rng, topic, rng.randrange(1, 400)), 0, 0
    whole, shedding = recording_detector(plan, 5), recording_detector(plan, 5)
    told, kept = dict[str, Evaluation](), dict[str, Evaluation]()
    while at < len(stream):
        batch = stream[at : at + rng.randrange(1, 40)]
        at += len(batch)
        shedding.recorder.sheds = moods.random() < 0.3
        fired, also = (
            list(map(encoded, one.on_batch(columns_of(topic, batch, batch[0].offset), 0))) for one in (whole, shedding)
        )
        assert fired == also, f"seed {seed}"
        hits += len(fired)
        assert whole.recorder.take_changes() == shedding.recorder.take_changes(), f"seed {seed}"
        if moods.random() < 0.3:
            names = whole.dirty()
            assert names == shedding.dirty(), f"seed {seed}"
            assert [whole.write(name) for name in names] == [shedding.write(name) for name in names], f"seed {seed}"
        told |= periods(whole)
        kept |= periods(shedding)
    assert all(told[name] == one for name, one in kept.items()), f"seed {seed}: half a period is told"
    return hits, len(told), len(kept), shedding.recorder.evaluations_shed


def test_hits_changes_and_state_are_byte_for_byte_the_same_with_and_without() -> None:
    """50 random streams and sets of triggers; what is told of periods is a part, each period whole."""
    found = [compare(seed) for seed in range(SEED * 1_000, SEED * 1_000 + 50)]
    hits, told, kept, shed = (sum(counts) for counts in zip(*found, strict=True))
    assert told > kept
    assert min(hits, kept, shed) > 100, (hits, kept, shed)


class Bench:
    """A detector of one trigger that never fires, and an event every ten seconds."""

    def __init__(self) -> None:
        definition = {
            "trigger_id": "t", "name": "t", "trigger_type": "health_score_critical", "thresholds": {"healthScore": 10},
            "time_window": 60_000, "cooldown_period": 0, "stop_level": "immediate", "priority": 1,
        }  # fmt: skip
        self.detector = recording_detector(compile_plan([parse_trigger(definition, services=())]), 5)
        self._sent = 0

    def minute(self) -> None:
        """Six events."""
        for _ in range(6):
            event = Event(self._sent, "acc", START + self._sent * 10_000, {"health_score": 50.0, "risk_score": 0.0})
            self._sent += 1
            self.detector.on_batch(columns_of(topics.TELEMETRY_HEALTH, [event], event.offset), 0)

    def told(self) -> list[int]:
        """How many evaluations each row tells of, in the order of time."""
        found = sorted(periods(self.detector).values(), key=lambda one: one.evaluated_at)
        return [one.evaluations for one in found]


def test_every_evaluation_is_told_or_counted_as_shed() -> None:
    """Each minute is shed as a whole, also one of which half was recorded already.

    ```
    minute   0     1     2     3     4     5 (under way)
    sheds             ▓▓▓▓▓▓▓▓
    told     6     -     -     6     6
    ```
    """
    bench = Bench()
    bench.minute()
    bench.minute()
    assert bench.told() == [6]
    bench.detector.recorder.sheds = True  # before the second minute has ended: half of it would tell too little
    bench.minute()
    assert bench.told() == []
    bench.detector.recorder.sheds = False
    bench.minute()
    bench.minute()
    bench.minute()
    assert bench.told() == [6, 6]
    assert bench.detector.recorder.evaluations_shed == 12
    assert bench.detector.recorder.periods_dropped == 0


def test_periods_that_wait_are_shed_too_and_counted() -> None:
    bench = Bench()
    for _ in range(4):
        bench.minute()
    bench.detector.recorder.sheds = True
    assert bench.told() == []
    assert bench.detector.recorder.evaluations_shed == 18
    bench.detector.recorder.sheds = False
    bench.minute()
    assert bench.told() == [6], "the minute that was under way had no event while it shed"


@pytest.mark.parametrize("idle", [1, 3])
def test_a_quiet_topic_is_shed_once(idle: int) -> None:
    bench = Bench()
    bench.detector.recorder.sheds = True
    bench.minute()
    for _ in range(idle + 1):
        bench.detector.recorder.sum_up_idle(iter(bench.detector.topics.values()))
    assert bench.told() == []
    assert bench.detector.recorder.evaluations_shed == 6
