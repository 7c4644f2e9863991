"""What cooldowns held back since the last hit, per trigger and account: no hit has told it yet."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from emergency_stop.detect.detector import PartitionDetector
from emergency_stop.detect.hits import scope_of
from emergency_stop.detect.judge_kernels import SUPPRESSED, WHO
from emergency_stop.detect.parameters import mark


def suppressed_since(detector: PartitionDetector) -> Iterator[tuple[str, str, int]]:
    """(trigger id, scope, hits suppressed since its last one); conditions of accounts and of processes."""
    for topic in detector.topics.values():
        for state in topic.groups.values():
            rows = state.table.rows[: topic.accounts.count]
            for slot in np.flatnonzero(rows[:, SUPPRESSED]).tolist():
                key = topic.accounts.key(slot)
                member = state.member_for(key)
                if member is not None and int(rows[slot, WHO]) == mark(member.trigger):
                    scope = scope_of(topic.topic, key.decode(errors="backslashreplace"))
                    yield member.trigger.trigger_id, str(scope), int(rows[slot, SUPPRESSED])
