"""The sums of `make bench-stop`: percentiles, who answered what, and which bounds were missed."""

from __future__ import annotations

from typing import Any

import pytest

from emergency_stop.domain.messages import Ack, Command, Emergency, InstanceStop
from emergency_stop.domain.values import AckState, Action, EmergencyState, StopLevel, TriggerType
from tests.bench.stop.accounting import tally
from tests.bench.stop.causes import CAUSES, LEVELS, event, triggers
from tests.bench.stop.disturbances import Outages
from tests.bench.stop.figures import percentiles
from tests.bench.stop.verdict import failures
from tests.bench.stop.witness import VERDICTS, Seen, Who

ONE: Who = ("alpha", "alpha-1")
STOPPED, FAILED, UNKNOWN = AckState.STOPPED, AckState.FAILED, AckState.UNKNOWN


def test_percentiles_are_times_that_were_measured() -> None:
    assert percentiles(range(1, 1_001)) == {"p50": 500, "p99": 990, "p999": 999, "max": 1_000}
    assert percentiles([7]) == dict.fromkeys(("p50", "p99", "p999", "max"), 7)
    assert percentiles([]) == {}


def command(attempt: int = 1) -> Command:
    return Command(
        f"c{attempt}", "e", "corr", "alpha", "account:a", 1, Action.STOP, StopLevel.IMMEDIATE, "r", "c", 0, 1, attempt
    )


def emergency(state: AckState, reason: str) -> Emergency:
    return Emergency(
        "e", EmergencyState.PARTIAL, "account:a", "a", StopLevel.IMMEDIATE, 1, 4, "r", "hit:h", "t",
        TriggerType.CUSTOM_RULE_TRIGGER, ("all",), (InstanceStop(*ONE, state, reason, 0, 5),), "corr", 0, 0, 0,
    )  # fmt: skip


def seen(state: AckState, reason: str, answered: tuple[tuple[str, AckState], ...]) -> Seen:
    found = Seen(emergency(state, reason))
    for command_id, answer in answered:
        ack = Ack("k", command_id, "e", "corr", "account:a", 1, *ONE, answer, "", 0, None, None, 5)
        found.answers.setdefault(ONE, {})[answer] = ack
        if answer in VERDICTS:
            found.verdicts.add((command_id, ONE[1]))
    return found


@pytest.mark.parametrize(
    ("standing", "reason", "answered", "how", "claims"),
    [
        # stands in the emergency  answers that were read                        accounted for as          unproven
        (STOPPED, "", (("c1", STOPPED),), {"verdict": 1}, 0),
        (FAILED, "handler", (("c1", FAILED),), {"verdict": 1}, 0),
        (STOPPED, "", (("c2", STOPPED),), {"verdict_to_another_attempt": 1}, 0),
        (UNKNOWN, "no answer by the deadline", (), {"recorded_unknown": 1}, 0),
        (UNKNOWN, "no proof", (("c1", AckState.STOPPING),), {"recorded_unknown": 1}, 0),
        (UNKNOWN, "", (), {}, 0),
        (STOPPED, "", (("c1", AckState.RECEIVED),), {}, 1),
    ],
)
def test_an_answer_is_accounted_for_or_missing(
    standing: AckState, reason: str, answered: tuple[tuple[str, AckState], ...], how: dict[str, int], claims: int
) -> None:
    found = tally([command()], [seen(standing, reason, answered)], [ONE, ("beta", "beta-1")])
    assert (found["how"], found["claims_without_ack"]) == (how, claims)
    assert (found["commands"], found["acks_expected"], found["acks_accounted"]) == (1, 1, sum(how.values()))


def test_an_instance_that_the_emergency_does_not_name_is_missing() -> None:
    other: Who = ("alpha", "alpha-2")
    found = tally([command()], [seen(STOPPED, "", (("c1", STOPPED),))], [ONE, other])
    assert (found["acks_expected"], found["acks_accounted"]) == (2, 1)


