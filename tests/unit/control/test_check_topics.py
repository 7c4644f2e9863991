"""What `estop check` says of a topic that is not as needed."""

from __future__ import annotations

import pytest

from emergency_stop.adapters.kafka_topics import TopicReport
from emergency_stop.control.cli.check import _difference
from emergency_stop.domain.topics import TopicSpec

STATE = TopicSpec("state", None, compacted=True)
EVENTS = TopicSpec("events", None)
EVIDENCE = TopicSpec("evidence", None, kept=True)
WEEK_MS = 604_800_000


@pytest.mark.parametrize(
    ("spec", "found", "words"),
    [
        (STATE, None, "state is missing; create it with 4 partitions"),
        (STATE, TopicReport("state", 3, "compact"), "state has 3 partitions, needed are 4"),
        (STATE, TopicReport("state", 4, "delete"), "needed is compact"),
        (STATE, TopicReport("state", 4, "compact", WEEK_MS), ""),
        (STATE, TopicReport("state", 4, None), ""),  # the broker does not say
        (EVENTS, TopicReport("events", 4, "compact"), "needed is delete"),
        (EVENTS, TopicReport("events", 4, "delete", WEEK_MS, 1 << 30), ""),
        (EVIDENCE, TopicReport("evidence", 4, "delete", -1, -1), ""),
        (EVIDENCE, TopicReport("evidence", 4, "delete"), ""),
        (EVIDENCE, TopicReport("evidence", 4, "delete", WEEK_MS, -1), "retention.ms=604800000, needed is -1"),
        (EVIDENCE, TopicReport("evidence", 4, "delete", -1, 9), "evidence has retention.bytes=9, needed is -1"),
        (EVIDENCE, TopicReport("evidence", 4, "delete", 0, -1), "evidence has retention.ms=0, needed is -1"),
    ],
)
def test_a_difference_is_told_and_nothing_else(spec: TopicSpec, found: TopicReport | None, words: str) -> None:
    told = _difference(spec, found) or ""
    assert words in told
    assert bool(words) == bool(told)


def test_evidence_that_would_be_deleted_is_told_with_the_command_that_mends_it() -> None:
    told = _difference(EVIDENCE, TopicReport("evidence", 4, "delete", WEEK_MS, -1)) or ""
    assert "--entity-name evidence --add-config retention.ms=-1,retention.bytes=-1" in told
