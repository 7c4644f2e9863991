"""How the broker is to keep each topic."""

from __future__ import annotations

import pytest

from emergency_stop.adapters.kafka_topics import topic_config
from emergency_stop.config import DEFAULT_SERVICES
from emergency_stop.domain.topics import AUDIT, AUDIT_HEADS, TopicSpec, all_topics

TOPICS = all_topics(DEFAULT_SERVICES)


def test_the_audit_and_its_heads_are_kept_for_ever_and_nothing_else_is_asked_to_be() -> None:
    bounds = {spec.name: topic_config(spec).get("retention.ms") for spec in TOPICS}
    assert {name: bound for name, bound in bounds.items() if bound} == {AUDIT: "-1", AUDIT_HEADS: "-1"}
    assert topic_config(TopicSpec("evidence", None, kept=True))["retention.bytes"] == "-1"


@pytest.mark.parametrize("spec", TOPICS, ids=lambda spec: spec.name)
def test_what_is_state_is_compacted_and_what_happened_is_not(spec: TopicSpec) -> None:
    assert topic_config(spec)["cleanup.policy"] == ("compact" if spec.compacted else "delete")
    assert not (spec.compacted and spec.kept), "compaction deletes records, whatever the retention is"
