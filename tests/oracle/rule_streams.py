"""Random rules over several topics, on random streams with ticks and crashes, against the naive twin."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from emergency_stop.detect.compile import compile_plan
from emergency_stop.detect.plan import Plan
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.definitions import read_trigger
from tests.oracle.naive import Event
from tests.oracle.naive_rules import NaiveRule, NaiveRules, Sampled, Value, both, either, less, negated
from tests.oracle.streams import columns_of, new_detector, random_events

HEALTH, DETECTION = topics.TELEMETRY_HEALTH, topics.TELEMETRY_DETECTION
WINDOWS: Final = (("1s", 1_000), ("5s", 5_000), ("30s", 30_000), ("1m", 60_000))
START: Final = 1_700_000_000_000
Made = tuple[str, tuple[Sampled, ...], Callable[[Sequence[Value]], Value]]


@dataclass(frozen=True)
class Entry:
    """One entry of the merged log: a row of a topic, or a tick."""

    topic: str
    offset: int
    event: Event


def _score(field: str, function: str, window_ms: int) -> Sampled:
    return Sampled(function, HEALTH, field, window_ms)


def _sick_and_seen(rng: random.Random) -> Made:
    (w1, ms1), (w2, ms2), limit, k = *rng.choices(WINDOWS, k=2), rng.randrange(20, 80), rng.randrange(1, 5)
    sampled = (_score("health_score", "avg", ms1), Sampled("count", DETECTION, "", ms2, depth=_depth(k)))
    text = f'avg(health_score, "{w1}") < {limit}.0 && count(detection, "{w2}") >= {k}'
    return text, sampled, lambda v: both(less(v[0], limit), negated(less(v[1], k)))


def _risky_or_many(rng: random.Random) -> Made:
    (w1, ms1), (w2, ms2), limit, k = *rng.choices(WINDOWS, k=2), rng.randrange(80, 100), rng.randrange(2, 4)
    sampled = (_score("risk_score", "max", ms1), Sampled("distinct", DETECTION, "severity", ms2, depth=_depth(k)))
    text = f'max(risk_score, "{w1}") > {limit}.0 || distinct(detection.severity, "{w2}") >= {k}'
    return text, sampled, lambda v: either(less(limit, v[0]), negated(less(v[1], k)))


def _last_and_sum(rng: random.Random) -> Made:
    (w1, ms1), limit, total = rng.choice(WINDOWS), rng.randrange(20, 80), rng.randrange(20, 300)
    sampled = (_score("health_score", "last", 0), _score("risk_score", "sum", ms1))
    text = f'last(health_score) < {limit}.0 && sum(risk_score, "{w1}") > {total}.0'
    return text, sampled, lambda v: both(less(v[0], limit), less(total, v[1]))


def _chosen(rng: random.Random) -> Made:
    (w1, ms1), limit, k, risk = rng.choice(WINDOWS), rng.randrange(10, 60), rng.randrange(3), rng.randrange(30, 70)
    high = Sampled("count", DETECTION, "", ms1, lambda values: values["severity"] >= 2.0, depth=_depth(k))
    sampled = (_score("health_score", "min", ms1), high, _score("risk_score", "avg", ms1))
    text = (
        f'min(health_score, "{w1}") < {limit}.0 ? count(detection, "{w1}", detection.severity >= "high") > {k}'
        f' : avg(risk_score, "{w1}") > {risk}.0'
    )

    def holds(values: Sequence[Value]) -> Value:
        low = less(values[0], limit)
        return None if low is None else less(k, values[1]) if low else less(risk, values[2])

    return text, sampled, holds


def _share_and_arithmetic(rng: random.Random) -> Made:
    (w1, ms1), (w2, ms2), k = *rng.choices(WINDOWS, k=2), rng.randrange(2, 40)
    critical = Sampled("ratio", DETECTION, "", ms1, share=lambda values: values["severity"] == 3.0)
    sampled = (critical, Sampled("count", HEALTH, "", ms2))
    text = f'ratio(detection.severity == "critical", "{w1}") > 0.4 && count(health, "{w2}") * 2 > {k}'
    return text, sampled, lambda v: both(less(0.4, v[0]), less(k, None if v[1] is None else v[1] * 2))


def _silent_and_sick(rng: random.Random) -> Made:
    (w1, ms1), (w2, ms2), limit = *rng.choices(WINDOWS, k=2), rng.randrange(20, 80)
    sampled = (_score("health_score", "avg", ms1), Sampled("absent", DETECTION, "", ms2))
    text = f'!(avg(health_score, "{w1}") > {limit}.0) && absent(detection, "{w2}")'
    return text, sampled, lambda v: both(negated(less(limit, v[0])), v[1])


_MAKERS: Final = (_sick_and_seen, _risky_or_many, _last_and_sum, _chosen, _share_and_arithmetic, _silent_and_sick)


def _depth(compared_with: int) -> int:
    """A count that is only compared is exact up to one more than what it is compared with; the detector rounds up."""
    depth = 1
    while depth < compared_with + 1:
        depth *= 2
    return depth


def random_rules(rng: random.Random) -> list[tuple[Trigger, NaiveRule]]:
    return [_random_rule(rng, number) for number in range(rng.randrange(1, 5))]


def _random_rule(rng: random.Random, number: int) -> tuple[Trigger, NaiveRule]:
    text, sampled, holds = rng.choice(_MAKERS)(rng)
    name, cooldown = f"rule-{number}", rng.choice((0, 2_000, 60_000))
    held = rng.choice((0, 0, 3_000))
    definition: dict[str, Any] = {
        "triggerId": name, "name": name, "triggerType": "custom_rule_trigger", "rule": text, "cooldownPeriod": cooldown,
        "forMs": held, "stopLevel": "graceful", "priority": 1,
    }  # fmt: skip
    return read_trigger(definition, services=()), NaiveRule(name, sampled, holds, cooldown, held)


def random_log(rng: random.Random, count: int) -> list[Entry]:
    """Rows of two topics and ticks, in the order in which one worker applied them."""
    streams = {topic: random_events(rng, topic, count) for topic in (HEALTH, DETECTION)}
    placed = [(event.at, topic, event) for topic, events in streams.items() for event in events]
    placed.sort(key=lambda one: one[0] + rng.choice((0, 0, 3_000)))  # topics are never quite in step
    offsets = dict.fromkeys((HEALTH, DETECTION, topics.TICKS), 0)
    log: list[Entry] = []
    accounts = [f"account-{number}" for number in range(8)]
    tick_at = START
    for moment, topic, event in placed:
        if moment >= tick_at + 5_000:
            tick_at = moment - moment % 5_000
            log.append(_entry(offsets, topics.TICKS, Event(0, "", tick_at, {})))
        log.append(_entry(offsets, topic, Event(0, rng.choice(accounts), event.at, event.values)))
    return log


def _entry(offsets: dict[str, int], topic: str, event: Event) -> Entry:
    event.offset = offsets[topic]
    offsets[topic] += 1
    return Entry(topic, event.offset, event)


class Run:
    """A detector that is killed at random and restored from whole checkpoints; the log is replayed in its order."""

    def __init__(self, rng: random.Random, plan: Plan) -> None:
        self._rng, self._plan = rng, plan
        self._records: dict[str, bytes] = {}
        self._position = 0
        self._positions = dict.fromkeys((HEALTH, DETECTION), 0)
        self.hits: dict[str, Hit] = {}

    def run(self, log: Sequence[Entry]) -> list[Hit]:
        detector, at = new_detector(self._plan), 0
        applied = dict.fromkeys((HEALTH, DETECTION), 0)
        while at < len(log):
            part = log[at : at + self._rng.randrange(1, 80)]
            for topic, entries in groupby(part, key=lambda entry: entry.topic):
                run = list(entries)
                for hit in self._applied(detector, topic, run):
                    self.hits.setdefault(hit.hit_id, hit)
                applied[topic] = run[-1].offset + 1
            at += len(part)
            fate = self._rng.random()
            if fate < 0.2:
                self._records |= {name: detector.write(name) for name in detector.dirty()}
                self._position, self._positions = at, {topic: applied[topic] for topic in self._positions}
            elif fate < 0.3:
                detector, at, applied = new_detector(self._plan), self._position, dict(self._positions)
                detector.load(self._records.items(), self._positions)
        return list(self.hits.values())

    def _applied(self, detector: Any, topic: str, run: Sequence[Entry]) -> list[Hit]:
        if topic == topics.TICKS:
            return [hit for one in run for hit in detector.on_tick(one.event.at, (topic, one.offset), 0)]
        found: list[Hit] = detector.on_batch(columns_of(topic, [one.event for one in run], run[0].offset), 0)
        return found


def difference(seed: int, events: int) -> tuple[int, str | None]:
    """(how many hits were compared, what differs) for random rules over one random log."""
    rng = random.Random(seed)
    pairs = random_rules(rng)
    log = random_log(rng, rng.randrange(1, events))
    twin = NaiveRules([rule for _, rule in pairs])
    for entry in log:
        if entry.topic == topics.TICKS:
            twin.tick(entry.event.at)
        else:
            twin.feed(entry.topic, entry.event.account, entry.event.at, entry.event.values)
    hits = Run(rng, compile_plan(trigger for trigger, _ in pairs)).run(log)
    found = sorted((hit.trigger_id, hit.account_id or "", hit.occurred_at, hit.suppressed_before) for hit in hits)
    wanted = sorted(twin.hits)
    if found == wanted:
        return len(wanted), None
    only = [one for one in found if one not in wanted][:3], [one for one in wanted if one not in found][:3]
    texts = {trigger.trigger_id: trigger.rule for trigger, _ in pairs}
    return len(
        wanted
    ), f"{len(found)} hits, twin has {len(wanted)}; only found {only[0]}, only wanted {only[1]}; {texts}"
