"""Random streams whose evaluations are compared with their naive twin's."""

from __future__ import annotations

import random
from collections.abc import Sequence

from emergency_stop.columnar.decoder import string_hash
from emergency_stop.detect.compile import compile_plan
from emergency_stop.detect.detector import PartitionDetector
from emergency_stop.detect.plan import Plan
from emergency_stop.detect.recording import Recording
from emergency_stop.domain.messages import Evaluation
from tests.oracle.naive import Event, Rule
from tests.oracle.naive_evaluations import PARTS, NaiveChange, NaiveEvaluations
from tests.oracle.streams import TOPICS, CrashingRun, columns_of, random_events, random_triggers

Row = tuple[object, ...]


def recording_detector(plan: Plan, rows_max: int) -> PartitionDetector:
    recording = Recording(rows_max=rows_max, changes_max=1_000_000)
    return PartitionDetector(plan, hash_key=lambda key: string_hash(key.decode()), recording=recording)


class RecordedRun(CrashingRun):
    """As its base, and keeps the evaluations that changed something, each once."""

    def __init__(self, rng: random.Random, topic: str, plan: Plan) -> None:
        super().__init__(rng, topic, plan)
        self.changes: dict[str, Evaluation] = {}

    def _restored(self) -> PartitionDetector:
        detector = recording_detector(self._plan, 5)
        detector.load(self._pages.items(), {self._topic: self._position})
        return detector

    def _fed(self, detector: PartitionDetector, events: Sequence[Event], at: int) -> int:
        at = super()._fed(detector, events, at)
        for one in detector.recorder.take_changes():
            known = self.changes.setdefault(one.evaluation_id, one)
            assert known == one, "one id, two contents"
        return at


def change_rows(found: Sequence[Evaluation]) -> list[NaiveChange]:
    return sorted(
        (
            NaiveChange(
                one.trigger_id, one.scope.partition(":")[2], one.outcome.value, one.evaluated_at, one.source_offset,
                one.late,
            )
            for one in found
        ),
        key=_order,
    )  # fmt: skip


def _order(change: NaiveChange) -> tuple[int, int, str, str, str]:
    return change.offset, change.at, change.rule_id, change.account, change.outcome


def twin_of(rules: list[Rule], events: Sequence[Event]) -> NaiveEvaluations:
    twin = NaiveEvaluations(sorted(rules, key=lambda rule: rule.rule_id))
    for event in events:
        twin.feed(event)
    return twin


def changes_difference(seed: int, events: int, *, crashing: bool) -> tuple[int, str | None]:
    """(how many changes, what differs). Crashes are compared on events in order: whether time cleared a condition
    before a late event came is not on record.
    """
    rng = random.Random(seed)
    topic = rng.choice(tuple(TOPICS))
    pairs = random_triggers(rng, topic)
    stream = random_events(rng, topic, rng.randrange(1, events))
    plan = compile_plan(trigger for trigger, _ in pairs)
    if crashing:
        moments = sorted(event.at for event in stream)
        stream = [Event(one.offset, one.account, at, one.values) for one, at in zip(stream, moments, strict=True)]
        run = RecordedRun(rng, topic, plan)
        run.run(stream)
        found = change_rows(list(run.changes.values()))
    else:
        detector, at, taken = recording_detector(plan, 5), 0, list[Evaluation]()
        while at < len(stream):
            batch = stream[at : at + rng.randrange(1, 90)]
            detector.on_batch(columns_of(topic, batch, batch[0].offset), 0)
            taken += detector.recorder.take_changes()
            at += len(batch)
        found = change_rows(taken)
    wanted = sorted(twin_of([rule for _, rule in pairs], stream).changes, key=_order)
    if found == wanted:
        return len(wanted), None
    missing = [one for one in wanted if one not in found][:2]
    extra = [one for one in found if one not in wanted][:2]
    return len(wanted), f"{len(found)} changes, twin has {len(wanted)}; missing {missing}, extra {extra}"


def periods_difference(seed: int, events: int, rows_max: int) -> tuple[int, str | None]:
    """(how many rows, what differs): the periods that ended, of a stream in random batches."""
    rng = random.Random(seed)
    topic = rng.choice(tuple(TOPICS))
    pairs = random_triggers(rng, topic)
    stream = random_events(rng, topic, rng.randrange(1, events))
    detector, at, found = recording_detector(compile_plan(t for t, _ in pairs), rows_max), 0, list[Row]()
    while at < len(stream):
        batch = stream[at : at + rng.randrange(1, 90)]
        detector.on_batch(columns_of(topic, batch, batch[0].offset), 0)
        at += len(batch)
        while (period := detector.recorder.take_period(0)) is not None:
            found += map(_row, period)
    twin = twin_of([rule for _, rule in pairs], stream)
    wanted = [row for start in twin.ended() for row in wanted_rows(twin, pairs, start, rows_max)]
    if sorted(found, key=str) == sorted(wanted, key=str):  # those of all others are in no order
        return len(wanted), None
    extra, missing = [row for row in found if row not in wanted], [row for row in wanted if row not in found]
    return len(wanted), f"found {extra[:2]}, twin {missing[:2]}"


def _row(one: Evaluation) -> Row:
    return (
        one.trigger_id, one.scope.partition(":")[2], one.outcome.value, one.evaluations, one.approach_percent,
        one.observed, one.threshold, one.window_samples, one.evaluated_at, one.source_offset,
    )  # fmt: skip


def wanted_rows(twin: NaiveEvaluations, pairs: Sequence[tuple[object, Rule]], start: int, rows_max: int) -> list[Row]:
    near = twin.near[start]
    ranked = sorted(
        (-one.approach, one.offset, rule_id, account) for (rule_id, account), one in near.items() if one.approach
    )[:rows_max]
    rows: list[Row] = []
    own: dict[str, int] = {}
    for minus, offset, rule_id, account in ranked:
        one = near[rule_id, account]
        own[rule_id] = own.get(rule_id, 0) + one.evaluations
        rows.append(
            (rule_id, account, "unchanged", one.evaluations, -100.0 * minus / PARTS, one.observed, one.threshold,
             one.samples, one.at, offset)
        )  # fmt: skip
    for rule in sorted((rule for _, rule in pairs), key=lambda rule: rule.rule_id):
        asked = sum(one.evaluations for (rule_id, _), one in near.items() if rule_id == rule.rule_id)
        others = asked - own.get(rule.rule_id, 0)
        if rule.watches is None and others:
            rows.append((rule.rule_id, "", "others", others, None, None, None, 0, start, -1))
    return rows
