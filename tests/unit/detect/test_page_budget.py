"""What triggers keep of accounts fits into records of state, whatever the accounts do; what would not is left out."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cramjam
import numpy as np
import pytest

from emergency_stop.adapters.kafka import REQUEST_BYTES_MAX
from emergency_stop.adapters.kafka_topics import topic_config
from emergency_stop.detect.accounts import PAGE_SLOTS
from emergency_stop.detect.compile import Compiler
from emergency_stop.detect.page_budget import (
    PAGE_BYTES_MAX,
    PARTS_MAX,
    RECORD_BYTES_MAX,
    NoRoomError,
    check_fits,
    overall_bytes,
    page_bytes,
    page_problem,
    that_fit,
)
from emergency_stop.detect.series import PANED
from emergency_stop.detect.window_kernels import EMPTY
from emergency_stop.domain.default_triggers import default_pack
from emergency_stop.domain.messages import Partial
from emergency_stop.domain.topics import (
    DETECTOR_STATE,
    PARTIALS,
    TELEMETRY_BEHAVIORAL,
    TELEMETRY_HEALTH,
    TELEMETRY_PLATFORM,
    TopicSpec,
)
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.definitions import read_trigger, stable_text, stable_version
from tests.oracle.naive import Event
from tests.oracle.streams import TOPICS, columns_of, new_detector

SEED = int(os.environ.get("SEED", "14"))
START = 1_700_000_000_000
#: As long as an account's id may be, in bytes.
LONGEST = "\U0001f600" * 244


def trigger(trigger_id: str, trigger_type: str, thresholds: dict[str, float], **more: Any) -> Trigger:
    definition = {
        "trigger_id": trigger_id, "name": trigger_id, "trigger_type": trigger_type, "thresholds": thresholds,
        "time_window": 60_000, "cooldown_period": 0, "stop_level": "immediate", "priority": 1, **more,
    }  # fmt: skip
    return read_trigger(definition, services=())


def counting(number: int, violations: int = 1_000, **more: Any) -> Trigger:
    """Each has a window of its own, and so keeps moments of its own."""
    return trigger(f"count-{number:03}", "rate_limit_violation", {"violations": violations},
                   **({"time_window": 60_000 + number} | more))  # fmt: skip


def ruled(number: int) -> Trigger:
    rule = f'avg(health_score, "{60 + number}s") < 40.0 && absent(behavioral, "{30 + number}s")'
    return trigger(f"rule-{number}", "custom_rule_trigger", {}, rule=rule)


def test_a_record_is_what_brokers_and_producers_take() -> None:
    assert RECORD_BYTES_MAX == REQUEST_BYTES_MAX
    assert int(topic_config(TopicSpec(DETECTOR_STATE, None, compacted=True))["max.message.bytes"]) == RECORD_BYTES_MAX


@pytest.mark.parametrize(
    ("triggers", "topic"),
    [
        (default_pack(0), TELEMETRY_HEALTH),
        ([counting(1), counting(2, 600), counting(3, 5)], TELEMETRY_PLATFORM),
        ([ruled(number) for number in range(40)], TELEMETRY_BEHAVIORAL),
    ],
    ids=["the default pack", "counts", "rules"],
)
def test_a_page_that_is_full_of_noise_keeps_within_what_its_plan_says(triggers: Sequence[Trigger], topic: str) -> None:
    """Every cell written, none of it compressible, and keys as long as keys may be; seed 14."""
    rng, plan = np.random.default_rng(SEED), Compiler(stable_version).compile(triggers)
    detector = new_detector(plan)
    values: dict[str, float | str] = dict.fromkeys(TOPICS[topic], 0.0)
    events = [Event(number, f"{LONGEST}{number:04}", START, values) for number in range(PAGE_SLOTS)]
    detector.on_batch(columns_of(topic, events, 0), 0)
    state = detector.topics[topic]
    for group in state.groups.values():
        group.truth.count = 1
    for series in plan.topic(topic).series:
        kept = state.series_state(series)
        if series.aggregate in PANED:
            kept._widen()
    for rows in state._stored().values():
        rows[:PAGE_SLOTS] = rng.integers(-(2**63), 2**63 - 1, rows[:PAGE_SLOTS].shape)
    written = state.write_page(0)
    whole = len(bytes(cramjam.lz4.decompress_block(written[1:])))
    bound = page_bytes(plan.topic(topic))
    assert whole <= bound
    assert whole > bound * 0.9, "a bound that is never reached refuses what would fit"
    assert bound <= PAGE_BYTES_MAX
    assert len(written) <= RECORD_BYTES_MAX


def test_more_than_a_record_takes_is_refused_with_what_takes_most() -> None:
    check_fits([counting(number) for number in range(3)], stable_version)
    with pytest.raises(NoRoomError) as refused:
        check_fits([counting(number) for number in range(4)], stable_version)
    text = str(refused.value)
    assert text.startswith(f"{TELEMETRY_PLATFORM}: 4 windows")
    assert f"{PAGE_BYTES_MAX} are allowed" in text
    assert "1024)" in text, "the depth of the largest"


def over_all(number: int) -> Trigger:
    return counting(number, across="accounts")


def test_the_record_of_values_over_all_accounts_keeps_within_what_is_said() -> None:
    """Every partition's part of each, full of noise, and all the parts that nobody watches; seed 14."""
    rng, watched = np.random.default_rng(SEED), [over_all(number) for number in range(8)]
    plan = Compiler(stable_version).compile(watched)
    detector = new_detector(plan)
    for number in range(5_000):
        stray = Partial(TELEMETRY_HEALTH, f"none {number}", 0, 1, bytes(rng.bytes(400)))
        detector.on_part(stray, (PARTIALS, 0), 0)
    for group in plan.across:
        for partition in range(PARTS_MAX):
            row = START - EMPTY + np.sort(rng.integers(0, 10**12, group.shape.series[0].depth))[::-1]
            part = Partial(TELEMETRY_PLATFORM, group.shape.series[0].name, partition, 1, row.tobytes())
            detector.on_part(part, (PARTIALS, 0), 0)
    written = len(detector.write("overall"))
    assert written <= overall_bytes(plan) <= PAGE_BYTES_MAX
    assert written > overall_bytes(plan) * 0.75


