"""A registry that is away: what needs it waits, nothing becomes a dead letter, and nothing is taken in twice."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiokafka import TopicPartition
from prometheus_client import CollectorRegistry

from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.apps.sink.metrics import SinkMetrics
from emergency_stop.apps.sink.worker import SinkSpec, SinkWorker
from emergency_stop.domain import topics
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.registry_http import RegistryError
from tests.unit.sink.values import GOOD, batch

RECORDS: dict[str, str | None] = {topics.TELEMETRY_HEALTH: "HealthEvent", topics.HITS: "Hit"}
SPEC = SinkSpec(
    brokers="127.0.0.1:1", group="g", client_id="c", session_timeout_ms=6_000, records=RECORDS, cluster="test"
)


class Away(LocalRegistry):
    """Does not answer the first ``times`` questions."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    def writer_schema(self, schema_id: int | str) -> dict[str, Any]:
        if self.left > 0:
            self.left -= 1
            raise RegistryError("did not answer")
        return super().writer_schema(schema_id)


def worker(registry: LocalRegistry, metrics: CollectorRegistry | None = None) -> SinkWorker:
    publisher = KafkaPublisher(SPEC.brokers, client_id="c")
    database = cast("ClickHouse", object())
    return SinkWorker(SPEC, database, registry, publisher, SinkMetrics(metrics or CollectorRegistry()))


@pytest.mark.parametrize("topic", RECORDS)
def test_what_comes_while_it_is_away_is_taken_in_once_it_answers(topic: str) -> None:
    where, found = TopicPartition(topic, 0), [GOOD[topic]] * 3

    async def scenario() -> tuple[int, int, list[bool]]:
        sink = worker(Away(2))
        sink._positions[where] = 5
        ready = [sink._taken(where, batch(topic, 5, found)), sink.ready_conditions()["registry"]]
        await asyncio.wait_for(sink._take_all([(where, batch(topic, 5, found))]), 10)
        ready.append(sink.ready_conditions()["registry"])
        (intake,), _ = sink._waiting.take()
        return sum(intake.counts.values()), len(intake.dead), ready

    assert asyncio.run(scenario()) == (3, 0, [False, False, True])


def test_a_stop_ends_the_wait_and_what_was_not_taken_in_is_read_again() -> None:
    where = TopicPartition(topics.HITS, 0)

    async def scenario() -> int:
        sink = worker(Away(1 << 30))
        sink._positions[where] = 0
        asyncio.get_running_loop().call_later(0.05, sink._stop.set)
        await asyncio.wait_for(sink._take_all([(where, batch(topics.HITS, 0, [GOOD[topics.HITS]]))]), 10)
        return sink._positions[where]

    assert asyncio.run(scenario()) == 0


def test_what_retention_deleted_is_counted_once_however_often_the_rest_is_tried() -> None:
    where, registry = TopicPartition(topics.HITS, 0), CollectorRegistry()

    async def scenario() -> None:
        sink = worker(Away(2), registry)
        sink._positions[where] = 3
        await asyncio.wait_for(sink._take_all([(where, batch(topics.HITS, 10, [GOOD[topics.HITS]]))]), 10)

    asyncio.run(scenario())
    assert registry.get_sample_value("estop_sink_offsets_lost_total", {"topic": topics.HITS}) == 7


def test_while_memory_is_short_less_waits_for_a_flush() -> None:
    """Every row is stored all the same: only the blocks are smaller, and more of them."""
    short = False
    publisher, database = KafkaPublisher(SPEC.brokers, client_id="c"), cast("ClickHouse", object())
    metrics = SinkMetrics(CollectorRegistry())
    sink = SinkWorker(SPEC, database, LocalRegistry(), publisher, metrics, spares_memory=lambda: short)
    assert sink._flush_bytes() == SPEC.flush_bytes
    short = True
    assert sink._flush_bytes() == SPEC.flush_bytes // 4
    short = False
    assert sink._flush_bytes() == SPEC.flush_bytes
