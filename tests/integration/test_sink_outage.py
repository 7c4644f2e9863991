"""The database is away for longer than it remembers tokens: nothing is lost or doubled, and stops go on."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from confluent_kafka import Producer

from emergency_stop.domain import topics
from emergency_stop.domain.ids import emergency_id, hit_cause
from emergency_stop.domain.values import EmergencyState
from emergency_stop.sdk import StopGuard
from tests.bench.load import SPAN_MS, HealthLoad, records
from tests.campaign.children import Child
from tests.campaign.sink.plant import Plant
from tests.integration.coordinator_office import SERVICES, CoordinatorOffice, now_ms, until
from tests.unit.coordinate.scenario import hit

pytestmark = pytest.mark.needs("broker", "chdb")

BEFORE = 2_000
DURING = 300_000
#: A flush's rows (32 MiB) some times over: as received, as a block, on its way; and a fetch of 2 MiB per partition.
GROWTH_MB_MAX = 200.0
TABLE = "health_events"
#: A coordinator has to start on a machine that may have much else to do.
WITHIN_S = 240.0


@pytest.fixture
def plant(broker: str, tmp_path: Path) -> Iterator[Plant]:
    plant = Plant(broker, tmp_path, embedded=False, alone=True)
    try:
        plant.start()
        yield plant
    finally:
        plant.close()


def test_an_outage_longer_than_the_memory_for_tokens(plant: Plant, broker: str, tmp_path: Path) -> None:
    sink = plant.sinks[0]
    plant.until(plant.rows, "the tables are there")
    plant.ask(f"ALTER TABLE {TABLE} MODIFY SETTING non_replicated_deduplication_window = 0")
    _produce(broker, BEFORE)
    plant.until(lambda: plant.rows()[TABLE][0] == BEFORE, "the first rows")
    before_mb = _resident_mb(sink)

    plant.outage = True
    plant.fault("die")
    _produce(broker, BEFORE)  # stored, and nobody is told
    plant.until(lambda: _refusals(sink) > 0, "the sink knows that the database is away")
    _produce(broker, DURING)
    asyncio.run(_a_stop_is_proven(broker, tmp_path))
    refusals = _refusals(sink)
    plant.until(lambda: _refusals(sink) > refusals + 1, "the sink tries again")
    assert _resident_mb(sink) - before_mb < GROWTH_MB_MAX

    plant.outage = False
    produced = BEFORE * 2 + DURING
    plant.until(lambda: plant.rows().get(TABLE, (0, 0))[1] >= produced, "everything is stored")
    assert plant.rows()[TABLE] == (produced, produced)
    assert not sink.own_exits


async def _a_stop_is_proven(broker: str, folder: Path) -> None:
    async with CoordinatorOffice(broker, folder) as office, AsyncExitStack() as stack:
        office.start()
        for service in SERVICES:
            guard = StopGuard(service, broker, verifier=office.verifier)
            guard.handle_stops(_obey)
            await stack.enter_async_context(guard)
        await office.send(hit("h-outage", "account:acc-outage", occurred_at=now_ms()))
        cause = emergency_id(hit_cause("h-outage"))
        await until(
            lambda: (found := office.emergency(cause)) is not None and found.state is EmergencyState.STOPPED,
            "the stop is proven",
            within_s=WITHIN_S,
        )


async def _obey(correlation_id: str) -> bool:
    return True


def _produce(broker: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 20, "queue.buffering.max.messages": 400_000})
    load = HealthLoad(1, count, 1_000, int(time.time() * 1000) - SPAN_MS)
    for number, (key, value, moment) in enumerate(records(load)):
        producer.produce(topics.TELEMETRY_HEALTH, value, key, timestamp=moment)
        if number % 4_096 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0


def _refusals(sink: Child) -> int:
    return sink.log_path.read_text().count("could not ")


def _resident_mb(sink: Child) -> float:
    status = Path(f"/proc/{sink.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found.group(1)) / 1024
