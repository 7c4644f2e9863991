"""Ten rules in CEL beside the default triggers, and what they must hit: rules such as a fleet's owner would write.

Seven read health events; three of those, and three more, read other topics too, of which the load has no events. The
windows are three, as those of one owner would be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from emergency_stop.domain.topics import TELEMETRY_HEALTH
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.definitions import read_trigger
from tests.oracle.naive_rules import NaiveRule, NaiveRules, Sampled, both, either, less

COOLDOWN_MS: Final = 300_000
RULES: Final = {
    "rule-falling": 'avg(health_score, "60s") - avg(health_score, "5m") < -56.0',
    "rule-sick-and-risky": 'avg(health_score, "60s") < 35.0 && max(risk_score, "30s") > 80.0',
    "rule-near-death": 'min(health_score, "5m") < 1.0 && count(health, "5m") >= 3',
    "rule-long-risk": 'avg(risk_score, "5m") > 70.0',
    "rule-either": 'max(risk_score, "30s") > 97.0 || avg(health_score, "60s") < 5.0',
    "rule-last": 'last(health_score) < 2.0 && avg(risk_score, "5m") > 40.0',
    "rule-sick-and-seen": 'avg(health_score, "60s") < 40.0 && count(detection, "5m") >= 2',
    "rule-calls-fail": 'ratio(platform.outcome == "failed", "2m", platform.kind == "api_call") > 0.5'
    ' && avg(health_score, "60s") < 40.0',
    "rule-proxies": 'distinct(proxy.proxy_id, "10m", proxy.outcome == "failed") >= 3',
    "rule-anomalous": 'max(anomaly_score, "5m") > 80.0 && avg(health_score, "5m") < 40.0',
}
#: No rule can be true of an account whose scores have always been on the good side of these.
GOOD_HEALTH_MIN, GOOD_RISK_MAX = 44.0, 61.0


def rule_triggers() -> list[Trigger]:
    return [
        read_trigger(
            {
                "trigger_id": name, "name": name, "trigger_type": "custom_rule_trigger", "rule": text,
                "cooldown_period": COOLDOWN_MS, "stop_level": "graceful", "priority": 2, "min_samples": 1,
            },
            services=(),
        )
        for name, text in RULES.items()
    ]  # fmt: skip


def _health(function: str, field: str, window_ms: int, depth: int = 0) -> Sampled:
    return Sampled(function, TELEMETRY_HEALTH, field, window_ms, depth=depth)


_AVG_MINUTE, _AVG_LONG = _health("avg", "health_score", 60_000), _health("avg", "health_score", 300_000)
_RISK_NOW, _RISK_LONG = _health("max", "risk_score", 30_000), _health("avg", "risk_score", 300_000)
_MIN_LONG, _COUNT = _health("min", "health_score", 300_000), _health("count", "", 300_000, depth=4)
_LAST = _health("last", "health_score", 0)


def naive_rules() -> list[NaiveRule]:
    """Those that the load can make true; the others need events of topics that it does not have."""
    return [
        NaiveRule(
            "rule-falling",
            (_AVG_MINUTE, _AVG_LONG),
            lambda v: None if v[0] is None or v[1] is None else v[0] - v[1] < -56,
            COOLDOWN_MS,
        ),
        NaiveRule(
            "rule-sick-and-risky",
            (_AVG_MINUTE, _RISK_NOW),
            lambda v: both(less(v[0], 35), less(80, v[1])),
            COOLDOWN_MS,
        ),
        NaiveRule("rule-near-death", (_MIN_LONG, _COUNT), lambda v: both(less(v[0], 1), less(2, v[1])), COOLDOWN_MS),
        NaiveRule("rule-long-risk", (_RISK_LONG,), lambda v: less(70, v[0]), COOLDOWN_MS),
        NaiveRule(
            "rule-either", (_RISK_NOW, _AVG_MINUTE), lambda v: either(less(97, v[0]), less(v[1], 5)), COOLDOWN_MS
        ),
        NaiveRule("rule-last", (_LAST, _RISK_LONG), lambda v: both(less(v[0], 2), less(40, v[1])), COOLDOWN_MS),
    ]


def rule_hits(events: Sequence[tuple[int, str, int, float, float]]) -> set[tuple[str, str, int]]:
    """(rule, account, offset) of every hit; ``events`` are (offset, account, moment, health, risk) in log order.

    Only accounts in trouble are looked at: of the others, every rule is false by the bounds above.
    """
    troubled = {one[1] for one in events if one[3] < GOOD_HEALTH_MIN or one[4] > GOOD_RISK_MAX}
    twin = NaiveRules(naive_rules())
    hits: set[tuple[str, str, int]] = set()
    for offset, account, at, health, risk in events:
        if account in troubled:
            before = len(twin.hits)
            twin.feed(TELEMETRY_HEALTH, account, at, {"health_score": health, "risk_score": risk})
            hits |= {(rule, account, offset) for rule, _, _, _ in twin.hits[before:]}
    return hits
