"""The sink's retry: the same work until the database takes it, and an end when it is told to stop."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.apps.sink.intake import Intaker
from emergency_stop.apps.sink.metrics import SinkMetrics
from emergency_stop.apps.sink.worker import SinkSpec, SinkWorker, StoppedError
from emergency_stop.wire.registry import LocalRegistry

SPEC = SinkSpec(brokers="127.0.0.1:1", group="g", client_id="c", session_timeout_ms=6_000, records={}, cluster="test")


def worker() -> SinkWorker:
    publisher = KafkaPublisher(SPEC.brokers, client_id="c")
    database = cast("ClickHouse", object())
    return SinkWorker(SPEC, database, Intaker(LocalRegistry(), {}), publisher, SinkMetrics(CollectorRegistry()))


def test_work_is_repeated_until_the_database_takes_it() -> None:
    attempts = []

    def work(database: Any) -> str:
        attempts.append(database)
        if len(attempts) < 3:
            raise OSError("no connection")
        return "stored"

    async def scenario() -> tuple[str, bool]:
        sink = worker()
        return await sink.until_done("store", work), sink.ready_conditions()["clickhouse"]

    assert asyncio.run(scenario()) == ("stored", True)
    assert len(attempts) == 3


def test_a_stop_ends_the_retries() -> None:
    def refuse(database: Any) -> None:
        raise OSError("no connection")

    async def scenario() -> bool:
        sink, stop = worker(), asyncio.Event()
        sink.told_to(stop)
        retrying = asyncio.create_task(sink.until_done("store", refuse))
        asyncio.get_running_loop().call_later(0.05, stop.set)
        with pytest.raises(StoppedError, match="could not store"):
            await asyncio.wait_for(retrying, 5)
        return sink.ready_conditions()["clickhouse"]

    assert asyncio.run(scenario()) is False


def test_while_memory_is_short_less_waits_for_a_flush() -> None:
    """Every row is stored all the same: only the blocks are smaller, and more of them."""
    short = False
    publisher, database = KafkaPublisher(SPEC.brokers, client_id="c"), cast("ClickHouse", object())
    intaker, metrics = Intaker(LocalRegistry(), {}), SinkMetrics(CollectorRegistry())
    sink = SinkWorker(SPEC, database, intaker, publisher, metrics, spares_memory=lambda: short)
    assert sink._flush_bytes() == SPEC.flush_bytes
    short = True
    assert sink._flush_bytes() == SPEC.flush_bytes // 4
    short = False
    assert sink._flush_bytes() == SPEC.flush_bytes
