"""Random streams and trigger sets for comparing the detector with its naive twin."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from emergency_stop.columnar.columns import Columns
from emergency_stop.columnar.decoder import string_hash
from emergency_stop.detect.compile import compile_plan
from emergency_stop.detect.detector import PartitionDetector
from emergency_stop.detect.plan import Plan
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.trigger_definitions import parse_trigger
from emergency_stop.domain.triggers import Trigger
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.oracle.naive import Event, NaiveDetector, NaiveHit, Rule

TOPICS = {
    topics.TELEMETRY_HEALTH: ("health_score", "risk_score"),
    topics.TELEMETRY_DETECTION: ("severity",),
    topics.TELEMETRY_BEHAVIORAL: ("anomaly_score",),
    topics.TELEMETRY_PROXY: ("outcome", "proxy_id"),
    topics.TELEMETRY_PLATFORM: ("kind", "outcome"),
    topics.TELEMETRY_SYSTEM: ("cpu_percent", "memory_bytes"),
}


def random_events(rng: random.Random, topic: str, count: int) -> list[Event]:
    """Events with bursts, gaps, disorder, duplicates of moments and stragglers older than any window."""
    accounts = [f"account-{number}" for number in range(rng.choice((1, 3, 40, 40, 700)))]
    now, events = 1_700_000_000_000, []
    for offset in range(count):
        now += rng.choice((0, 1, 40, 900, 4_000, 70_000 if rng.random() < 0.05 else 10))
        moment = now - rng.choice((0, 0, 0, 0, 500, 9_000, 200_000))
        events.append(Event(offset * rng.choice((1, 1)), rng.choice(accounts), moment, _values(rng, topic)))
    return events


def _values(rng: random.Random, topic: str) -> dict[str, float | str]:
    if topic == topics.TELEMETRY_HEALTH:
        return {"health_score": rng.uniform(0, 100), "risk_score": float(rng.randrange(101))}
    if topic == topics.TELEMETRY_DETECTION:
        return {"severity": float(rng.randrange(4))}
    if topic == topics.TELEMETRY_BEHAVIORAL:
        return {"anomaly_score": rng.uniform(0, 100)}
    if topic == topics.TELEMETRY_PLATFORM:
        return {"kind": float(rng.randrange(7)), "outcome": float(rng.random() < 0.5)}
    if topic == topics.TELEMETRY_SYSTEM:
        return {"cpu_percent": rng.uniform(0, 100), "memory_bytes": float(rng.randrange(2**32))}
    return {"outcome": float(rng.random() < 0.7), "proxy_id": f"proxy-{rng.randrange(6)}"}


def random_triggers(rng: random.Random, topic: str) -> list[tuple[Trigger, Rule]]:
    """Triggers of the topic's type, each with the rule that the twin follows."""
    return [_random_trigger(rng, topic, number) for number in range(rng.randrange(1, 5))]


def _random_trigger(rng: random.Random, topic: str, number: int) -> tuple[Trigger, Rule]:
    window, cooldown = rng.choice((1_000, 5_000, 30_001, 60_000)), rng.choice((0, 2_000, 60_000))
    account = rng.choice((None, None, None, "account-0"))
    samples, held = rng.choice((1, 1, 3)), rng.choice((0, 0, 3_000))
    name = f"trigger-{number}"
    kind, definition, rule = _shape(rng, topic)
    trigger = parse_trigger(
        {
            "triggerId": name, "triggerType": kind, "name": name, "accountId": account, "timeWindow": window,
            "cooldownPeriod": cooldown, "stopLevel": "immediate", "priority": 1, "minSamples": samples, "forMs": held,
            **definition,
        },
        services=(),
    )  # fmt: skip
    rule.rule_id, rule.window_ms, rule.cooldown_ms = name, window, cooldown
    rule.min_samples, rule.for_ms = samples, held
    rule.watches = None if account is None else account.__eq__
    return trigger, rule


