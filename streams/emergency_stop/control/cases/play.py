"""Cases through the production decoder and detector: what fired, and what should have."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from emergency_stop.adapters.record_batch import record_batch
from emergency_stop.apps.detector_core import RECORDS, DetectorCore
from emergency_stop.columnar.batches import Scratch
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.control.cases.case import START_MS, Case, CaseEvent, ExpectedHit
from emergency_stop.detect.plan import compile_plan
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.triggers import Trigger
from emergency_stop.wire.codec import Codec, encode_record
from emergency_stop.wire.registry import LocalRegistry

_REGISTRY: Final = LocalRegistry()


@dataclass(frozen=True, slots=True)
class Outcome:
    """``problems`` is empty where the case holds."""

    case: Case
    hits: tuple[Hit, ...]
    problems: tuple[str, ...]


def play(case: Case, triggers: Sequence[Trigger]) -> Outcome:
    """Run one case on a detector of its own. Pure but for the compiled kernels; a second is plenty."""
    plans, codec = compile_plan(triggers), Codec(_REGISTRY)
    core = DetectorCore(_REGISTRY, codec, lambda: plans, Scratch(), enforcing=True)
    hits: list[Hit] = []
    by_topic: dict[str, list[CaseEvent]] = {}
    for event in case.events:
        by_topic.setdefault(event.topic, []).append(event)
    for topic, events in by_topic.items():
        raw = record_batch([_record(number, event) for number, event in enumerate(events)])
        batch = FetchedBatch(topic, 0, 0, len(events), (raw,))
        hits += [codec.decode(Hit, published.value) for published in core.on_batch(batch, START_MS)]
    hits.sort(key=lambda hit: (hit.occurred_at, hit.trigger_id, hit.scope))
    fired = [(_as_expected(hit), hit) for hit in hits]
    conditions = [condition for topic in by_topic if topic in plans for condition in plans[topic].conditions]
    asked = {condition.trigger.trigger_id for condition in conditions}
    return Outcome(case, tuple(hits), tuple(_problems(case, fired, asked)))


def _as_expected(hit: Hit) -> ExpectedHit:
    return ExpectedHit(hit.occurred_at - START_MS, hit.trigger_id, hit.scope.partition(":")[2])


def _record(number: int, event: CaseEvent) -> tuple[int, bytes, bytes]:
    at_ms = START_MS + event.at_ms
    fields = {"event_id": f"case-{number}", "occurred_at": at_ms, **event.fields}
    record = RECORDS[event.topic]
    value = encode_record(record, fields, _REGISTRY.schema_id(record, event.topic))
    return at_ms, str(event.fields["account_id"]).encode(), value


def _problems(case: Case, fired: Sequence[tuple[ExpectedHit, Hit]], asked: Collection[str]) -> list[str]:
    seen = [found for found, _ in fired]
    problems = []
    for wanted in case.expected:
        if wanted in seen:
            continue
        others = [one for one in seen if (one.trigger_id, one.account) == (wanted.trigger_id, wanted.account)]
        instead = f"it fired at {', '.join(_moment(one.at_ms) for one in others)}" if others else "it did not fire"
        problems.append(f"{wanted.trigger_id} should fire for {wanted.account} at {_moment(wanted.at_ms)}: {instead}")
    for found, hit in fired:
        if found not in case.expected:
            what = "should be silent" if found.trigger_id in case.silent else "was not expected"
            problems.append(
                f"{found.trigger_id} {what}: fired for {found.account} at {_moment(found.at_ms)}, {hit.reason}"
            )
    return problems + [f"{name} was not asked: no event of its topic" for name in case.silent if name not in asked]


def _moment(ms: int) -> str:
    return f"{ms / 1000:g} s"