def test_times_count_from_when_the_broker_answers_again() -> None:
    outages = Outages([(100, 150), (300, 320)])
    assert [outages.since_answering(at_ms) for at_ms in (99, 100, 149, 150, 310)] == [99, 150, 150, 150, 320]


GOOD: dict[str, Any] = {
    "unloaded": {"immediate_ms": {"p99": 499, "max": 4_999}, "partial": 0},
    "rebalance": {"immediate_ms": {"p99": 2_000, "max": 4_999}, "partial": 0},
    "accounting": {"acks_expected": 10, "acks_accounted": 10, "claims_without_ack": 0},
    "crowd_burst": {"permits_granted": 0},
    "side_effects_after_stop": 0,
    "clock_contradictions": [],
    "permit_us": {"async with": 2.0},
}


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({}, ""),
        ({"unloaded": {"immediate_ms": {"p99": 500, "max": 600}}}, "within 500 ms; the bound is 500"),
        ({"rebalance": {"immediate_ms": {"max": 5_000}}}, "rebalance: an immediate stop took 5000 ms"),
        (
            {"lone_broker_bounced": {"immediate_ms": {"max": 9_000}, "after_broker_answers_ms": {"max": 5_000}}},
            "a stop took 5000 ms after the broker answered; the bound is 5000",
        ),
        ({"lone_broker_bounced": {"immediate_ms": {"max": 9_000}, "after_broker_answers_ms": {"max": 4_000}}}, ""),
        (
            {"cluster": {"broker_bounced": {"immediate_ms": {"max": 5_000}}}},
            "cluster: broker_bounced: an immediate stop",
        ),
        ({"cluster": {"broker_killed": {"immediate_ms": {"max": 9_999}}}}, ""),
        ({"cluster": {"broker_hung": {"immediate_ms": {"max": 10_000}}}}, "broker_hung: an immediate stop took 10000"),
        ({"cluster": {"side_effects_after_stop": 1}}, "cluster: 1 side effects"),
        ({"overload": {"partial": 1}}, "overload: 1 emergencies ended PARTIAL"),
        (
            {"accounting": {"acks_expected": 10, "acks_accounted": 9, "claims_without_ack": 0}},
            "1 answers of 10 are accounted for nowhere",
        ),
        (
            {"accounting": {"acks_expected": 10, "acks_accounted": 10, "claims_without_ack": 2}},
            "2 instances count as stopped and never said so",
        ),
        ({"crowd_burst": {"permits_granted": 3}}, "crowd_burst: 3 permits were granted"),
        ({"side_effects_after_stop": 1}, "1 side effects after a stop"),
        ({"clock_contradictions": ["account:a: 5 ms claimed, read after 4 ms"]}, "contradicts"),
        ({"permit_us": {"async with": 2.1}}, "a permit costs 2.1"),
        ({"levels": {"graceful": {"stopped": 20}}}, ""),
        (
            {"levels": {"graceful": {"stopped": 20}, "maintenance": {"partial, in force: immediate": 1}}},
            "maintenance: not stopped as asked: {'partial, in force: immediate': 1}",
        ),
    ],
)
def test_a_missed_bound_is_said(part: dict[str, Any], said: str) -> None:
    found = failures(GOOD | part)
    assert len(found) == (1 if said else 0)
    assert all(said in line for line in found)


def test_every_level_has_a_trigger_of_its_own_and_an_event_for_it() -> None:
    assert set(LEVELS) <= CAUSES.keys()
    in_force = {trigger.trigger_id: trigger for trigger in triggers(("realtimeSync", "sessionManager"))}
    watched = {level: in_force[CAUSES[level].definition["trigger_id"]] for level in LEVELS}
    assert {level: trigger.stop_level.value for level, trigger in watched.items()} == {one: one for one in LEVELS}
    assert len({trigger.trigger_id for trigger in watched.values()}) == len(LEVELS)
    assert {event(level, "a", 1)[1] for level in CAUSES} == {b"a"}
