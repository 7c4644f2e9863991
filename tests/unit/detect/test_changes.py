"""Triggers that change while the detector runs: who watches goes over at once, and what is in force stays in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from emergency_stop.detect.compile import Compiler, compile_plan
from emergency_stop.detect.detector import PartitionDetector
from emergency_stop.detect.plan import Plan
from emergency_stop.domain import topics
from emergency_stop.domain.default_triggers import BUILTIN_SUSPENSION_ID, builtin_triggers
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.triggers import PERCENT_ALL, Trigger
from emergency_stop.domain.values import StopLevel
from emergency_stop.rules.definitions import read_trigger, stable_text, stable_version
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


def canary_of(stable: Trigger, percent: int, **changes: Any) -> Plan:
    """A next version, for a share of the accounts; ``stable`` stays in force for the others."""
    version = replace(stable, version=stable.version + 1, canary_percent=percent, **changes)
    canary = replace(version, stable=stable_text(stable) if percent < PERCENT_ALL else "")
    return Compiler(stable_version).compile([canary])


def test_a_canary_leaves_the_spans_of_the_other_accounts_alone() -> None:
    """The stable version waits for three seconds, the canary for none; of nobody yet."""
    stable = health("base", forMs=3_000)
    feed = Feed(new_detector(compile_plan([stable])))
    assert [feed.sick(), feed.sick()] == [[], []]
    feed.detector.replan(canary_of(stable, 0, for_ms=0))
    assert [feed.sick(), feed.sick()] == [[], ["base"]]


@pytest.mark.parametrize("percent", [0, 100])
def test_a_canary_that_ends_keeps_cooldowns_and_spans(percent: int) -> None:
    """Whoever watched the account: its span goes on, and one hit is all there is within an hour."""
    stable = health("base", forMs=3_000)
    feed = Feed(new_detector(canary_of(stable, percent)))
    assert [feed.sick("acc-2") for _ in range(4)] == [[], [], [], ["base"]]
    assert [feed.sick(), feed.sick()] == [[], []]
    feed.detector = restarted(feed.detector, feed.detector.plan)
    feed.detector.replan(canary_of(stable, 100 - percent))
    feed.detector.replan(compile_plan([replace(stable, version=3)]))
    assert [feed.sick("acc-2"), feed.sick(), feed.sick()] == [[], ["base"], []]


def test_a_silence_is_told_once_though_a_canary_begins_and_ends() -> None:
    rule = {
        "triggerId": "silent", "name": "silent", "triggerType": "custom_rule_trigger", "cooldownPeriod": 0,
        "rule": 'absent(health, "30s")', "stopLevel": "graceful", "priority": 1,
    }  # fmt: skip
    stable = read_trigger(rule, services=())
    feed = Feed(new_detector(compile_plan([stable])))
    feed.sick()
    told = []
    for step, plan in enumerate((feed.detector.plan, canary_of(stable, 0), canary_of(stable, 100))):
        feed.detector.replan(plan)
        told.append(len(feed.detector.on_tick(START + 60_000 + 5_000 * step, (topics.TICKS, step), 0)))
    assert told == [1, 0, 0]


def test_a_trigger_may_be_called_as_the_state_of_another_was() -> None:
    """A silence that was told used to be kept under the trigger's name and ``/fired``."""
    rule = {
        "triggerId": "x", "name": "silent", "triggerType": "custom_rule_trigger", "cooldownPeriod": 0,
        "rule": 'absent(health, "30s")', "stopLevel": "graceful", "priority": 1,
    }  # fmt: skip
    plan = compile_plan([read_trigger(rule, services=()), health("x/fired")])
    feed = Feed(new_detector(plan))
    assert feed.sick() == ["x/fired"]
    assert len(feed.detector.on_tick(START + 60_000, (topics.TICKS, 0), 0)) == 1
    feed.detector = restarted(feed.detector, plan)
    assert feed.sick() == [], "its cooldown stands"


def test_suppressed_hits_are_counted_once_whatever_changes() -> None:
    stable = health("base")
    feed = Feed(new_detector(compile_plan([stable])))
    counts = feed.detector.topics[topics.TELEMETRY_HEALTH].counts
    assert [feed.sick(), feed.sick(), feed.sick()] == [["base"], [], []]
    assert counts.suppressed == 2
    feed.detector.replan(canary_of(stable, 0))
    assert feed.sick() == []
    assert counts.suppressed == 3
    feed.detector.replan(compile_plan([health("other")]))
    assert feed.sick() == ["other"]
    assert counts.suppressed == 3


#: One account's trigger in each of the places that it can have: beside what it overrides, or in a group by itself.
OWN = health("own", accountId="acc-1")
OVERRIDE = health("own", accountId="acc-1", overrides="base")
BASE, WIDER_BASE = health("base"), health("base", timeWindow=120_000)
PLACES = {
    "first of its shape": [OWN],
    "behind another": [health("another", accountId="acc-1", thresholds={"healthScore": 1}), OWN],
    "beside its base": [BASE, OVERRIDE],
    "its base has another window": [WIDER_BASE, OVERRIDE],
    "with another window": [health("own", accountId="acc-1", timeWindow=120_000)],
}


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("before", PLACES)
@pytest.mark.parametrize("after", PLACES)
def test_the_cooldown_of_one_accounts_trigger_goes_with_it(before: str, after: str, *, restarts: bool) -> None:
    """And so does a change that happens while the detector is away."""
    feed = Feed(new_detector(compile_plan(PLACES[before])))
    assert feed.sick() == ["own"]
    plan = compile_plan(PLACES[after])
    if restarts:
        feed.detector = restarted(feed.detector, plan)
    else:
        feed.detector.replan(plan)
    assert feed.sick() == []


def test_rows_that_change_places_do_not_overwrite_each_other() -> None:
    """Two triggers of one account and shape, of which the new one takes the first place: each moves one further."""
    first, second = health("b", accountId="acc-1", cooldownPeriod=5_000), health("c", accountId="acc-1")
    feed = Feed(new_detector(compile_plan([first, second])))
    assert sorted(feed.sick()) == ["b", "c"]
    feed.detector.replan(compile_plan([health("a", accountId="acc-1"), first, second]))
    assert feed.sick() == ["a"]
    assert [feed.sick() for _ in range(4)] == [[], [], [], ["b"]]


@pytest.mark.parametrize("begins", [True, False])
def test_a_canary_that_begins_or_ends_while_the_detector_is_away_keeps_cooldowns(*, begins: bool) -> None:
    stable = health("base")
    plans = [compile_plan([stable]), canary_of(stable, 50)]
    before, after = plans if begins else reversed(plans)
    accounts = [f"acc-{number}" for number in range(20)]
    feed = Feed(new_detector(before))
    assert [feed.sick(account) for account in accounts] == [["base"]] * 20
    feed.detector = restarted(feed.detector, after)
    assert [feed.sick(account) for account in accounts] == [[]] * 20
