"""A detector past its bounds: it says so, sheds what is only for analysts, and stops whom it must as ever."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.apps.stack.child import Child
from emergency_stop.config import Settings
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.topics import HITS, TELEMETRY_HEALTH, TRIGGERS
from emergency_stop.domain.values import Mode
from emergency_stop.rules.definitions import read_trigger
from emergency_stop.testing.brokers import EmbeddedBroker
from emergency_stop.wire.codec import Codec, encode_record
from emergency_stop.wire.registry import LocalRegistry

pytestmark = pytest.mark.needs("broker")
READY_MS, DEADLINE_S = 180_000, 90
#: Less than a detector with its compiler ever uses.
MEMORY_BYTES_MAX: Final = 134_217_728
COMMON: Final[dict[str, Any]] = {
    "cooldownPeriod": 600_000, "stopLevel": "graceful", "priority": 1, "timeWindow": 60_000,
}  # fmt: skip
TRIGGERS_IN_FORCE: Final[list[dict[str, Any]]] = [
    {"triggerId": "heavy", "triggerType": "system_resource_critical", "thresholds": {"memoryBytes": MEMORY_BYTES_MAX},
     "minSamples": 3},
    {"triggerId": "low", "triggerType": "health_score_critical", "thresholds": {"healthScore": 30}},
]  # fmt: skip


class Watched:
    """A detector on a broker that may use hardly any memory, and what it hits."""

    def __init__(self, brokers: str, folder: Path, publisher: KafkaPublisher) -> None:
        self.publisher = publisher
        self.codec = Codec(LocalRegistry())
        self.hits: dict[str, Hit] = {}
        self.settings = Settings(
            brokers=brokers, data_dir=folder, checkpoint_interval_ms=100, telemetry_partitions=1,
            memory_bytes_max=MEMORY_BYTES_MAX, cpu_percent_max=100, usage_report_ms=500,
        )  # fmt: skip
        self.child = Child("detector", ["detector"], self.settings, folder / "detector.log")

    def take(self, record: TailRecord) -> None:
        hit = self.codec.decode(Hit, record.value)
        self.hits[hit.hit_id] = hit

    async def add(self, definition: dict[str, Any]) -> None:
        trigger = read_trigger({"name": definition["triggerId"], **COMMON, **definition}, services=())
        await self.publisher.publish(TRIGGERS, trigger.trigger_id.encode(), self.codec.encode(trigger, TRIGGERS))

    async def score(self, account: str, health_score: float, at_ms: int) -> None:
        event = {"event_id": "e", "account_id": account, "occurred_at": at_ms, "health_score": health_score,
                 "risk_score": 0.0}  # fmt: skip
        value = encode_record("HealthEvent", event, LocalRegistry().schema_id("HealthEvent", TELEMETRY_HEALTH))
        await self.publisher.publish(TELEMETRY_HEALTH, account.encode(), value)

    def metric(self, start: str) -> float:
        """The first metric whose line begins so; -1 while nobody answers."""
        try:
            with urllib.request.urlopen(f"{self.child.url}/metrics", timeout=2) as answer:  # noqa: S310  (loopback)
                lines = answer.read().decode().splitlines()
        except OSError:
            return -1.0
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(start)), -1.0)

    def said(self, text: str) -> int:
        return self.child.log_path.read_text().count(text)

    def found(self, trigger_id: str) -> list[tuple[str, Mode]]:
        return [(hit.scope, hit.mode) for hit in self.hits.values() if hit.trigger_id == trigger_id]

    async def until(self, true: Callable[[], object], what: str) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not await asyncio.to_thread(true):  # noqa: ASYNC110  (a state to poll, not an event)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"not within {DEADLINE_S} s: {what}; hits: {list(self.hits.values())}\n{self.child.log_tail()}")


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[Watched]:
    with EmbeddedBroker(folder) as broker:
        publisher = KafkaPublisher(broker.bootstrap, client_id="test")
        await publisher.start()
        watched = Watched(broker.bootstrap, folder, publisher)
        await ensure_topics(broker.bootstrap, watched.settings.topics())
        for definition in TRIGGERS_IN_FORCE:
            await watched.add(definition)
        tail = CompactedTail(broker.bootstrap, HITS, watched.take, client_id="test")
        await tail.start()
        watched.child.start()
        try:
            await watched.child.ready(READY_MS)
            yield watched
        finally:
            await watched.child.stop()
            await tail.stop()
            await publisher.stop()


async def test_past_its_memory_a_detector_reports_itself_sheds_and_still_fires(tmp_path: Path) -> None:
    async with started(tmp_path) as watched:
        await watched.until(
            lambda: watched.metric('estop_process_over_bound{resource="memory"}') == 1.0, "it is over its memory"
        )
        assert watched.metric('estop_process_bound{resource="memory"}') == MEMORY_BYTES_MAX
        assert watched.metric('estop_process_over_bound{resource="cpu"}') == 0.0
        # enforced by the trigger's words, and a warning because of whom it is about
        await watched.until(
            lambda: watched.found("heavy") == [("service:estop-detector", Mode.WARN)], "a hit of its own memory"
        )
        assert watched.metric('estop_usage_reports_total{outcome="written"}') >= 3
        now_ms = time.time_ns() // 1_000_000
        for minute in range(4):
            await watched.score("acc-calm", 80.0, now_ms - (4 - minute) * 60_000)
        await watched.score("acc-low", 10.0, now_ms)
        await watched.until(lambda: watched.found("low") == [("account:acc-low", Mode.ENFORCE)], "a stop, as ever")
        await watched.until(
            lambda: watched.metric('estop_evaluations_left_out_total{what="shed"}') >= 4, "what changed nothing is shed"
        )
        assert watched.said(f"exceed MAX_MEMORY_USAGE={MEMORY_BYTES_MAX}") == 1
