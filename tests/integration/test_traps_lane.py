"""Faust and aiokafka lose batches when start-up, rebalances, kills and pauses meet; the lane does not.

Real workers, Apache Kafka, a backlog that keeps fetches in flight from the first moment. A wrong
committed offset, a skipped batch or a zombie's late write shows as a wrong count at the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.state_log import fold
from emergency_stop.apps.lane_worker import LaneWorker
from emergency_stop.testing.brokers import ApacheKafka
from tests.campaign.children import Child
from tests.campaign.conductor import Conductor
from tests.campaign.disturbances import Kind, Step
from tests.campaign.log import Log
from tests.integration.counting_worker import EFFECT_EVERY, SESSION_TIMEOUT_MS, Names, lane_worker

PARTITIONS = 4
EVENTS = 400_000
DEADLINE_S = 90.0


@pytest.mark.needs("java", "maven")
@pytest.mark.parametrize("membership", ["static", "dynamic"])
def test_every_record_counts_once_through_joins_kills_and_pauses(
    apache_kafka: ApacheKafka, tmp_path: Path, membership: str
) -> None:
    """Worker a starts, b joins meanwhile; a is killed, and again as it starts; b sleeps past its session.

    ```
    a  start---------kill-start-kill-start------------------------------
    b     join---------------------------pause======resume(zombie)--leave
    ```
    """
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 30)))
    print(f"seed {seed} (set SEED to repeat)")
    rng = random.Random(seed)
    names = Names(f"counted-{membership}")
    _prepare(apache_kafka.bootstrap, names, EVENTS)
    workers = {name: _worker(name, apache_kafka.bootstrap, names, tmp_path, membership) for name in ("a", "b")}
    conductor = Conductor(workers)
    workers["a"].join()
    try:
        conductor.perform(_agenda(rng))
        with Log(apache_kafka.bootstrap) as log:
            conductor.wait("all applied", lambda: _behind(log, names) == 0, lambda: _behind(log, names), DEADLINE_S)
            conductor.leave()
            assert _counted(log, names) == EVENTS
            assert _effects(log, names) == _expected_effects(log, names)
    finally:
        for worker in workers.values():
            worker.kill()


@pytest.mark.needs("java", "maven")
async def test_a_skipped_batch_on_a_quiet_topic_is_fetched_again_without_a_later_one(
    apache_kafka: ApacheKafka,
) -> None:
    """The worker has applied 60 of 100 records, its consumer stands at 100, and nothing more arrives."""
    names, brokers, stop = Names("quiet"), apache_kafka.bootstrap, asyncio.Event()
    _prepare(brokers, names, 0)
    quiet = names.topics[0]
    publisher = KafkaPublisher(brokers, client_id="quiet")
    await publisher.start()
    lane = lane_worker(brokers, names, "quiet-1", publisher)
    serving = asyncio.create_task(lane.serve(stop))
    try:
        await asyncio.gather(*(publisher.publish(quiet, None, b"x", partition=0) for _ in range(100)))
        await _until(lambda: lane.position(quiet, 0) == 100)
        next(one for one in lane._restored() if one.number == 0).positions[quiet] = 60
        await _until(lambda: lane.position(quiet, 0) == 100)
        assert lane.counters.mended_positions >= 1
    finally:
        stop.set()
        assert await serving == 0
        await publisher.stop()


@pytest.mark.needs("java", "maven")
async def test_a_partition_that_stands_still_before_its_end_makes_the_worker_unready_until_it_sees_again(
    apache_kafka: ApacheKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches get lost between Faust and the lane, silently, as in a stalled agent; then they come again."""
    names, brokers, stop = Names("blind"), apache_kafka.bootstrap, asyncio.Event()
    _prepare(brokers, names, 0)
    publisher = KafkaPublisher(brokers, client_id="blind")
    await publisher.start()
    lane = lane_worker(brokers, names, "blind-1", publisher, blind_after_ms=2_000)
    serving = asyncio.create_task(lane.serve(stop))
    try:
        await _until(lambda: all(lane.ready_conditions().values()) and len(lane.progress.freshness()) == PARTITIONS)
        with monkeypatch.context() as stalled:
            stalled.setattr(lane, "_on_event", _lose)
            await publisher.publish(names.topics[0], None, b"x", partition=1)
            await _until(lambda: lane.blind_partitions() == (1,))
            assert [name for name, holds in lane.ready_conditions().items() if not holds] == ["seeing"]
            stale = _fresh_at(lane, names.topics[0])
            assert stale[1] < min(stale[0], stale[2], stale[3])
        await _until(lambda: not lane.blind_partitions())
        await _until(lambda: lane.position(names.topics[0], 1) == 1)
        await _until(lambda: _fresh_at(lane, names.topics[0])[1] > max(stale))
    finally:
        stop.set()
        assert await serving == 0
        await publisher.stop()


async def _lose(_event: object) -> None:
    return


def _fresh_at(lane: LaneWorker, topic: str) -> list[int]:
    found = lane.progress.freshness()
    return [next(one.fresh_at for one in found[number] if one.topic == topic) for number in sorted(found)]


