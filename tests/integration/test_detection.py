"""Rules, overrides, silence and values over all accounts in a running detector, through its death and changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.apps.stack.child import Child
from emergency_stop.config import Settings
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.topics import HITS, TRIGGERS
from emergency_stop.rules.definitions import read_trigger
from emergency_stop.testing.brokers import EmbeddedBroker
from emergency_stop.wire.codec import Codec, encode_record
from emergency_stop.wire.registry import LocalRegistry

pytestmark = pytest.mark.needs("broker")
READY_MS, DEADLINE_S = 180_000, 90
COMMON: dict[str, Any] = {"cooldownPeriod": 600_000, "stopLevel": "graceful", "priority": 1}
TRIGGERS_IN_FORCE: list[dict[str, Any]] = [
    {"triggerId": "rule", "triggerType": "custom_rule_trigger",
     "rule": 'avg(health_score, "60s") < 40.0 && count(detection, "5m") >= 2'},
    {"triggerId": "silent", "triggerType": "custom_rule_trigger", "rule": 'absent(behavioral, "2s")'},
    {"triggerId": "base", "triggerType": "health_score_critical", "thresholds": {"healthScore": 5},
     "timeWindow": 60_000},
    {"triggerId": "own", "triggerType": "health_score_critical", "thresholds": {"healthScore": 90},
     "timeWindow": 60_000, "accountId": "acc-own", "overrides": "base"},
    {"triggerId": "all", "triggerType": "detection_event_critical", "thresholds": {"eventCount": 6},
     "options": {"minSeverity": "low"}, "timeWindow": 60_000, "across": "accounts"},
]  # fmt: skip


class Watched:
    """A detector on a broker, what is sent to it, and what it hits."""

    def __init__(self, brokers: str, folder: Path, publisher: KafkaPublisher) -> None:
        self.publisher = publisher
        self.codec = Codec(LocalRegistry())
        self.hits: dict[str, Hit] = {}
        settings = Settings(
            brokers=brokers, data_dir=folder, checkpoint_interval_ms=100, trigger_detection_interval_ms=1_000,
            instance_id="detector-1",
        )  # fmt: skip
        self.settings = settings
        self.child = Child("detector", ["detector"], settings, folder / "detector.log")

    def take(self, record: TailRecord) -> None:
        hit = self.codec.decode(Hit, record.value)
        self.hits[hit.hit_id] = hit

    async def add(self, definition: dict[str, Any]) -> None:
        trigger = read_trigger({"name": definition["triggerId"], **COMMON, **definition}, services=())
        await self.publisher.publish(TRIGGERS, trigger.trigger_id.encode(), self.codec.encode(trigger, TRIGGERS))

    async def send(self, record: str, account: str, **fields: Any) -> None:
        topic = f"telemetry.{record.removesuffix('Event').lower()}"
        event = {"event_id": "e", "account_id": account, "occurred_at": time.time_ns() // 1_000_000, **fields}
        value = encode_record(record, event, LocalRegistry().schema_id(record, topic))
        await self.publisher.publish(topic, account.encode(), value)

    def found(self, trigger_id: str) -> list[str]:
        return [hit.scope for hit in self.hits.values() if hit.trigger_id == trigger_id]

    async def until(self, true: Callable[[], object], what: str) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not true():  # noqa: ASYNC110  (a state to poll, not an event)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"not within {DEADLINE_S} s: {what}; hits: {list(self.hits.values())}\n{self.child.log_tail()}")


async def test_every_kind_of_condition_fires_in_a_running_detector(tmp_path: Path) -> None:
    """And goes on after a kill -9, neither repeating an episode nor forgetting what it had seen."""
    with EmbeddedBroker(tmp_path) as broker:
        async with AsyncExitStack() as stack:
            watched = await _started(broker.bootstrap, tmp_path, stack)
            await _health_and_detection(watched)
            await _silence(watched)
            watched.child.kill()
            watched.child.start()
            await watched.child.ready(READY_MS)
            await _all_accounts(watched)
            await _a_change_while_running(watched)
            assert watched.found("silent") == ["account:acc-quiet"], "one silence, told once, over the kill too"
            assert watched.found("base") == []


async def _started(brokers: str, folder: Path, stack: AsyncExitStack) -> Watched:
    publisher = KafkaPublisher(brokers, client_id="test")
    await publisher.start()
    stack.push_async_callback(publisher.stop)
    watched = Watched(brokers, folder, publisher)
    await ensure_topics(brokers, watched.settings.topics())
    for definition in TRIGGERS_IN_FORCE:
        await watched.add(definition)
    tail = CompactedTail(brokers, HITS, watched.take, client_id="test")
    await tail.start()
    stack.push_async_callback(tail.stop)
    watched.child.start()
    stack.push_async_callback(watched.child.stop)
    await watched.child.ready(READY_MS)
    return watched


async def _health_and_detection(watched: Watched) -> None:
    await watched.send("HealthEvent", "acc-rule", health_score=20.0, risk_score=0.0)
    await watched.send("HealthEvent", "acc-own", health_score=80.0, risk_score=0.0)
    await watched.until(lambda: watched.found("own") == ["account:acc-own"], "the account's own threshold")
    for _ in range(2):
        await watched.send("DetectionEvent", "acc-rule", severity="low", detection_type="test", confidence=1.0)
    await watched.until(lambda: watched.found("rule") == ["account:acc-rule"], "a rule over two topics")
    (hit,) = (hit for hit in watched.hits.values() if hit.trigger_id == "rule")
    assert 'avg(health_score, "60s") = 20, count(detection, "5m") = 2' in hit.reason


async def _silence(watched: Watched) -> None:
    await watched.send("BehavioralEvent", "acc-quiet", anomaly_score=1.0, pattern="test")
    await watched.until(lambda: watched.found("silent") == ["account:acc-quiet"], "silence, by the clock alone")


async def _all_accounts(watched: Watched) -> None:
    """Two were sent before the kill: four more make six."""
    for number in range(4):
        await watched.send("DetectionEvent", f"acc-{number}", severity="low", detection_type="test", confidence=1.0)
    await watched.until(lambda: watched.found("all") == ["global"], "one value over all accounts")


async def _a_change_while_running(watched: Watched) -> None:
    await watched.add(
        {"triggerId": "late-rule", "triggerType": "custom_rule_trigger", "rule": "last(risk_score) > 97.0"}
    )
    async with asyncio.timeout(DEADLINE_S):
        while not watched.found("late-rule"):
            await watched.send("HealthEvent", "acc-late", health_score=99.0, risk_score=98.0)
            await asyncio.sleep(0.1)
    assert watched.found("late-rule") == ["account:acc-late"]
