"""The brokers that tests and `make dev` run on: they answer when they say so, and Kafka keeps its data."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import InvalidTimestampError

from emergency_stop.adapters.embedded_broker import free_port
from emergency_stop.adapters.kafka_topics import describe_topics, ensure_topics
from emergency_stop.config import Settings
from emergency_stop.control.cli.check import _difference
from emergency_stop.domain.topics import HOLDS, TELEMETRY_HEALTH, TopicSpec
from emergency_stop.testing import maven
from emergency_stop.testing.brokers import ApacheKafka, BrokerUnavailableError, EmbeddedBroker


async def write(bootstrap: str, topic: str, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        return [(await consumer.getone()).value for _ in range(count)]


@pytest.mark.needs("broker")
async def test_the_embedded_broker_answers_once_started(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as broker:
        await ensure_topics(broker.bootstrap, [TopicSpec("t", None, partitions=1)])
        await write(broker.bootstrap, "t", b"a", b"b")
        assert await read(broker.bootstrap, "t", 2) == [b"a", b"b"]


@pytest.mark.needs("java", "maven")
async def test_apache_kafka_refuses_telemetry_of_the_future_and_takes_holds_of_it(tmp_path: Path) -> None:
    """By its own clock, whatever the producer's says."""
    now_ms = int(time.time() * 1000)
    with ApacheKafka(tmp_path, heap_mb=256, short_lived=True) as broker:
        settings = Settings.from_env({"ESTOP_BROKERS": broker.bootstrap})
        await ensure_topics(broker.bootstrap, settings.topics())
        found = await describe_topics(broker.bootstrap, [spec.name for spec in settings.topics()])
        assert [_difference(spec, found[spec.name]) for spec in settings.topics()] == [None] * len(settings.topics())
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all") as producer:
            await producer.send_and_wait(TELEMETRY_HEALTH, b"now", timestamp_ms=now_ms)
            await producer.send_and_wait(HOLDS, b"far ahead", b"global", timestamp_ms=now_ms + 3_000_000)
            with pytest.raises(InvalidTimestampError):
                await producer.send_and_wait(TELEMETRY_HEALTH, b"far ahead", timestamp_ms=now_ms + 600_000)
        assert await read(broker.bootstrap, TELEMETRY_HEALTH, 1) == [b"now"]


@pytest.mark.needs("java", "maven")
async def test_apache_kafka_keeps_what_it_acknowledged_over_a_kill_and_a_restart(tmp_path: Path) -> None:
    with ApacheKafka(tmp_path, heap_mb=256, short_lived=True) as broker:
        await ensure_topics(broker.bootstrap, [TopicSpec("t", None, partitions=1)])
        await write(broker.bootstrap, "t", b"before the kill")
        broker.kill()
        assert broker.pid is None
        broker.start()
        await write(broker.bootstrap, "t", b"after it")
        broker.restart()
        assert await read(broker.bootstrap, "t", 2) == [b"before the kill", b"after it"]


@pytest.mark.needs("docker")
async def test_the_image_of_production_is_a_broker_as_the_others_are() -> None:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.waiting_utils import wait_for_logs

    bootstrap = f"127.0.0.1:{free_port()}"
    container = DockerContainer("apache/kafka:4.1.1").with_bind_ports(9092, int(bootstrap.rpartition(":")[2]))
    listeners = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{bootstrap}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    }
    for name, value in listeners.items():
        container = container.with_env(name, value)
    with container:
        wait_for_logs(container, "Kafka Server started", timeout=60)
        await ensure_topics(bootstrap, [TopicSpec("t", None, partitions=1)])
        await write(bootstrap, "t", b"a")
        assert await read(bootstrap, "t", 1) == [b"a"]


def test_missing_java_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(BrokerUnavailableError, match="Java is missing"):
        ApacheKafka(tmp_path).start()


def test_missing_maven_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(BrokerUnavailableError, match="Maven is missing"):
        maven.classpath(["org.apache.avro:avro:1.12.0"])