@pytest.mark.needs("java", "maven")
async def test_an_aborted_transaction_at_the_end_of_a_quiet_topic_is_passed_and_is_no_stall(
    apache_kafka: ApacheKafka,
) -> None:
    """Nothing of it is to be applied, and the position must reach the end all the same."""
    names, brokers, stop = Names("aborted"), apache_kafka.bootstrap, asyncio.Event()
    _prepare(brokers, names, 0)
    producer = Producer({"bootstrap.servers": brokers, "transactional.id": "aborted"})
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(names.topics[0], b"x", partition=0)
    producer.flush()
    producer.abort_transaction()
    publisher = KafkaPublisher(brokers, client_id="aborted")
    await publisher.start()
    lane = lane_worker(brokers, names, "aborted-1", publisher)
    serving = asyncio.create_task(lane.serve(stop))
    try:
        await _until(lambda: lane.position(names.topics[0], 0) == 2)
        assert lane.counters.mended_positions == 0
    finally:
        stop.set()
        assert await serving == 0
        await publisher.stop()


@pytest.mark.needs("java", "maven")
async def test_a_worker_without_a_name_hands_its_partitions_over_as_it_leaves(apache_kafka: ApacheKafka) -> None:
    """Nobody comes back under a random name: its partitions must not stay dark until the session times out."""
    names, brokers = Names("handed-over"), apache_kafka.bootstrap
    _prepare(brokers, names, 0)
    publisher = KafkaPublisher(brokers, client_id="handed-over")
    await publisher.start()
    session_ms = 120_000  # so long that a busy machine, too, hands over within a half of it
    lanes = [
        lane_worker(brokers, names, f"unnamed-{n}", publisher, static_member=False, session_timeout_ms=session_ms)
        for n in range(2)
    ]
    stops = [asyncio.Event() for _ in lanes]
    serving = [asyncio.create_task(lane.serve(stop)) for lane, stop in zip(lanes, stops, strict=True)]
    try:
        await _until(lambda: all(0 < len(lane._restored()) < PARTITIONS for lane in lanes))
        stops[0].set()
        assert await serving[0] == 0
        async with asyncio.timeout(session_ms / 1000 / 2):
            while len(lanes[1]._restored()) < PARTITIONS:  # noqa: ASYNC110  (a state to poll, not an event)
                await asyncio.sleep(0.05)
    finally:
        for stop in stops:
            stop.set()
        assert await serving[1] == 0
        await publisher.stop()


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():  # noqa: ASYNC110  (a state to poll, not an event)
            await asyncio.sleep(0.05)


def _agenda(rng: random.Random) -> list[Step]:
    kill = rng.uniform(4, 6)
    again = kill + rng.uniform(0.8, 3)
    pause = again + rng.uniform(1, 4)
    return [
        Step(rng.uniform(0.3, 2.0), "b", Kind.JOIN),
        Step(kill, "a", Kind.KILL),
        Step(again, "a", Kind.KILL),
        Step(pause, "b", Kind.PAUSE),
        Step(pause + SESSION_TIMEOUT_MS / 1000 + rng.uniform(1, 4), "b", Kind.RESUME),
        Step(pause + 14, "b", Kind.LEAVE),
    ]


def _worker(name: str, bootstrap: str, names: Names, logs: Path, membership: str) -> Child:
    arguments = [bootstrap, names.group, f"worker-{name}", membership]
    return Child(
        name,
        [sys.executable, "-m", "tests.integration.counting_worker", *arguments],
        {},
        logs,
    )


def _prepare(bootstrap: str, names: Names, events: int) -> None:
    """Topics, and a backlog in small batches, so that many fetches are in flight when workers meet."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    topics = [NewTopic(name, PARTITIONS, 1) for name in (*names.topics, names.effects)]
    topics.append(NewTopic(names.state, PARTITIONS, 1, config={"cleanup.policy": "compact"}))
    for created in admin.create_topics(topics).values():
        created.result()
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "batch.size": 16_384, "acks": "all"})
    for number in range(events):
        topic = names.topics[number % 10 == 0]
        producer.produce(topic, b"x" * 60, f"k{number % 1_000}", number % PARTITIONS)
        if number % 10_000 == 0:
            producer.flush()
    producer.flush()


def _behind(log: Log, names: Names) -> int:
    return sum(at.lag for at in log.positions(names.group, names.topics))


def _counted(log: Log, names: Names) -> int:
    entries: defaultdict[int | None, list[tuple[bytes, bytes | None]]] = defaultdict(list)
    for message in log.read(names.state):
        entries[message.partition()].append((message.key() or b"", message.value()))
    states = [fold(written) for written in entries.values()]
    return sum(json.loads(page)["count"] for state in states for page in state.records.values())


def _effects(log: Log, names: Names) -> set[str]:
    return {(message.key() or b"").decode() for message in log.read(names.effects)}


def _expected_effects(log: Log, names: Names) -> set[str]:
    return {
        f"{topic}-{number}-{offset}"
        for topic in names.topics
        for number in log.partitions(topic)
        for offset in range(0, log.end(topic, number), EFFECT_EVERY)
    }
