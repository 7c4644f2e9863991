"""Questions about conditions on a real broker, to running detectors of both lanes."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.apps.stack.child import Child
from emergency_stop.config import Settings
from emergency_stop.coordinate.part_answers import PartAnswers
from emergency_stop.domain.messages import ConditionAnswer, ConditionQuestion
from emergency_stop.domain.questions import question_routes
from emergency_stop.domain.topics import ANSWERS, QUESTIONS, TRIGGERS
from emergency_stop.domain.values import ConditionState
from emergency_stop.rules.definitions import read_trigger
from emergency_stop.wire.codec import Codec, encode_record
from emergency_stop.wire.registry import LocalRegistry

pytestmark = pytest.mark.needs("broker")
READY_MS, DEADLINE_S = 180_000, 90
LIMITS_MS = 4_000
LANES = ("a", "b")
CLEAR, HOLDS, UNKNOWN = ConditionState.CLEAR, ConditionState.HOLDS, ConditionState.UNKNOWN
IN_FORCE: list[dict[str, Any]] = [
    {"triggerId": "low", "triggerType": "health_score_critical", "thresholds": {"healthScore": 30},
     "timeWindow": 600_000},
    {"triggerId": "limits", "triggerType": "rate_limit_violation", "thresholds": {"violations": 1},
     "timeWindow": LIMITS_MS},
    {"triggerId": "busy", "triggerType": "system_resource_critical", "thresholds": {"cpuPercent": 90},
     "timeWindow": 600_000},
    {"triggerId": "all-low", "triggerType": "health_score_critical", "thresholds": {"healthScore": 30},
     "timeWindow": 600_000, "across": "accounts"},
]  # fmt: skip


class Office:
    """Asks as a coordinator does, and keeps what each lane answers."""

    def __init__(self, settings: Settings, folder: Path, publisher: KafkaPublisher) -> None:
        self.settings, self.publisher = settings, publisher
        self.codec = Codec(LocalRegistry())
        self.lanes = [
            Child(f"lane-{lane}", ["detector"], replace(settings, detector_lane=lane), folder / f"{lane}.log")
            for lane in LANES
        ]
        self.parts = PartAnswers()
        self.answers: dict[str, list[ConditionAnswer]] = defaultdict(list)
        self.keys: set[bytes | None] = set()
        self._asked = 0

    def take(self, record: TailRecord) -> None:
        self.keys.add(record.key)
        whole = self.parts.take(self.codec.decode(ConditionAnswer, record.value))
        if whole is not None:
            self.answers[whole.question_id].append(whole)

    async def add(self, definition: dict[str, Any]) -> None:
        common = {"name": definition["triggerId"], "cooldownPeriod": 0, "stopLevel": "graceful", "priority": 1}
        trigger = read_trigger({**common, **definition}, services=())
        await self.publisher.publish(TRIGGERS, trigger.trigger_id.encode(), self.codec.encode(trigger, TRIGGERS))

    async def send(self, record: str, account: str, **fields: Any) -> None:
        topic = f"telemetry.{record.removesuffix('Event').lower()}"
        event = {"event_id": "e", "account_id": account, "occurred_at": time.time_ns() // 1_000_000, **fields}
        value = encode_record(record, event, LocalRegistry().schema_id(record, topic))
        await self.publisher.publish(topic, account.encode(), value)

    async def health(self, account: str, *scores: float) -> None:
        for score in scores:
            await self.send("HealthEvent", account, health_score=score, risk_score=0.0)

    async def load(self, host: str, percent: float) -> None:
        what = {"service": "alpha", "host": host, "cpu_percent": percent, "memory_bytes": 1}
        await self.send("SystemEvent", f"alpha@{host}", **what)

    async def ask(self, trigger_id: str, scope: str, lanes: int = 1) -> list[ConditionAnswer]:
        """The answers of so many lanes, in the order in which they came."""
        self._asked += 1
        question = ConditionQuestion(f"q{self._asked}", trigger_id, scope, "e", time.time_ns() // 1_000_000)
        for route in question_routes(question, self.settings.telemetry_partitions):
            value = self.codec.encode(route.question, QUESTIONS)
            await self.publisher.publish(QUESTIONS, route.key.encode(), value, partition=route.partition)
        try:
            async with asyncio.timeout(DEADLINE_S):
                while len(self.answers[question.question_id]) < lanes:  # noqa: ASYNC110  (a state to poll, no event)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            logs = "\n".join(child.log_tail() for child in self.lanes)
            pytest.fail(f"not within {DEADLINE_S} s: {lanes} answers to {question}; got {dict(self.answers)}\n{logs}")
        return self.answers[question.question_id]

    async def becomes(self, state: ConditionState, trigger_id: str, scope: str) -> ConditionAnswer:
        """Ask until the answer is so."""
        deadline = time.monotonic() + DEADLINE_S
        while (answer := (await self.ask(trigger_id, scope))[0]).state is not state:
            assert time.monotonic() < deadline, answer
            await asyncio.sleep(0.05)
        return answer


@asynccontextmanager
async def _office(brokers: str, folder: Path) -> AsyncIterator[Office]:
    settings = Settings(brokers=brokers, data_dir=folder, checkpoint_interval_ms=100)
    publisher = KafkaPublisher(brokers, client_id="test")
    await publisher.start()
    office = Office(settings, folder, publisher)
    await ensure_topics(brokers, settings.topics())
    tail = CompactedTail(brokers, ANSWERS, office.take, client_id="test")
    await tail.start()
    try:
        for definition in IN_FORCE:
            await office.add(definition)
        for child in office.lanes:
            child.start()
        await asyncio.gather(*(child.ready(READY_MS) for child in office.lanes))
        yield office
    finally:
        await asyncio.gather(*(child.stop() for child in office.lanes))
        await tail.stop()
        await publisher.stop()


async def test_running_detectors_tell_whether_a_condition_has_cleared(broker: str, tmp_path: Path) -> None:
    async with _office(broker, tmp_path) as office:
        await _an_account(office)
        await _absence(office)
        await _a_service(office)
        await _all_accounts(office)
        assert office.keys == {b"account:acc", b"account:stranger", b"service:alpha", b"service:beta", b"global"}


async def _an_account(office: Office) -> None:
    """What was sent before the question counts in its answer, whoever gives it."""
    await office.health("acc", 10)
    both = await office.ask("low", "account:acc", lanes=2)
    assert [answer.state for answer in both] == [HOLDS, HOLDS]
    assert "= 10 of 1 samples, clear from 33" in both[0].detail
    await office.health("acc", *[90] * 9)
    both = await office.ask("low", "account:acc", lanes=2)
    assert [(answer.state, answer.subjects) for answer in both] == [(CLEAR, 1), (CLEAR, 1)]
    assert (await office.ask("low", "account:stranger"))[0].state is UNKNOWN
    assert (await office.ask("no-such-trigger", "account:acc"))[0].state is UNKNOWN


async def _absence(office: Office) -> None:
    """The window empties by the clock, while the account says nothing more of the kind."""
    sent_at = time.time_ns() // 1_000_000
    await office.send("PlatformEvent", "acc", kind="rate_limit", outcome="failed")
    first = (await office.ask("limits", "account:acc"))[0]
    assert first.state is HOLDS or first.answered_at >= sent_at + LIMITS_MS, "a slow machine may answer late"
    found = await office.becomes(CLEAR, "limits", "account:acc")
    assert "= 0 of 1, the newest" in found.detail


async def _a_service(office: Office) -> None:
    """Its hosts lie in different partitions; one of them is enough to hold."""
    for host in range(6):
        await office.load(f"host-{host}", 99.0 if host == 4 else 5.0)
    found = (await office.ask("busy", "service:alpha"))[0]
    assert (found.state, "alpha@host-4" in found.detail) == (HOLDS, True)
    for _ in range(9):
        await office.load("host-4", 5.0)
    found = (await office.ask("busy", "service:alpha"))[0]
    assert (found.state, found.subjects) == (CLEAR, 6)
    assert (await office.ask("busy", "service:beta"))[0].state is UNKNOWN


async def _all_accounts(office: Office) -> None:
    """So far one sent 10 and nine times 90."""
    assert (await office.becomes(CLEAR, "all-low", "global")).state is CLEAR
    await office.health("another", *[0] * 30)
    await office.becomes(HOLDS, "all-low", "global")
