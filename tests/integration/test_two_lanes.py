"""Two lanes of detectors: every hit comes from both under one id, and a lane begins where the other stands."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.adapters.state_log import RestoredState, StateLog, read_state
from emergency_stop.adapters.state_seed import SEED_AFTER_MS, StateSource, read_seeded
from emergency_stop.apps.stack.child import Child
from emergency_stop.config import EXIT_CONFIG, Settings
from emergency_stop.domain.messages import Freshness, Hit
from emergency_stop.domain.topics import DETECTOR_STATE, DETECTOR_STATE_B, FRESHNESS, HITS, TELEMETRY_HEALTH, TopicSpec
from emergency_stop.testing.brokers import EmbeddedBroker
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.bench.latency import probe, publish_default_triggers

pytestmark = pytest.mark.needs("broker")
READY_MS = 180_000
DEADLINE_S = 90


class Detectors:
    """Processes of both lanes on one broker, and all hits that they publish."""

    def __init__(self, settings: Settings, folder: Path, publisher: KafkaPublisher) -> None:
        self.settings, self.publisher = settings, publisher
        self.codec = Codec(LocalRegistry())
        self.hits: list[Hit] = []
        self.lanes = {
            lane: Child(f"lane-{lane}", ["detector"], replace(settings, detector_lane=lane), folder / f"{lane}.log")
            for lane in "ab"
        }

    def take(self, record: TailRecord) -> None:
        self.hits.append(self.codec.decode(Hit, record.value))

    async def start(self, lane: str) -> None:
        self.lanes[lane].start()
        await self.lanes[lane].ready(READY_MS)

    def times(self, account: str) -> list[int]:
        """How often each hit of the account was published, by its id."""
        return sorted(Counter(hit.hit_id for hit in self.hits if hit.account_id == account).values())


@asynccontextmanager
async def _detectors(brokers: str, folder: Path) -> AsyncIterator[Detectors]:
    settings = Settings(brokers=brokers, data_dir=folder, checkpoint_interval_ms=100, blind_after_ms=3_000)
    await ensure_topics(brokers, settings.topics())
    publisher = KafkaPublisher(brokers, client_id="two-lanes")
    await publisher.start()
    detectors = Detectors(settings, folder, publisher)
    tail = CompactedTail(brokers, HITS, detectors.take, client_id="two-lanes")
    await tail.start()
    await publish_default_triggers(publisher, detectors.codec)
    try:
        yield detectors
    finally:
        for child in detectors.lanes.values():
            await child.stop()
        await tail.stop()
        await publisher.stop()


async def _until(true: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not true():  # noqa: ASYNC110  (a state to poll, not an event)
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"not within {DEADLINE_S} s: {what}")


async def test_a_hit_comes_from_both_lanes_under_one_id_and_a_new_lane_repeats_no_old_ones(tmp_path: Path) -> None:
    """Lane b starts late, and lane a is killed.

    ```
    events   old        both         alone
    lane a   start─────────────kill
    lane b        start──────────────────
    ```
    """
    with EmbeddedBroker(tmp_path) as broker:
        async with _detectors(broker.bootstrap, tmp_path) as detectors:
            await detectors.start("a")
            await probe(detectors.publisher, "old")
            await _until(lambda: detectors.times("old"), "the first hit")
            await _until_durable(broker.bootstrap)
            await detectors.start("b")
            await probe(detectors.publisher, "both")
            await _until(lambda: detectors.times("both") == [2], "the hit of both lanes, under one id")
            detectors.lanes["a"].kill()
            await probe(detectors.publisher, "alone")
            await _until(lambda: detectors.times("alone") == [1], "the hit of the lane that is left")
            assert detectors.times("old") == [1]
            assert "begins from estop.detector-state, which is further on" in detectors.lanes["b"].log_tail()


async def _until_durable(brokers: str) -> None:
    """Until some partition's state has a position."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            states = [await read_state(brokers, DETECTOR_STATE, number, client_id="test") for number in range(4)]
            if any(state.records and state.positions for state in states):
                return


