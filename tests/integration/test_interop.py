"""Telemetry from foreign clients: confluent-kafka (the README's own block) and Java, by the committed schemas alone.

Real parts throughout: Apache Kafka, the detector's process, the sink's process, chDB.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.config import DEFAULT_SERVICES
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.topics import HITS, TRIGGERS, all_topics
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import ClearRule, Mode, StopLevel, TriggerType
from emergency_stop.testing.brokers import ApacheKafka
from emergency_stop.testing.maven import classpath, find_java
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.schemas import committed_ids

pytestmark = pytest.mark.needs("java", "maven", "chdb")

ROOT = Path(__file__).parents[2]
JAVA_CLIENT = ("org.apache.kafka:kafka-clients:4.1.1", "org.apache.avro:avro:1.12.0", "org.slf4j:slf4j-nop:1.7.36")
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")
HIT_WITHIN_S = 180
ROWS_WITHIN_S = 180
EVENTS = 5
CODEC = Codec(LocalRegistry())

TRIGGER = Trigger(
    trigger_id="health-critical",
    version=1,
    trigger_type=TriggerType.HEALTH_SCORE_CRITICAL,
    account_id=None,
    name="Health score critical",
    description="average below 30 points within a minute",
    is_active=True,
    mode=Mode.ENFORCE,
    thresholds={"healthScore": 30.0},
    min_samples=3,
    for_ms=0,
    time_window=60_000,
    cooldown_period=300_000,
    stop_level=StopLevel.GRACEFUL,
    target_services=("all",),
    notification_channels=(),
    priority=3,
    clear_rule=ClearRule.AFTER_OPERATOR_RESET,
)


RUN = """
import sys
from emergency_stop.config import Settings
from emergency_stop.apps.{app} import run
sys.exit(run(Settings.from_env()))
"""


@contextmanager
def process(app: str, environment: dict[str, str], folder: Path) -> Iterator[None]:
    """One of our processes, until the end of the block."""
    with (folder / f"{app}.log").open("wb") as log:
        running = subprocess.Popen(
            [sys.executable, "-c", RUN.format(app=app)], env={**os.environ, **environment}, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        running.terminate()
        try:
            running.wait(20)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            raise


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A broker with a sink, and a detector that watches for ``TRIGGER``."""
    folder = tmp_path_factory.mktemp("interop")
    with ApacheKafka(heap_mb=512, short_lived=True) as broker:
        asyncio.run(prepare(broker.bootstrap))
        environment = {"ESTOP_BROKERS": broker.bootstrap, "ESTOP_DATA_DIR": str(folder / "data")}
        with process("detector", environment, folder), process("sink.main", environment, folder):
            yield Stack(broker.bootstrap, folder / "data")


@dataclass(frozen=True)
class Stack:
    """Where the broker answers, and where the processes keep their data."""

    bootstrap: str
    data: Path

    def select(self, sql: str) -> list[list[str]]:
        """What the sink's read-only SQL answers; no rows while it does not answer yet."""
        try:
            url = json.loads((self.data / "sink-query.json").read_text())["url"]
            with urllib.request.urlopen(url, sql.encode(), timeout=10) as answer:  # noqa: S310 - the sink wrote it
                rows: list[list[str]] = json.load(answer)["data"]
        except (OSError, ValueError):
            return []
        return rows


async def prepare(bootstrap: str) -> None:
    await ensure_topics(bootstrap, all_topics(DEFAULT_SERVICES))
    publisher = KafkaPublisher(bootstrap, client_id="interop")
    await publisher.start()
    await publisher.publish(TRIGGERS, TRIGGER.trigger_id.encode(), CODEC.encode(TRIGGER, TRIGGERS))
    await publisher.stop()


async def hit_of(account: str, bootstrap: str) -> Hit:
    """The first hit of ``account``; fails after ``HIT_WITHIN_S``."""
    async with (
        asyncio.timeout(HIT_WITHIN_S),
        AIOKafkaConsumer(HITS, bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer,
    ):
        async for record in consumer:
            hit = CODEC.decode(Hit, record.value)
            if hit.account_id == account:
                return hit
    raise AssertionError("unreachable: the consumer never ends by itself")


def readme_block() -> str:
    (block,) = re.findall(r"```python\n(import io.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return str(block)


@pytest.fixture(scope="module")
def confluent(stack: Stack) -> Stack:
    """The README's own block has run."""
    environment = {**os.environ, "BROKERS": stack.bootstrap}
    subprocess.run([sys.executable, "-c", readme_block()], cwd=ROOT, env=environment, check=True, timeout=180)
    return stack


@pytest.fixture(scope="module")
def java(stack: Stack) -> Stack:
    """The Java producer has run, once with every compression."""
    source = ROOT / "tests/integration/interop/TelemetryProducer.java"
    arguments = [ROOT / "schemas/avro/HealthEvent.avsc", committed_ids()["HealthEvent"], EVENTS, *COMPRESSIONS]
    command = [find_java(), "-cp", classpath(JAVA_CLIENT), str(source), stack.bootstrap, *map(str, arguments)]
    subprocess.run(command, check=True, timeout=120)
    return stack


async def test_the_readmes_confluent_kafka_producer_is_detected(confluent: Stack) -> None:
    hit = await hit_of("account-123", confluent.bootstrap)
    assert (hit.trigger_id, hit.trigger_version) == ("health-critical", 1)
    assert (hit.observed, hit.threshold, hit.window_samples) == (12.0, 30.0, 3)


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_a_java_producer_is_detected_whatever_it_compresses_with(compression: str, java: Stack) -> None:
    hit = await hit_of(f"java-{compression}", java.bootstrap)
    assert hit.source_topic == "telemetry.health"
    assert (hit.observed, hit.window_samples) == (12.0, 3)


def test_every_event_of_both_clients_is_in_clickhouse_once(confluent: Stack, java: Stack) -> None:
    """Fields that the producers left out have the schema's defaults."""
    assert confluent == java
    sql = """
        SELECT account_id, toString(count()), toString(uniqExact(event_id)), any(source)
        FROM health_events GROUP BY account_id ORDER BY account_id
    """
    accounts = sorted(["account-123", *(f"java-{compression}" for compression in COMPRESSIONS)])
    wanted = [[account, str(EVENTS), str(EVENTS), ""] for account in accounts]
    deadline = time.monotonic() + ROWS_WITHIN_S
    while (rows := java.select(sql)) != wanted and time.monotonic() < deadline:
        time.sleep(0.2)
    assert rows == wanted
