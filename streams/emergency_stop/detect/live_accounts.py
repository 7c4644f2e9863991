"""How many accounts of a partition sent telemetry lately, from the windows' newest moments: no event is counted for it.

Of a topic that nobody watches nothing is known, and of one whose series all have filters only what passes one of them.
So this is a lower bound; whoever compares with it errs on the side of caution.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from emergency_stop.columnar.columns import I64
from emergency_stop.detect.condition_answers import LIVE_MS
from emergency_stop.detect.live_kernels import count_new, mark_live
from emergency_stop.detect.topic_state import TopicState
from emergency_stop.detect.window_kernels import EMPTY
from emergency_stop.domain.topics import TELEMETRY_SYSTEM


@dataclass(frozen=True, slots=True)
class SeenAccounts:
    """Views of one topic's arrays, a row per account: one begins with its key's hash, others with its newest moment in
    some series.

    They may be read while telemetry is applied, on another thread: a moment more or less is the same to them.
    """

    hashes: I64
    newest: Sequence[I64]


def seen_accounts(topics: Iterable[TopicState]) -> list[SeenAccounts]:
    """What ``count_live`` needs; costs nothing. Processes' own telemetry is about no account."""
    return [
        SeenAccounts(topic.accounts.hashes(), topic.newest_moments())
        for topic in topics
        if topic.topic != TELEMETRY_SYSTEM and topic.accounts.count
    ]


def count_live(seen: Sequence[SeenAccounts], now_ms: int) -> int:
    """Different accounts with an event not older than ``LIVE_MS``. Blocking: milliseconds per hundred thousand."""
    bound = now_ms - LIVE_MS - EMPTY
    most = sum(len(one.hashes) for one in seen)
    places = np.zeros(1 << max(2 * most - 1, 1).bit_length(), np.uint64)
    found = 0
    for one in seen:
        live = np.zeros(len(one.hashes), np.uint8)
        for rows in one.newest:
            mark_live(rows, bound, live)
        found += int(count_new(one.hashes, live, places))
    return found
