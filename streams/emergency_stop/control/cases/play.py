"""Cases through the production decoder and detector: what fired, and what should have."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from emergency_stop.adapters.record_batch import record_batch
from emergency_stop.apps.detector_core import RECORDS, DetectorCore
from emergency_stop.columnar.batches import Scratch
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.control.cases.case import START_MS, Case, CaseEvent, ExpectedHit
from emergency_stop.detect.compile import compile_plan
from emergency_stop.detect.plan import Plan
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.triggers import Trigger
from emergency_stop.wire.codec import Codec, encode_record
from emergency_stop.wire.registry import LocalRegistry

#: How far apart the clock's ticks are, as in an installation that changes no setting.
TICK_MS: Final = 5_000
_REGISTRY: Final = LocalRegistry()


@dataclass(frozen=True, slots=True)
class Outcome:
    """``problems`` is empty where the case holds."""

    case: Case
    hits: tuple[Hit, ...]
    problems: tuple[str, ...]


def play(case: Case, triggers: Sequence[Trigger]) -> Outcome:
    """Run one case on a detector of its own. Pure but for the compiled kernels; a second is plenty."""
    loop = _Loop(compile_plan(triggers))
    events = list(case.events)
    clock = range(0, case.end_ms + 1, TICK_MS) if loop.plan.needs_clock else ()
    for at_ms in clock:
        before = sum(event.at_ms <= at_ms for event in events)
        loop.feed_events(events[:before])
        loop.tick(at_ms)
        del events[:before]
    loop.feed_events(events)
    hits = sorted(loop.hits, key=lambda hit: (hit.occurred_at, hit.trigger_id, hit.scope))
    fired = [(_as_expected(hit), hit) for hit in hits]
    return Outcome(case, tuple(hits), tuple(_problems(case, fired, _asked(case, loop.plan))))


class _Loop:
    """A detector whose own ticks and parts come back to it, as they would through their topics."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.hits: list[Hit] = []
        self._codec = Codec(_REGISTRY)
        self._core = DetectorCore(_REGISTRY, self._codec, lambda: plan, Scratch(), enforcing=True, interval_ms=TICK_MS)
        self._offsets: dict[str, int] = {}

    def feed_events(self, events: Sequence[CaseEvent]) -> None:
        """In their order; what comes in a row on one topic is one batch."""
        for topic, found in groupby(events, key=lambda event: event.topic):
            batch = list(found)
            self._feed(topic, [_record(number, event) for number, event in enumerate(batch)])
            self.tick(batch[-1].at_ms)

    def tick(self, at_ms: int) -> None:
        """What the detector writes for itself when it is ``at_ms``, read back at once."""
        now_ms = START_MS + at_ms
        for published in self._core.on_tick(now_ms):
            self._feed(published.topic, [(now_ms, published.key or b"", published.value or b"")], now_ms)

    def _feed(self, topic: str, records: list[tuple[int, bytes, bytes]], now_ms: int = START_MS) -> None:
        first = self._offsets.get(topic, 0)
        self._offsets[topic] = first + len(records)
        raw = bytearray(record_batch(records))
        raw[:8] = first.to_bytes(8, "big")
        batch = FetchedBatch(topic, 0, first, first + len(records), (bytes(raw),))
        for published in self._core.on_batch(batch, now_ms):
            self.hits.append(self._codec.decode(Hit, published.value))


def _asked(case: Case, plan: Plan) -> set[str]:
    """Triggers whose topic has events, or that the clock asks."""
    with_events = {event.topic for event in case.events}
    groups = [group for group in (*plan.groups, *plan.across) if with_events & set(group.shape.topics)]
    asked = {member.trigger.trigger_id for group in groups for member in group.members}
    return asked | {trigger.trigger_id for trigger in plan.schedules}


def _as_expected(hit: Hit) -> ExpectedHit:
    return ExpectedHit(hit.occurred_at - START_MS, hit.trigger_id, hit.scope.partition(":")[2] or hit.scope)


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