def test_too_many_values_over_all_accounts_are_refused_and_left_out() -> None:
    many = [over_all(number) for number in range(12)]
    with pytest.raises(NoRoomError, match="across=accounts: 12 windows"):
        check_fits(many, stable_version)
    fit = that_fit(many, stable_version)
    assert 6 <= len(fit) < 12
    check_fits(fit, stable_version)


def test_triggers_that_count_the_same_share_what_they_keep() -> None:
    check_fits([counting(number, time_window=60_000, account_id=f"acc-{number}") for number in range(1_000)],
               stable_version)  # fmt: skip


def test_the_urgent_ones_are_kept_in_whatever_order_they_come() -> None:
    many = [counting(number, priority=1 + number % 4) for number in range(40)]
    small = trigger("small", "health_score_critical", {"healthScore": 30})
    kept = {one.trigger_id for one in that_fit([*many, small], stable_version)}
    assert kept == {one.trigger_id for one in that_fit([small, *reversed(many)], stable_version)}
    assert {one.priority for one in many if one.trigger_id in kept} == {4}
    assert "small" in kept, "what takes another topic's room, or little, is no matter of rank"


def test_any_triggers_that_are_said_to_fit_do() -> None:
    """Random triggers, overrides and canaries; seed 14."""
    rng, crowded = random.Random(SEED), 0
    for turn in range(30):
        triggers = [_random(rng, number) for number in range((3, 30, 300)[turn % 3])]
        whole = Compiler(stable_version).compile(triggers)
        fit = that_fit(triggers, stable_version)
        assert page_problem(Compiler(stable_version).compile(fit)) == "", f"seed {SEED}"
        crowded += bool(page_problem(whole))
        if not page_problem(whole):
            assert len(fit) >= len(triggers) * 0.9, f"seed {SEED}: caution costs next to nothing"
    assert crowded > 5


def _random(rng: random.Random, number: int) -> Trigger:
    account = rng.choice((None, None, f"acc-{rng.randrange(5)}"))
    window, priority = rng.choice((30_000, 60_000, 90_000 + number)), rng.randint(1, 4)
    more: dict[str, Any] = {"account_id": account, "time_window": window, "priority": priority}
    if account is not None and number and rng.random() < 0.5:
        more["overrides"] = f"t{rng.randrange(number)}"
    if rng.random() < 0.6:
        made = trigger(f"t{number}", "rate_limit_violation", {"violations": rng.choice((1, 9, 400, 1_000))}, **more)
    else:
        made = trigger(f"t{number}", "health_score_critical", {"healthScore": rng.choice((20, 30))}, **more)
    if account is None and rng.random() < 0.3:
        stable = trigger(made.trigger_id, "rate_limit_violation", {"violations": 300}, **more)
        made = replace(made, canary_percent=10, stable=stable_text(stable))
    return made
