"""What brokers keep of a topic, as they say it themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from emergency_stop.adapters.kafka_topics import describe_topics, ensure_topics
from emergency_stop.control.cli.check import _difference
from emergency_stop.domain.topics import TopicSpec
from emergency_stop.testing.brokers import ApacheKafka

WEEK_MS = 604_800_000
EVIDENCE = TopicSpec("evidence", None, partitions=1, kept=True)


@pytest.mark.needs("java", "maven")
async def test_evidence_is_kept_for_ever_and_a_topic_from_before_is_told(tmp_path: Path) -> None:
    former = replace(EVIDENCE, name="former", kept=False)
    by_default = {"log.retention.ms": str(WEEK_MS), "log.retention.bytes": str(1 << 30)}
    with ApacheKafka(tmp_path, heap_mb=256, short_lived=True, properties=by_default) as broker:
        await ensure_topics(broker.bootstrap, [EVIDENCE, former])
        found = await describe_topics(broker.bootstrap, ["evidence", "former"])
    assert (found["evidence"].retention_ms, found["evidence"].retention_bytes) == (-1, -1)
    assert _difference(EVIDENCE, found["evidence"]) is None
    told = _difference(replace(former, kept=True), found["former"]) or ""
    assert told.startswith(f"former has retention.ms={WEEK_MS}, retention.bytes={1 << 30}, needed is -1")


@pytest.mark.needs("broker")
async def test_the_embedded_broker_takes_the_settings_of_evidence(broker: str) -> None:
    assert await ensure_topics(broker, [EVIDENCE]) == ("evidence",)
    found = await describe_topics(broker, ["evidence"])
    assert _difference(EVIDENCE, found["evidence"]) is None
