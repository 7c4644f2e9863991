"""Evaluations of a known stream arrive in ClickHouse, and are those of the naive twin."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.apps.demo.witness import Analyst
from emergency_stop.apps.stack.child import Child
from emergency_stop.config import Settings
from emergency_stop.domain.topics import TELEMETRY_HEALTH, TRIGGERS
from emergency_stop.ports import Publish
from emergency_stop.testing.brokers import EmbeddedBroker
from emergency_stop.wire.codec import Codec, encode_record
from emergency_stop.wire.registry import LocalRegistry
from tests.oracle.evaluations import Row, twin_of, wanted_rows
from tests.oracle.naive import Event
from tests.oracle.streams import random_events, random_triggers

pytestmark = pytest.mark.needs("broker", "chdb")
SEED: Final = int(os.environ.get("SEED", "7"))
READY_MS, DEADLINE_S = 180_000, 90
ROWS_MAX: Final = 4
SUMMARIES: Final = """
    SELECT trigger_id, if(outcome = 'others', '', splitByString(':', scope)[2]), outcome, evaluations, approach_percent,
        observed, threshold, window_samples, toUnixTimestamp64Milli(evaluated_at), source_offset
    FROM evaluations_once(days = 3650) WHERE outcome IN ('unchanged', 'others')"""
CHANGES: Final = """
    SELECT trigger_id, splitByString(':', scope)[2], outcome, toUnixTimestamp64Milli(evaluated_at), source_offset, late
    FROM evaluations_once(days = 3650) WHERE outcome NOT IN ('unchanged', 'others', 'in_force', 'hit')"""


class Installation:
    """A broker with one partition of telemetry, a detector, and a sink."""

    def __init__(self, brokers: str, folder: Path, **settings: Any) -> None:
        self.settings = Settings(
            brokers=brokers, data_dir=folder / "data", checkpoint_interval_ms=100, telemetry_partitions=1,
            retain_event_history_days=3_650, evaluations_max=ROWS_MAX,
            # On a machine with little, evaluations would be shed.
            cpu_percent_max=100, memory_bytes_max=1 << 40, **settings,
        )  # fmt: skip
        self.children = [Child(name, [name], self.settings, folder / f"{name}.log") for name in ("detector", "sink")]
        self.analyst = Analyst(self.settings.data_dir)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """The answer, or nothing while the sink does not answer."""
        try:
            return [tuple(row) for row in self.analyst.ask(sql)]
        except (OSError, ValueError):
            return []

    def logs(self) -> str:
        return "\n".join(child.log_tail() for child in self.children)

    async def send(self, records: list[Publish]) -> None:
        publisher = KafkaPublisher(self.settings.brokers, client_id="test")
        await publisher.start()
        await publisher.publish_all(records)
        await publisher.stop()


@contextmanager
def started(folder: Path, triggers: list[Publish], **settings: Any) -> Iterator[Installation]:
    with EmbeddedBroker(folder) as broker:
        installation = Installation(broker.bootstrap, folder, **settings)

        async def start() -> None:
            await ensure_topics(broker.bootstrap, installation.settings.topics())
            await installation.send(triggers)
            for child in installation.children:
                child.start()
            for child in installation.children:
                await child.ready(READY_MS)

        async def stop() -> None:
            for child in installation.children:
                await child.stop()

        try:
            asyncio.run(start())
            yield installation
        finally:
            asyncio.run(stop())


def stream(rng: random.Random) -> list[Event]:
    """Random events, and one after them all, so that every minute ends."""
    events = random_events(rng, TELEMETRY_HEALTH, 300)
    last = Event(300, "account-last", events[-1].at + 3_600_000, {"health_score": 100.0, "risk_score": 0.0})
    return [*events, last]


def records_of(events: list[Event]) -> list[Publish]:
    schema_id = LocalRegistry().schema_id("HealthEvent", TELEMETRY_HEALTH)
    return [
        Publish(
            TELEMETRY_HEALTH,
            one.account.encode(),
            encode_record(
                "HealthEvent",
                {"event_id": str(one.offset), "account_id": one.account, "occurred_at": one.at, **one.values},
                schema_id,
            ),
        )
        for one in events
    ]


def some_triggers(rng: random.Random) -> tuple[list[Any], list[Publish]]:
    """(triggers with the twin's rules, their records); not those of one account, whose others nobody counts."""
    pairs = [*random_triggers(rng, TELEMETRY_HEALTH), *random_triggers(rng, TELEMETRY_HEALTH)][:4]
    pairs = [(trigger, rule) for trigger, rule in pairs if trigger.account_id is None][:1] or pairs[:1]
    codec = Codec(LocalRegistry())
    return pairs, [Publish(TRIGGERS, one.trigger_id.encode(), codec.encode(one, TRIGGERS)) for one, _ in pairs]


async def until_equal(installation: Installation, sql: str, wanted: list[Row], what: str) -> None:
    found: list[Row] = []
    try:
        async with asyncio.timeout(DEADLINE_S):
            while sorted(found := list(installation.ask(sql)), key=str) != sorted(wanted, key=str):  # noqa: ASYNC110  (a state to poll)
                await asyncio.sleep(0.1)
    except TimeoutError:
        extra, missing = [row for row in found if row not in wanted], [row for row in wanted if row not in found]
        pytest.fail(f"{what}, seed {SEED}: extra {extra[:3]}, missing {missing[:3]}\n{installation.logs()}")


def test_what_changed_and_what_came_near_arrives_as_the_twin_has_it(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    pairs, triggers = some_triggers(rng)
    events = stream(rng)
    twin = twin_of([rule for _, rule in pairs], events)
    changes: list[Row] = [(c.rule_id, c.account, c.outcome, c.at, c.offset, c.late) for c in twin.changes]
    summaries = [row for start in twin.ended() for row in wanted_rows(twin, pairs, start, ROWS_MAX)]
    assert len(changes) > 3
    assert len(summaries) > 3
    with started(tmp_path, triggers) as installation:
        asyncio.run(installation.send(records_of(events)))
        asyncio.run(until_equal(installation, CHANGES, changes, "changes"))
        asyncio.run(until_equal(installation, SUMMARIES, summaries, "summaries"))
        (versions,) = installation.ask("SELECT groupUniqArray(trigger_id) FROM evaluations WHERE outcome = 'in_force'")
        assert set(versions[0]) > {trigger.trigger_id for trigger, _ in pairs}


def test_without_detailed_logging_only_what_changed_arrives(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    pairs, triggers = some_triggers(rng)
    events = stream(rng)
    changes: list[Row] = [
        (c.rule_id, c.account, c.outcome, c.at, c.offset, c.late)
        for c in twin_of([rule for _, rule in pairs], events).changes
    ]
    with started(tmp_path, triggers, detailed_logging=False) as installation:
        asyncio.run(installation.send(records_of(events)))
        asyncio.run(until_equal(installation, CHANGES, changes, "changes"))
        assert installation.ask(SUMMARIES) == []
