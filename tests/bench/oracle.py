"""What the load must hit: fastavro and the naive twin over the topic as the broker has it, one process per part."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from emergency_stop.domain.default_triggers import default_pack
from emergency_stop.domain.topics import TELEMETRY_HEALTH
from tests.bench.rules import rule_hits
from tests.campaign.log import Log
from tests.campaign.telemetry import decode
from tests.oracle.naive import Event, NaiveDetector, Rule

PROCESSES = 2
Place = tuple[str, str, int, int]


def rules() -> list[Rule]:
    """The two of the default triggers that health events feed."""
    health, risk = default_pack(0)[:2]
    return [
        Rule(
            health.trigger_id,
            "avg",
            "health_score",
            "<",
            health.thresholds["healthScore"],
            health.time_window,
            health.cooldown_period,
            min_samples=health.min_samples,
        ),
        Rule(
            risk.trigger_id,
            "max",
            "risk_score",
            ">",
            risk.thresholds["riskScore"],
            risk.time_window,
            risk.cooldown_period,
        ),
    ]


def expected_hits(
    bootstrap: str, partitions: list[int], topic: str = TELEMETRY_HEALTH, *, with_rules: bool = False
) -> set[Place]:
    """(trigger, account, partition, offset) of every hit of ``topic``; those of ``bench.rules`` too, ``with_rules``."""
    parts = [partitions[number::PROCESSES] for number in range(PROCESSES)]
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        found = pool.map(_part, [bootstrap] * PROCESSES, parts, [topic] * PROCESSES, [with_rules] * PROCESSES)
        return set().union(*found)


def _part(bootstrap: str, partitions: list[int], topic: str, with_rules: bool) -> set[Place]:
    hits: set[Place] = set()
    for partition in partitions:
        twin, kept = NaiveDetector(rules()), []
        with Log(bootstrap) as log:
            for message in log.read(topic, only=[partition]):
                event, offset = decode(TELEMETRY_HEALTH, message.value()), message.offset()
                if event is None or offset is None:
                    continue
                twin.feed(Event(offset, event["account_id"], event["occurred_at"], event))
                if with_rules:
                    values = (event["health_score"], event["risk_score"])
                    kept.append((offset, event["account_id"], event["occurred_at"], *values))
        hits |= {(hit.rule_id, hit.account, partition, hit.offset) for hit in twin.hits}
        hits |= {(rule, account, partition, offset) for rule, account, offset in rule_hits(kept)}
    return hits
