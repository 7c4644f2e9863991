"""Triggers that change while the detector runs: who watches goes over at once, and what is in force stays in force."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from emergency_stop.detect.compile import compile_plan
from emergency_stop.detect.detector import PartitionDetector
from emergency_stop.detect.plan import Plan
from emergency_stop.domain import topics
from emergency_stop.domain.default_triggers import BUILTIN_SUSPENSION_ID, builtin_triggers
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import StopLevel
from emergency_stop.rules.definitions import read_trigger
from tests.oracle.naive import Event
from tests.oracle.streams import columns_of, new_detector

START: Final = 1_700_000_000_000
SUSPENDED: Final = {"kind": 3.0, "outcome": 0.0}


def health(name: str, **more: Any) -> Trigger:
    """Fires on one health score below 50; a minute's window, an hour's cooldown."""
    definition = {
        "triggerId": name, "name": name, "triggerType": "health_score_critical", "thresholds": {"healthScore": 50},
        "timeWindow": 60_000, "cooldownPeriod": 3_600_000, "stopLevel": "graceful", "priority": 1, **more,
    }  # fmt: skip
    return read_trigger(definition, services=())


class Feed:
    """Feeds one event after the other to a detector, each a second after the one before."""

    def __init__(self, detector: PartitionDetector, topic: str = topics.TELEMETRY_HEALTH) -> None:
        self.detector = detector
        self._topic = topic
        self._offset = 0

    def sick(self, account: str = "acc-1") -> list[str]:
        """The ids of the triggers that fire on a bad score."""
        return [hit.trigger_id for hit in self.hits(account, {"health_score": 10.0, "risk_score": 0.0})]

    def hits(self, account: str, values: Mapping[str, float | str]) -> list[Hit]:
        event = Event(self._offset, account, START + 1_000 * self._offset, dict(values))
        self._offset += 1
        return self.detector.on_batch(columns_of(self._topic, [event], event.offset), 0)


def restarted(detector: PartitionDetector, plan: Plan) -> PartitionDetector:
    """A successor that finds everything written."""
    successor = new_detector(plan)
    positions = {name: state.next_offset for name, state in detector.topics.items()}
    successor.load([(name, detector.write(name)) for name in detector.dirty()], positions)
    return successor


def test_what_is_built_in_watches_every_account_whatever_overrides_it() -> None:
    override = read_trigger(
        {
            "triggerId": "mine", "name": "mine", "triggerType": "account_suspension_risk", "accountId": "acc-1",
            "overrides": BUILTIN_SUSPENSION_ID, "thresholds": {"riskScore": 100}, "timeWindow": 60_000,
            "cooldownPeriod": 0, "stopLevel": "graceful", "priority": 1,
        },
        services=(),
    )  # fmt: skip
    plan = compile_plan([*builtin_triggers(StopLevel.GRACEFUL), override])
    (hit,) = Feed(new_detector(plan), topics.TELEMETRY_PLATFORM).hits("acc-1", SUSPENDED)
    assert hit.trigger_id == BUILTIN_SUSPENSION_ID


def test_series_that_differ_in_a_far_digit_keep_state_of_their_own() -> None:
    """Two counts of memory, whose limits agree in seven digits, survive a restart apart."""
    limits = (1_000_000_100.0, 1_000_000_200.0)
    plan = compile_plan(
        read_trigger(
            {
                "triggerId": f"rule-{limit:.0f}", "name": "memory", "triggerType": "custom_rule_trigger",
                "rule": f'count(system, "1m", memory_bytes > {limit}) >= 2', "cooldownPeriod": 0,
                "stopLevel": "graceful", "priority": 1,
            },
            services=(),
        )
        for limit in limits
    )  # fmt: skip
    feed = Feed(new_detector(plan), topics.TELEMETRY_SYSTEM)
    between = {"cpu_percent": 0.0, "memory_bytes": 1_000_000_150.0}
    assert feed.hits("acc-1", between) == []
    feed.detector = restarted(feed.detector, plan)
    assert [hit.trigger_id for hit in feed.hits("acc-1", between)] == ["rule-1000000100"]