def _shape(rng: random.Random, topic: str) -> tuple[str, dict[str, object], Rule]:
    def rule(kind: str, field: str, compare: str, threshold: float) -> Rule:
        return Rule("", kind, field, compare, threshold, 0, 0)

    limit = float(rng.randrange(10, 90))
    if topic == topics.TELEMETRY_HEALTH and rng.random() < 0.5:
        return "health_score_critical", {"thresholds": {"healthScore": limit}}, rule("avg", "health_score", "<", limit)
    if topic == topics.TELEMETRY_HEALTH:
        return "account_suspension_risk", {"thresholds": {"riskScore": limit}}, rule("max", "risk_score", ">", limit)
    if topic == topics.TELEMETRY_BEHAVIORAL:
        made = rule("max", "anomaly_score", ">", limit)
        return "behavioral_anomaly_severe", {"thresholds": {"anomalyScore": limit}}, made
    if topic == topics.TELEMETRY_SYSTEM:
        made, bytes_max = rule("avg", "cpu_percent", ">", limit), float(rng.randrange(2**32))
        made.either = ("memory_bytes", bytes_max)
        return "system_resource_critical", {"thresholds": {"cpuPercent": limit, "memoryBytes": bytes_max}}, made
    if topic == topics.TELEMETRY_PLATFORM:
        return _platform_shape(rng)
    count = rng.randrange(1, 6)
    if topic == topics.TELEMETRY_DETECTION:
        made = rule("count", "", ">=", count)
        severity = rng.randrange(4)
        made.where = (("severity", ">=", float(severity)),)
        options = {"minSeverity": ("low", "medium", "high", "critical")[severity]}
        return "detection_event_critical", {"thresholds": {"eventCount": count}, "options": options}, made
    made = rule("cascade", "proxy_id", ">=", count)
    made.distinct, made.where = rng.randrange(1, 5), (("outcome", "==", 1.0),)
    return "proxy_failure_cascade", {"thresholds": {"failures": count, "distinctProxies": made.distinct}}, made


def _platform_shape(rng: random.Random) -> tuple[str, dict[str, object], Rule]:
    """``kind`` and ``outcome`` are positions in the schema's enums."""
    count, kind = rng.randrange(1, 6), rng.randrange(4)
    if kind == 3:
        longest = rng.choice((1_000, 5_000, 60_000, 200_000))
        made = Rule("", "active", "", ">", longest, 0, 0, where=(("kind", "==", 5.0),))
        return "time_based_trigger", {"thresholds": {"maxActiveMs": longest}}, made
    if kind == 0:
        rate = rng.choice((0.25, 0.5, 1.0))
        made = Rule("", "avg", "outcome", ">=", rate, 0, 0, where=(("kind", "==", 0.0),))
        return "external_api_failure", {"thresholds": {"failureRate": rate}}, made
    if kind == 1:
        made = Rule("", "count", "", ">=", count, 0, 0, where=(("kind", "==", 1.0),))
        return "rate_limit_violation", {"thresholds": {"violations": count}}, made
    failed = (("kind", "==", 2.0), ("outcome", "==", 1.0))
    made = Rule("", "count", "", ">=", count, 0, 0, where=failed)
    return "authentication_failure", {"thresholds": {"failures": count}}, made


def columns_of(topic: str, events: Sequence[Event], fetch_offset: int) -> Columns:
    """Events as the decoder would hand them over."""
    keys = [event.account.encode() for event in events]
    lengths = np.array([len(key) for key in keys], np.int32)
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64) if keys else np.zeros(0, np.int64)
    fields = {
        name: np.array([string_hash(event.values[name]) for event in events], np.uint64)
        if name == "proxy_id"
        else np.array([event.values[name] for event in events], np.float64)
        for name in TOPICS[topic]
    }
    moments = np.array([event.at for event in events], np.int64)
    return Columns(
        topic=topic, partition=0, fetch_offset=fetch_offset, next_offset=events[-1].offset + 1, n=len(events),
        offset=np.array([event.offset for event in events], np.int64), occurred_at=moments, record_timestamp=moments,
        key_hash=np.array([string_hash(event.account) for event in events], np.uint64), key_start=starts,
        key_len=lengths, value_start=starts, value_len=lengths, schema_id=np.zeros(len(events), np.int32),
        buffer=np.frombuffer(b"".join(keys), np.uint8), fields=fields, rejected=(),
    )  # fmt: skip


def naive_hits(rules: list[Rule], events: Sequence[Event]) -> list[NaiveHit]:
    twin = NaiveDetector(rules)
    for event in events:
        twin.feed(event)
    return twin.hits


