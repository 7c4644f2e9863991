"""How many accounts sent telemetry lately: each once, whatever it sent, and no process."""

from __future__ import annotations

import random

from emergency_stop.detect.compile import compile_plan
from emergency_stop.detect.condition_answers import LIVE_MS
from emergency_stop.detect.detector import PartitionDetector
from emergency_stop.detect.live_accounts import count_live, seen_accounts
from emergency_stop.domain import topics
from emergency_stop.domain.default_triggers import default_pack
from tests.oracle.naive import Event
from tests.oracle.streams import columns_of, new_detector, random_events

START = 1_700_000_000_000


def live(detector: PartitionDetector, now_ms: int) -> int:
    return count_live(seen_accounts(detector.topics.values()), now_ms)


def test_accounts_of_several_topics_count_once_and_until_they_are_silent_for_long() -> None:
    """Seed 5. Late events are no news; the default pack watches health and behavior without a filter."""
    rng, last = random.Random(5), dict[str, int]()
    detector = new_detector(compile_plan(default_pack(0)))
    assert live(detector, START) == 0
    for topic in (topics.TELEMETRY_HEALTH, topics.TELEMETRY_BEHAVIORAL):
        events = random_events(rng, topic, 900)
        detector.on_batch(columns_of(topic, events, 0), 0)
        for event in events:
            last[event.account] = max(event.at, last.get(event.account, 0))
    newest, counts = max(last.values()), set()
    for after_ms in (0, LIVE_MS // 2, LIVE_MS, LIVE_MS + 1, 3 * LIVE_MS):
        now_ms = newest + after_ms
        wanted = sum(at >= now_ms - LIVE_MS for at in last.values())
        assert live(detector, now_ms) == wanted
        counts.add(wanted)
    assert len(counts) > 3, counts


def test_what_no_trigger_counts_and_what_processes_send_is_about_no_account() -> None:
    detector = new_detector(compile_plan(default_pack(0)))
    call, limit = {"kind": 0.0, "outcome": 0.0}, {"kind": 6.0, "outcome": 0.0}
    rows = [Event(0, "calls", START, call), Event(1, "other", START, limit)]
    detector.on_batch(columns_of(topics.TELEMETRY_PLATFORM, rows, 0), 0)
    host = Event(0, "service@host", START, {"cpu_percent": 1.0, "memory_bytes": 1.0})
    detector.on_batch(columns_of(topics.TELEMETRY_SYSTEM, [host], 0), 0)
    assert live(detector, START) == 1
