"""A page that was put back ahead of its position keeps what it contains, whoever writes it again meanwhile."""

from __future__ import annotations

from emergency_stop.detect.compile import compile_plan
from emergency_stop.detect.pages import decode_page
from emergency_stop.domain import topics
from emergency_stop.rules.definitions import read_trigger
from tests.oracle.naive import Event
from tests.oracle.streams import columns_of, new_detector

HEALTH, DETECTION = topics.TELEMETRY_HEALTH, topics.TELEMETRY_DETECTION


def test_what_another_topic_dirties_during_a_replay_is_not_applied_twice_after_the_next_crash() -> None:
    """Health    0 1 2 3 4 5 6 7 8 9      page written at 10, position at 0; crash
              0 1 2 3 4                replayed: the page contains them
    detection           0              its rule enters the account: the page is dirty, and written at 5; crash
              0 1 2 ...         9      must still be known to be contained
    """
    trigger = read_trigger(
        {
            "triggerId": "rule", "triggerType": "custom_rule_trigger", "name": "rule", "cooldownPeriod": 0,
            "rule": 'avg(health_score, "1h") < 60.0 && count(detection, "5m") >= 1', "stopLevel": "immediate",
            "priority": 1,
        },
        services=(),
    )  # fmt: skip
    plan = compile_plan([trigger])
    values = {"health_score": 50.0, "risk_score": 0.0}
    events = [Event(offset, "one", 1_700_000_000_000 + offset, values) for offset in range(10)]
    detector = new_detector(plan)
    detector.on_batch(columns_of(HEALTH, events, 0), 0)
    pages = {name: detector.write(name) for name in detector.dirty()}
    seen = Event(0, "one", 1_700_000_000_020, {"severity": 3.0})

    again = new_detector(plan)
    again.load(pages.items(), {HEALTH: 0, DETECTION: 0})
    again.on_batch(columns_of(HEALTH, events[:5], 0), 0)
    assert again.on_batch(columns_of(DETECTION, [seen], 0), 0)
    pages |= {name: again.write(name) for name in again.dirty()}
    assert decode_page(pages[f"{HEALTH}/0"]).next_offset == 10

    once_more = new_detector(plan)
    once_more.load(pages.items(), {HEALTH: 5, DETECTION: 1})
    once_more.on_batch(columns_of(HEALTH, events, 0), 0)
    (standing,) = once_more.standing(b"one")
    samples = {term.series.topic: term.window.samples for term in standing.terms}
    assert samples == {HEALTH: 10, DETECTION: 1}
