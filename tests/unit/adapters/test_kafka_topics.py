"""Topics are created with what they need, and by brokers that do not know all of it too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.admin import NewTopic
from aiokafka.errors import InvalidConfigurationError

from emergency_stop.adapters import kafka_topics
from emergency_stop.adapters.kafka_topics import FUTURE_CONFIG, LOG_APPEND_TIME, TopicReport, ensure_topics
from emergency_stop.control.cli.check import _difference
from emergency_stop.domain.topics import HOLDS, TELEMETRY, TELEMETRY_HEALTH, TopicSpec

HEALTH = next(spec for spec in TELEMETRY if spec.name == TELEMETRY_HEALTH)
HELD = TopicSpec(HOLDS, "Hold", compacted=True)
INVALID_CONFIG = InvalidConfigurationError.errno


@dataclass
class Broker:
    """Refuses topics of which ``refuses`` says so, and has those that it was asked for."""

    refuses: Callable[[NewTopic], bool]
    topics: dict[str, NewTopic] = field(default_factory=dict)

    async def list_topics(self) -> list[str]:
        return list(self.topics)

    async def create_topics(self, wanted: Sequence[NewTopic]) -> Any:
        errors = [(one.name, INVALID_CONFIG if self.refuses(one) else 0, None) for one in wanted]
        self.topics |= {one.name: one for one, (_, code, _) in zip(wanted, errors, strict=True) if not code}
        return SimpleNamespace(topic_errors=errors)

    async def close(self) -> None:
        """Nothing is connected."""


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Broker], Broker]:
    def served(broker: Broker) -> Broker:
        async def admin(_: str) -> Broker:
            return broker

        monkeypatch.setattr(kafka_topics, "_admin", admin)
        return broker

    return served


async def test_telemetry_of_the_future_is_refused_by_its_broker(serve: Callable[[Broker], Broker]) -> None:
    broker = serve(Broker(lambda _: False))
    assert await ensure_topics("anywhere", [HEALTH, HELD]) == (HEALTH.name, HELD.name)
    assert broker.topics[HEALTH.name].topic_configs[FUTURE_CONFIG] == "60000"
    assert FUTURE_CONFIG not in broker.topics[HELD.name].topic_configs, "a hold must pass whatever the clocks say"


async def test_a_broker_that_does_not_know_the_setting_gets_its_topics_without_and_says_so(
    serve: Callable[[Broker], Broker], caplog: pytest.LogCaptureFixture
) -> None:
    broker = serve(Broker(lambda topic: FUTURE_CONFIG in topic.topic_configs))
    assert await ensure_topics("anywhere", [HEALTH, HELD]) == (HEALTH.name, HELD.name)
    assert set(broker.topics) == {HEALTH.name, HELD.name}
    assert "wrong clock" in caplog.text


async def test_other_settings_that_are_refused_are_an_error(serve: Callable[[Broker], Broker]) -> None:
    serve(Broker(lambda topic: topic.name == HELD.name))
    with pytest.raises(InvalidConfigurationError, match=HELD.name):
        await ensure_topics("anywhere", [HEALTH, HELD])


@pytest.mark.parametrize(
    ("timestamp_type", "future_ms_max", "words"),
    [
        ("CreateTime", 60_000, None),
        ("CreateTime", 3_600_000, "has a maximum of 3600000 ms, needed is message.timestamp.after.max.ms=60000"),
        ("CreateTime", None, "lacks message.timestamp.after.max.ms=60000"),
        (LOG_APPEND_TIME, None, None),
        (LOG_APPEND_TIME, 3_600_000, None),
        (None, None, None),
    ],
)
def test_the_check_names_telemetry_that_may_come_from_the_future(
    timestamp_type: str | None, future_ms_max: int | None, words: str | None
) -> None:
    told: dict[str, Any] = {"timestamp_type": timestamp_type, "future_ms_max": future_ms_max}
    report = TopicReport(HEALTH.name, HEALTH.partitions, "delete", **told)
    problem = _difference(HEALTH, report)
    assert (words is None and problem is None) or (words is not None and words in (problem or "")), problem
    held = TopicReport(HELD.name, HELD.partitions, "compact", **told)
    assert _difference(HELD, held) is None
