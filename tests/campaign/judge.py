"""Reads back what the broker holds and what the oracle makes of it."""

from __future__ import annotations

import multiprocessing
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Message

from emergency_stop.domain.ids import derived_id, hit_cause
from emergency_stop.domain.messages import AuditRecord, Emergency, Hit
from emergency_stop.domain.values import EmergencyState, Mode
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.campaign.log import Log
from tests.campaign.telemetry import TOPICS, decode
from tests.campaign.triggers import rules_of
from tests.campaign.verdict import HitPlace
from tests.oracle.naive import Event, NaiveDetector

FINISHED = (EmergencyState.STOPPED, EmergencyState.PARTIAL)
JOINED = "hit_joined"
SEVERITIES = {"low": 0.0, "medium": 1.0, "high": 2.0, "critical": 3.0}


@dataclass
class Truth:
    """What the telemetry in the log means: good records per topic, bad ones by place, the oracle's hits."""

    good: Counter[str] = field(default_factory=Counter)
    bad: set[tuple[str, int, int]] = field(default_factory=set)
    hits: set[HitPlace] = field(default_factory=set)

    def absorb(self, other: Truth) -> None:
        self.good += other.good
        self.bad |= other.bad
        self.hits |= other.hits


@dataclass
class Published:
    """What the processes under test wrote."""

    hits: list[tuple[HitPlace, str]] = field(default_factory=list)
    #: Per trigger and scope the first enforced hit opens an emergency. Nobody resumes, so the later ones join it.
    opening: dict[tuple[str, str], str] = field(default_factory=dict)
    joining: set[tuple[str, str]] = field(default_factory=set)
    #: Ids of the audit records that say so.
    joined_audits: set[str] = field(default_factory=set)
    emergencies: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    states: dict[str, EmergencyState] = field(default_factory=dict)
    dead_letters: Counter[tuple[str, int, int]] = field(default_factory=Counter)

    @property
    def joins_expected(self) -> set[str]:
        """Ids of the audit records that must be there, by the rule that derives them."""
        return {derived_id("audit", JOINED, scope, hit_cause(hit_id)) for scope, hit_id in self.joining}

    @property
    def unfinished(self) -> list[str]:
        return [name for name, state in self.states.items() if state not in FINISHED]


def find_truth(bootstrap: str, processes: int) -> Truth:
    """Feed every telemetry partition to the oracle; a partition is one oracle's, as it is one detector's."""
    with Log(bootstrap) as log:
        numbers = log.partitions(TOPICS[0])
    shares = [(bootstrap, numbers[first::processes]) for first in range(processes)]
    truth = Truth()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for part in pool.starmap(_truth_of, shares):
            truth.absorb(part)
    return truth


def _truth_of(bootstrap: str, numbers: list[int]) -> Truth:
    truth = Truth()
    oracles: dict[tuple[str, int], NaiveDetector] = {}
    with Log(bootstrap) as log:
        for message in log.read(*TOPICS, only=numbers):
            topic, partition, offset = _place(message)
            event = decode(topic, message.value())
            if event is None:
                truth.bad.add((topic, partition, offset))
                continue
            truth.good[topic] += 1
            oracle = oracles.get((topic, partition))
            if oracle is None:
                oracle = oracles[topic, partition] = NaiveDetector(rules_of(topic))
            oracle.feed(Event(offset, event["account_id"], event["occurred_at"], _values(topic, event)))
    for (topic, partition), oracle in oracles.items():
        truth.hits |= {HitPlace(hit.rule_id, hit.account, topic, partition, hit.offset) for hit in oracle.hits}
    return truth


def _values(topic: str, event: dict[str, Any]) -> dict[str, Any]:
    match topic:
        case "telemetry.detection":
            return {"severity": SEVERITIES[event["severity"]]}
        case "telemetry.proxy":
            return {"proxy_id": event["proxy_id"], "outcome": float(event["outcome"] == "failed")}
        case "telemetry.platform":
            return {"kind": float(event["kind"] == "account_suspension")}
        case _:
            return event


def read_published(log: Log) -> Published:
    """Everything on the topics that the processes under test write, duplicates included."""
    codec = Codec(LocalRegistry())
    published = Published()
    for message in log.read("estop.hits"):
        hit = codec.decode(Hit, message.value())
        place = HitPlace(
            hit.trigger_id, hit.account_id or "", hit.source_topic, hit.source_partition, hit.source_offset
        )
        published.hits.append((place, hit.hit_id))
        if hit.mode is Mode.ENFORCE:
            first = published.opening.setdefault((hit.trigger_id, hit.scope), hit.hit_id)
            if hit.hit_id != first:
                published.joining.add((hit.scope, hit.hit_id))
    for message in log.read("estop.emergencies"):
        emergency = codec.decode(Emergency, message.value())
        published.emergencies[emergency.cause].add(emergency.emergency_id)
        published.states[emergency.emergency_id] = emergency.state
    for message in log.read("estop.audit"):
        record = codec.decode(AuditRecord, message.value())
        if record.action == JOINED:
            published.joined_audits.add(record.audit_id)
    published.dead_letters = Counter(_origins(log.read("estop.dead-letter")))
    return published


def _origins(dead_letters: Iterable[Message]) -> Iterable[tuple[str, int, int]]:
    for message in dead_letters:
        found: Any = message.headers() or []
        headers = {name.removeprefix("__connect.errors."): value.decode() for name, value in found if value}
        yield headers["topic"], int(headers["partition"]), int(headers["offset"])


def _place(message: Message) -> tuple[str, int, int]:
    return message.topic() or "", message.partition() or 0, message.offset() or 0
