"""The sink as a process: every record is stored once or dead-lettered with its reason, through ``kill -9``."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from emergency_stop.adapters.embedded_broker import EmbeddedBroker
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.apps.demo.witness import Analyst
from emergency_stop.apps.sink.letter_headers import HEADER
from emergency_stop.config import Settings
from emergency_stop.domain import topics
from emergency_stop.testing.brokers import ApacheKafka
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.campaign.campaign import SINK_GROUP
from tests.campaign.children import Child, Condition
from tests.campaign.log import Log
from tests.unit.columnar.test_bad_inputs import ACCEPTED, BAD, GOOD, KEY
from tests.unit.coordinate.scenario import hit

pytestmark = pytest.mark.needs("broker", "chdb")

WITHIN_S = 180.0
#: The events are of 2023, so that they are the same in every run.
RETENTION_DAYS = 3_650
COMMAND = [sys.executable, "-m", "emergency_stop.control.cli.main", "sink"]
HEALTH = topics.TELEMETRY_HEALTH


@dataclass
class Plant:
    """A broker with every topic, and the sink's process."""

    settings: Settings
    sink: Child
    analyst: Analyst = field(init=False)

    def __post_init__(self) -> None:
        self.analyst = Analyst(self.settings.data_dir)

    def send(self, records: list[tuple[bytes | None, bytes | None]], topic: str = HEALTH) -> None:
        producer = Producer({"bootstrap.servers": self.settings.brokers, "acks": "all", "message.max.bytes": 8_000_000})
        for key, value in records:
            producer.produce(topic, value, key, partition=0, timestamp=1_700_000_000_000)
        assert producer.flush(20) == 0

    def ask(self, sql: str) -> list[list[Any]]:
        """The answer, or nothing while the sink is down."""
        try:
            return self.analyst.ask(sql)
        except (OSError, ValueError):
            return []

    def count(self, table: str) -> int:
        """Rows of ``table``; 0 while the sink is down."""
        answer = self.ask(f"SELECT count() FROM {table}")  # noqa: S608  (the test's own words)
        return int(answer[0][0]) if answer else 0

    def until(self, holds: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + WITHIN_S
        while not holds():
            assert time.monotonic() < deadline, (
                f"{what}: not within {WITHIN_S} s\n{self.sink.log_path.read_text()[-3000:]}"
            )
            self.sink.look_after()
            time.sleep(0.05)


@pytest.fixture
def plant(tmp_path: Path, lay_tables: Callable[[Path, int], None]) -> Iterator[Plant]:
    lay_tables(tmp_path / "data", RETENTION_DAYS)
    with EmbeddedBroker(tmp_path) as broker, _planted(broker.bootstrap, tmp_path) as plant:
        yield plant


@pytest.fixture
def apache_plant(tmp_path: Path, lay_tables: Callable[[Path, int], None]) -> Iterator[Plant]:
    """On a broker that lets anybody commit for a group without members, as the embedded one does not."""
    (tmp_path / "kafka").mkdir()
    lay_tables(tmp_path / "data", RETENTION_DAYS)
    with ApacheKafka(tmp_path / "kafka", short_lived=True) as broker, _planted(broker.bootstrap, tmp_path) as plant:
        yield plant


@contextmanager
def _planted(brokers: str, folder: Path) -> Iterator[Plant]:
    own = {"ESTOP_DATA_DIR": str(folder / "data"), "RETAIN_EVENT_HISTORY": str(RETENTION_DAYS)}
    settings = Settings.from_env({"ESTOP_BROKERS": brokers} | own)
    asyncio.run(ensure_topics(brokers, topics.all_topics(settings.services)))
    plant = Plant(settings, Child("sink", COMMAND, settings.as_env(), folder))
    plant.sink.join()
    try:
        yield plant
    finally:
        plant.sink.kill()


def test_every_bad_input_is_dead_lettered_with_its_reason_and_its_neighbours_are_stored(plant: Plant) -> None:
    bad = [(key, value) for key, value, _ in BAD.values()]
    good = list(ACCEPTED.values())
    plant.send([(KEY, GOOD), *bad, *good, (KEY, GOOD)])
    wanted = len(good) + 2
    plant.until(lambda: plant.count("health_events") == wanted, f"{wanted} rows")
    plant.until(lambda: plant.count("dead_letters") == len(bad), f"{len(bad)} dead letters in ClickHouse")
    with Log(plant.settings.brokers) as log:
        letters = list(log.read(topics.DEAD_LETTER))
    headers: list[dict[str, Any]] = [dict(letter.headers() or []) for letter in letters]
    offsets = [int(one[HEADER + "offset"]) for one in headers]
    by_offset = dict(zip(offsets, zip(letters, headers, strict=True), strict=True))
    assert sorted(by_offset) == list(range(1, 1 + len(bad)))
    for offset, (key, value, reason) in enumerate(BAD.values(), start=1):
        letter, header = by_offset[offset]
        assert (letter.key(), letter.value()) == (key, value)
        assert header[HEADER + "topic"] == HEALTH.encode()
        assert header[HEADER + "partition"] == b"0"
        assert header[HEADER + "exception.class.name"] == reason.label.encode()
        assert header[HEADER + "exception.message"].startswith(reason.explanation.encode())


def test_a_hit_that_two_lanes_published_counts_once(plant: Plant) -> None:
    """Both records are rows, because rows are the topic's; the view has each hit once."""
    codec = Codec(LocalRegistry())
    values = [
        codec.encode(hit(f"h{number}", detected_at=lane), topics.HITS) for lane in range(2) for number in range(3)
    ]
    plant.send([(b"account:a", value) for value in values], topics.HITS)
    plant.until(lambda: plant.count("hits") == 6, "six rows")
    assert plant.count("hits_once") == 3
    assert plant.ask("SELECT hit_id FROM hits_once ORDER BY hit_id") == [["h0"], ["h1"], ["h2"]]


def test_rows_are_what_was_produced_through_kills(plant: Plant) -> None:
    produced = 0
    for kill in range(4):
        plant.send([(KEY, GOOD)] * 3_000)
        produced += 3_000
        least = produced - 3_000 + 1
        # Killed as soon as the first of these rows is there: in the middle of a flush or just behind it.
        plant.until(_at_least(plant, least), f"row {least}")
        if kill < 3:
            plant.sink.kill()
    plant.until(lambda: plant.count("health_events") >= produced, f"{produced} rows")
    ((rows, origins),) = plant.ask("SELECT count(), uniqExact(_partition, _offset) FROM health_events")
    assert (int(rows), int(origins)) == (produced, produced)
    assert plant.sink.starts == 4
    assert not plant.sink.own_exits


def _at_least(plant: Plant, rows: int) -> Callable[[], bool]:
    return lambda: plant.count("health_events") >= rows


@pytest.mark.needs("java", "maven")
def test_a_commit_that_a_predecessor_owed_is_made_up_for_without_new_input(apache_plant: Plant) -> None:
    """Killed between rows and commit, on a topic that stays quiet: a lag monitor would show a lag for ever."""
    plant = apache_plant
    plant.send([(KEY, GOOD)] * 10)
    plant.until(lambda: plant.count("health_events") == 10, "10 rows")
    plant.sink.leave()
    plant.until(lambda: plant.sink.condition is Condition.OUT, "the sink has left")
    _commit(plant.settings.brokers, 4)
    assert _committed(plant) == 4
    plant.sink.join()
    plant.until(lambda: _committed(plant) == 10, "the position is committed")
    assert plant.count("health_events") == 10


def _commit(brokers: str, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": SINK_GROUP, "enable.auto.commit": False})
    try:
        consumer.commit(offsets=[TopicPartition(HEALTH, 0, offset)], asynchronous=False)
    finally:
        consumer.close()


def _committed(plant: Plant) -> int:
    with Log(plant.settings.brokers) as log:
        return next(at.committed for at in log.positions(SINK_GROUP, (HEALTH,)) if at.partition == 0)


def test_a_second_sink_on_the_same_store_is_refused(plant: Plant) -> None:
    plant.until(lambda: plant.ask("SELECT 1"), "the first sink is up")
    environment = {**os.environ, **plant.settings.as_env(), "ESTOP_INSTANCE_ID": "second"}
    second = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert second.returncode == 69
    assert "another process has the embedded ClickHouse" in second.stderr
    assert plant.ask("SELECT 1") == [[1]]


def test_it_ends_in_good_order_when_told_to(plant: Plant) -> None:
    plant.send([(KEY, GOOD)] * 10)
    plant.until(lambda: plant.count("health_events") == 10, "ten rows")
    plant.sink.leave()
    plant.until(lambda: plant.sink.leave_statuses, "the sink's end")
    assert plant.sink.leave_statuses == [0]


def test_a_topic_that_was_made_anew_is_refused_by_name(tmp_path: Path) -> None:
    """Other records at the same offsets: they would be taken for those that are stored, and left out in silence."""
    with EmbeddedBroker(tmp_path) as broker, _planted(broker.bootstrap, tmp_path) as plant:
        _stores_ten_more(plant, 10)
    with EmbeddedBroker(tmp_path) as another, _planted(another.bootstrap, tmp_path) as plant:
        plant.send([(KEY, GOOD)] * 4)
        refusal = f"{HEALTH}, partition 0: stored up to offset 10, but its log ends at"
        plant.until(lambda: refusal in plant.sink.log_path.read_text(), "the refusal")
        plant.until(lambda: plant.count("health_events") == 10, "the ten rows are as they were")
        assert not plant.sink.own_exits


def test_a_sink_that_comes_back_to_what_it_has_stored_goes_on(tmp_path: Path) -> None:
    """The embedded broker tells the end of its last batch too low, so what is stored seems to lie beyond its log."""
    with EmbeddedBroker(tmp_path) as broker:
        for rows in (10, 20):
            with _planted(broker.bootstrap, tmp_path) as plant:
                _stores_ten_more(plant, rows)


def _stores_ten_more(plant: Plant, rows: int) -> None:
    plant.send([(KEY, GOOD)] * 10)
    plant.until(lambda: plant.count("health_events") == rows, f"{rows} rows")
    plant.sink.leave()
    plant.until(lambda: plant.sink.condition is Condition.OUT, "the sink has left")
