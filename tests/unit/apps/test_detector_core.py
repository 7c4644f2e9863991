"""The detector as its worker sees it: whatever anybody writes to its own topics, it does not fall over it."""

from __future__ import annotations

import random
import sys
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from emergency_stop.apps.detector_core import DetectorCore
from emergency_stop.columnar.batches import Scratch
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.detect.compile import compile_plan
from emergency_stop.detect.plan import Plan
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Hit, Partial, Tick
from emergency_stop.domain.trigger_definitions import parse_trigger
from emergency_stop.rules.definitions import read_trigger
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.oracle.naive import Event
from tests.oracle.streams import columns_of, new_detector

NOW = 1_700_000_000_000
CODEC = Codec(LocalRegistry())
COMMON = {"name": "all", "cooldownPeriod": 0, "stopLevel": "immediate", "priority": 1, "across": "accounts"}


def over_all() -> Plan:
    """An average, a count and a distinct count over all accounts."""
    average = COMMON | {
        "triggerId": "avg", "triggerType": "health_score_critical", "thresholds": {"healthScore": 50},
        "timeWindow": 60_000,
    }  # fmt: skip
    cascade = COMMON | {
        "triggerId": "proxies", "triggerType": "proxy_failure_cascade", "timeWindow": 60_000,
        "thresholds": {"failures": 3, "distinctProxies": 2},
    }  # fmt: skip
    return compile_plan(parse_trigger(one, services=()) for one in (average, cascade))


def minutely() -> Plan:
    """A schedule that is due every minute."""
    definition = COMMON | {"triggerId": "cron", "triggerType": "time_based_trigger", "options": {"cron": "* * * * *"}}
    return compile_plan([read_trigger(definition, services=())])


class Bench:
    """One core, and the end of each of its own topics."""

    def __init__(self, plan: Plan) -> None:
        self.core = DetectorCore(LocalRegistry(), CODEC, lambda: plan, Scratch(), enforcing=True)
        self._ends: dict[str, int] = {}

    def read(self, topic: str, message: Any, now_ms: int = NOW) -> list[str]:
        """The ids of the triggers that fire on a record."""
        offset = self._ends.get(topic, 0)
        self._ends[topic] = offset + 1
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 100_000)
        builder.append(0, now_ms, None, CODEC.encode(message, topic), [])
        raw = bytearray(builder.build())
        raw[:8] = offset.to_bytes(8, "big")
        found = self.core.on_batch(FetchedBatch(topic, 0, offset, offset + 1, (bytes(raw),)), now_ms)
        return [CODEC.decode(Hit, effect.value).trigger_id for effect in found]


def part_of_sick_accounts(next_offset: int) -> Partial:
    """What a partition writes whose only score is 10."""
    detector = new_detector(over_all())
    event = Event(next_offset - 1, "acc", NOW, {"health_score": 10.0, "risk_score": 0.0})
    detector.on_batch(columns_of(topics.TELEMETRY_HEALTH, [event], next_offset - 1), 0)
    (part,) = detector.take_parts()
    return part


def series_names() -> list[tuple[str, str]]:
    return [(one.topic, one.name) for group in over_all().across for one in group.shape.series]


@pytest.mark.parametrize(("topic", "series"), series_names())
def test_a_part_that_is_none_is_skipped(topic: str, series: str) -> None:
    """Of any length, of noise, and with a moment before all moments; seed 5."""
    rng, bench = random.Random(5), Bench(over_all())
    lengths = [*range(200), 4_000]
    for length in lengths:
        for start in (b"", (-(2**63)).to_bytes(8, sys.byteorder, signed=True)):
            bench.read(topics.PARTIALS, Partial(topic, series, 1, 2**40 + length, start + rng.randbytes(length)))
    assert bench.core.undecodable >= 2 * len(lengths) - 4
    assert bench.read(topics.PARTIALS, part_of_sick_accounts(7)) == ["avg"]


def test_a_part_of_a_series_that_is_watched_later_is_checked_then() -> None:
    topic, series = series_names()[0]
    plans = [minutely()]
    bench = Bench(plans[0])
    bench.core._plan = lambda: plans[-1]  # as the book does it
    bench.read(topics.PARTIALS, Partial(topic, series, 1, 2**40, b"noise"))
    plans.append(over_all())
    assert bench.read(topics.PARTIALS, part_of_sick_accounts(7)) == ["avg"]


@pytest.mark.parametrize("at", [-(2**63), -1, NOW + 120_000, 2**62, 2**63 - 1])
def test_a_tick_that_no_clock_wrote_does_not_stop_the_clock(at: int) -> None:
    bench = Bench(minutely())
    assert bench.read(topics.TICKS, Tick(0, at)) == []
    assert bench.core.undecodable == 1
    bench.read(topics.TICKS, Tick(0, NOW))
    assert bench.read(topics.TICKS, Tick(0, NOW + 60_000), NOW + 60_000) == ["cron"]
