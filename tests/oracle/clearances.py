"""Random streams with questions in between: the detector's answers against the naive twin's, and against its hits."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final

from emergency_stop.detect.compile import compile_plan
from emergency_stop.detect.condition_answers import SIGHT_MS, ConditionBook
from emergency_stop.detect.detector import PartitionDetector
from emergency_stop.domain import topics
from emergency_stop.domain.triggers import Trigger
from emergency_stop.domain.values import Scope
from tests.oracle.naive import NaiveDetector, Rule
from tests.oracle.naive_clearance import clearance, rule_clearance
from tests.oracle.naive_rules import NaiveRule, NaiveRules
from tests.oracle.rule_streams import Entry, random_log, random_rules
from tests.oracle.streams import TOPICS, columns_of, new_detector, random_events, random_triggers

MARGINS: Final = (0, 10, 10, 25, 50)
#: How much later than the newest event somebody asks, ms: at once, within most windows, and after all of them.
DELAYS: Final = (0, 0, 1, 1_000, 4_999, 20_000, 59_999, 60_000, 60_001, 400_000)


@dataclass
class Findings:
    """How often which answer was compared; ``problem`` is the first that was wrong."""

    answers: Counter[str] = field(default_factory=Counter)
    refuted: int = 0
    problem: str | None = None


def _scope(topic: str, account: str) -> Scope:
    return Scope.service(account) if topic == topics.TELEMETRY_SYSTEM else Scope.account(account)


def _eager(trigger: Trigger) -> Trigger:
    """The trigger as it would be without what delays its hits."""
    return replace(trigger, cooldown_period=0, for_ms=0)


def compare(seed: int, count: int) -> Findings:
    """Triggers of one topic over one random stream, asked after every batch about the account of its last event."""
    rng, found = random.Random(seed), Findings()
    topic = rng.choice(tuple(TOPICS))
    pairs = random_triggers(rng, topic)
    events, margin = random_events(rng, topic, rng.randrange(1, count)), rng.choice(MARGINS)
    detector = new_detector(compile_plan(trigger for trigger, _ in pairs))
    eager = new_detector(compile_plan(_eager(trigger) for trigger, _ in pairs))
    twin, book, at = NaiveDetector([rule for _, rule in pairs]), ConditionBook(margin), 0
    while at < len(events) and found.problem is None:
        batch = events[at : at + rng.randrange(1, 40)]
        for event in batch:
            twin.feed(event)
        detector.on_batch(columns_of(topic, batch, batch[0].offset), 0)
        hits = eager.on_batch(columns_of(topic, batch, batch[0].offset), 0)
        at += len(batch)
        firing = {hit.trigger_id for hit in hits if hit.source_offset == batch[-1].offset}
        newest = max(event.at for event in events[:at])
        moment = batch[-1].at + rng.choice(DELAYS)
        for _, rule in pairs:
            _check(found, (detector, book, twin), rule, (topic, batch[-1].account), moment, newest, margin)
            if rule.rule_id in firing:
                _refute(found, detector, book, rule.rule_id, _scope(topic, batch[-1].account), batch[-1].at)
    if found.problem:
        found.problem = f"seed {seed}: {found.problem}"
    return found


def _check(
    found: Findings,
    parties: tuple[PartitionDetector, ConditionBook, NaiveDetector],
    rule: Rule,
    whom: tuple[str, str],
    moment: int,
    newest: int,
    margin: int,
) -> None:
    detector, book, twin = parties
    given = book.clearance(detector, rule.rule_id, _scope(*whom), moment)
    wanted = clearance(twin, rule, whom[1], moment, margin)
    if wanted == "clear" and moment - newest > SIGHT_MS and whom[0] != topics.TELEMETRY_SYSTEM:
        wanted = "unknown"
    if whom[0] == topics.TELEMETRY_SYSTEM and not given.subjects:
        return  # another test's: who of a service counts
    found.answers[given.state.value] += 1
    if given.state.value != wanted:
        found.problem = f"{rule} of {whom} at {moment}, margin {margin}: {given}, and the twin says {wanted}"


def _refute(
    found: Findings, detector: PartitionDetector, book: ConditionBook, trigger_id: str, scope: Scope, at: int
) -> None:
    """The newest event fires: asked at its moment, nothing is clear."""
    found.refuted += 1
    given = book.clearance(detector, trigger_id, scope, at)
    if given.state.value == "clear":
        found.problem = f"{trigger_id} fires for {scope} at {at}, and is said to be clear: {given.detail}"


def compare_rules(seed: int, count: int) -> Findings:
    """As ``compare``, of custom rules over two topics; the clock's hits refute too."""
    rng, found = random.Random(seed), Findings()
    pairs, margin = random_rules(rng), rng.choice(MARGINS)
    log, book = random_log(rng, rng.randrange(1, count)), ConditionBook(margin)
    detector = new_detector(compile_plan(trigger for trigger, _ in pairs))
    eager = new_detector(compile_plan(_eager(trigger) for trigger, _ in pairs))
    twin, at, newest = NaiveRules([rule for _, rule in pairs]), 0, 0
    while at < len(log) and found.problem is None:
        part = log[at : at + rng.randrange(1, 20)]
        at += len(part)
        for topic, entries in groupby(part, key=lambda entry: entry.topic):
            run = list(entries)
            _apply(detector, topic, run)
            for trigger_id, account, moment, offset in _apply(eager, topic, run):
                if offset == run[-1].offset:
                    _refute(found, detector, book, trigger_id, Scope.account(account), moment)
            for entry in run:
                if topic == topics.TICKS:
                    twin.tick(entry.event.at)
                else:
                    twin.feed(topic, entry.event.account, entry.event.at, entry.event.values)
                    newest = max(newest, entry.event.at)
        moment = max(newest, part[-1].event.at) + rng.choice(DELAYS)
        account = rng.choice(log[:at]).event.account
        for trigger, rule in pairs:
            _check_rule(found, (detector, book, twin), (trigger, rule), account, moment, newest, margin)
    if found.problem:
        found.problem = f"seed {seed}: {found.problem}"
    return found


def _apply(detector: PartitionDetector, topic: str, run: Sequence[Entry]) -> list[tuple[str, str, int, int]]:
    """(trigger, account, moment, offset) of what fires."""
    if topic == topics.TICKS:
        hits = [hit for one in run for hit in detector.on_tick(one.event.at, (topic, one.offset), 0)]
    else:
        hits = detector.on_batch(columns_of(topic, [one.event for one in run], run[0].offset), 0)
    return [(hit.trigger_id, hit.account_id or "", hit.occurred_at, hit.source_offset) for hit in hits]


def _check_rule(
    found: Findings,
    parties: tuple[PartitionDetector, ConditionBook, NaiveRules],
    pair: tuple[Trigger, NaiveRule],
    account: str,
    moment: int,
    newest: int,
    margin: int,
) -> None:
    detector, book, twin = parties
    given = book.clearance(detector, pair[1].rule_id, Scope.account(account), moment)
    wanted = rule_clearance(twin, pair[1], account, moment, margin)
    if wanted is None or given.subjects == 0:
        if given.state.value != "unknown":
            found.problem = f"{account} had no event, and is {given}"
        return
    if wanted == "clear" and moment - newest > SIGHT_MS:
        wanted = "unknown"
    found.answers[given.state.value] += 1
    if given.state.value != wanted:
        found.problem = f"{pair[0].rule} of {account} at {moment}, margin {margin}: {given}, and the twin says {wanted}"