def new_detector(plan: Plan, partition: int = 0) -> PartitionDetector:
    return PartitionDetector(plan, partition=partition, hash_key=lambda key: string_hash(key.decode()))


_CHECKPOINTED, _KILLED = 0.2, 0.3
_FED_BETWEEN_PAGES: Final = 0.3


class CrashingRun:
    """A detector that is killed at random: pages and position are written, or only some of the pages."""

    def __init__(self, rng: random.Random, topic: str, plan: Plan) -> None:
        self._rng, self._topic = rng, topic
        self._plan = plan
        self._pages: dict[str, bytes] = {}
        self._position = 0
        self.hits: dict[str, Hit] = {}

    def _restored(self) -> PartitionDetector:
        detector = new_detector(self._plan)
        detector.load(self._pages.items(), {self._topic: self._position})
        return detector

    def undisturbed(self, events: Sequence[Event]) -> list[Hit]:
        """The hits of one detector that gets everything in one batch."""
        detector = new_detector(self._plan)
        return detector.on_batch(columns_of(self._topic, events, events[0].offset), 0)

    def run(self, events: Sequence[Event]) -> list[Hit]:
        detector, at = self._restored(), 0
        while at < len(events):
            at = self._fed(detector, events, at)
            fate = self._rng.random()
            if fate < _CHECKPOINTED:
                position, dirty = at, detector.dirty()
                for page in dirty:
                    self._pages[page] = detector.write(page)
                    if self._rng.random() < _FED_BETWEEN_PAGES:  # what comes between two pages is in the later one
                        at = self._fed(detector, events, at)
                self._position = position
            elif fate < _KILLED:
                for page in detector.dirty():
                    if self._rng.random() < 0.5:
                        self._pages[page] = detector.write(page)
                detector, at = self._restored(), self._position
        return list(self.hits.values())

    def _fed(self, detector: PartitionDetector, events: Sequence[Event], at: int) -> int:
        """Where the next batch starts after one that starts at ``at``, or a little before it."""
        size = self._rng.randrange(1, 60)
        batch = events[max(0, at - self._rng.choice((0, 0, 5))) : at + size]
        if batch:
            for hit in detector.on_batch(columns_of(self._topic, batch, batch[0].offset), 0):
                self.hits.setdefault(hit.hit_id, hit)
        return min(at + size, len(events))


def summaries(hits: Sequence[Hit]) -> list[NaiveHit]:
    made = [
        NaiveHit(
            hit.trigger_id,
            hit.scope.partition(":")[2],
            hit.source_offset,
            hit.observed,
            hit.late,
            hit.suppressed_before,
        )
        for hit in hits
    ]
    return sorted(made, key=lambda hit: (hit.offset, hit.rule_id))


@dataclass(frozen=True)
class Comparison:
    """One stream: what the detector found through crashes, what it finds undisturbed, and what its twin found."""

    seed: int
    found: list[Hit]
    undisturbed: list[Hit]
    wanted: list[NaiveHit]

    def problem(self) -> str | None:
        """What differs, in a line; None where nothing does."""
        if summaries(self.found) != self.wanted:
            return f"{len(self.found)} hits, twin has {len(self.wanted)}"
        if sorted(map(encoded, self.found)) != sorted(map(encoded, self.undisturbed)):
            return "the same hits, but not byte for byte those of a replay"
        return None


_CODEC: Final = Codec(LocalRegistry())


def encoded(hit: Hit) -> bytes:
    return _CODEC.encode(hit, topics.HITS)


def campaign(seed: int, streams: int, events: int) -> Iterator[Comparison]:
    """``streams`` random runs of up to ``events`` events each."""
    for number in range(streams):
        own = seed * 1_000_003 + number
        rng = random.Random(own)
        topic = rng.choice(tuple(TOPICS))
        pairs = random_triggers(rng, topic)
        stream = random_events(rng, topic, rng.randrange(1, events))
        run = CrashingRun(rng, topic, compile_plan(trigger for trigger, _ in pairs))
        wanted = sorted(naive_hits([rule for _, rule in pairs], stream), key=lambda hit: (hit.offset, hit.rule_id))
        yield Comparison(own, run.run(stream), run.undisturbed(stream), wanted)