async def test_lanes_whose_state_topics_differ_do_not_start(tmp_path: Path) -> None:
    """Without the other's state, a lane would repeat all hits that the broker's telemetry can tell."""
    with EmbeddedBroker(tmp_path) as broker:
        settings = Settings(brokers=broker.bootstrap, data_dir=tmp_path)
        await ensure_topics(broker.bootstrap, [TopicSpec(DETECTOR_STATE_B, None, compacted=True, partitions=2)])
        child = Child("lane-a", ["detector"], settings, tmp_path / "a.log")
        child.start()
        await _until(lambda: child.exit_code is not None, "it ends")
        assert child.exit_code == EXIT_CONFIG
        assert "estop.detector-state: 4, estop.detector-state-b: 2; delete the topic" in child.log_tail()


async def test_a_lane_that_was_away_takes_over_the_others_state_whole(tmp_path: Path) -> None:
    """Pages that the other lane does not have must go: their slots are other accounts' there."""
    with EmbeddedBroker(tmp_path) as broker:
        brokers, clock = broker.bootstrap, SystemClock()
        specs = [TopicSpec(name, None, compacted=True, partitions=1) for name in (DETECTOR_STATE, DETECTOR_STATE_B)]
        await ensure_topics(brokers, specs)
        publisher = KafkaPublisher(brokers, client_id="away")
        await publisher.start()
        for topic, pages, position in ((DETECTOR_STATE, "ab", 90), (DETECTOR_STATE_B, "bc", 50)):
            state_log = StateLog(publisher, topic, 0, 1, RestoredState())
            await state_log.write_records([(page.encode(), topic.encode()) for page in pages])
            await state_log.write_positions({"t": position})

        source = StateSource(brokers, DETECTOR_STATE_B, DETECTOR_STATE)
        now_ms = clock.now_ms()
        fresh = await read_seeded(source, 0, now_ms, None)
        assert fresh.changes() == []
        assert fresh.state.positions == {"t": 50}
        old = await read_seeded(source, 0, now_ms + SEED_AFTER_MS + 60_000, None)
        assert old.state.positions == {"t": 90}
        reversed_source = StateSource(brokers, DETECTOR_STATE, DETECTOR_STATE_B)
        assert (await read_seeded(reversed_source, 0, now_ms + SEED_AFTER_MS + 60_000, None)).changes() == []

        successor = StateLog(publisher, DETECTOR_STATE_B, 0, 2, old.own)
        await successor.write_records(old.changes())
        await successor.write_positions(old.state.positions)
        after = await read_state(brokers, DETECTOR_STATE_B, 0, client_id="after")
        assert (after.records, after.positions) == (old.state.records, old.state.positions)
        await publisher.stop()


async def test_each_lane_says_how_far_it_is_in_every_partition(tmp_path: Path) -> None:
    """A detector that is killed says nothing any more: what it said last stands, and grows old."""
    with EmbeddedBroker(tmp_path) as broker:
        async with _detectors(broker.bootstrap, tmp_path) as detectors:
            told: dict[tuple[str, int], Freshness] = {}
            tail = CompactedTail(broker.bootstrap, FRESHNESS, _taker(detectors.codec, told), client_id="fresh")
            await tail.start()
            await asyncio.gather(detectors.start("a"), detectors.start("b"))
            await _until(lambda: sorted(told) == [(lane, n) for lane in "ab" for n in range(4)], "all partitions")
            await probe(detectors.publisher, "seen")
            since = SystemClock().now_ms()
            await _until(lambda: all(one.fresh_at > since for one in told.values()), "what came since is applied")
            applied = {
                topic.position for one in told.values() for topic in one.topics if topic.topic == TELEMETRY_HEALTH
            }
            assert applied == {0, 1}
            detectors.lanes["a"].kill()
            killed_at = SystemClock().now_ms()
            await _until(lambda: min(told["b", n].fresh_at for n in range(4)) > killed_at, "lane b goes on")
            assert max(told["a", n].fresh_at for n in range(4)) < killed_at
            assert {told["a", n].instance_id for n in range(4)} == {"lane-a"}
            await tail.stop()


def _taker(codec: Codec, told: dict[tuple[str, int], Freshness]) -> Callable[[TailRecord], None]:
    def take(record: TailRecord) -> None:
        one = codec.decode(Freshness, record.value)
        assert record.key == f"{one.lane}/{one.partition}".encode()
        told[one.lane, one.partition] = one

    return take
