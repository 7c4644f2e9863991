"""The detector of one topic-partition: columns in, hits out. Pure; its state is a function of the log.

Four verbs: ``on_batch``, ``on_tick`` and ``next_deadline`` (no trigger of a telemetry topic waits for time
yet, so a tick decides nothing), and ``dirty_pages``/``write_page``/``load`` for pages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from emergency_stop.columnar.columns import Columns
from emergency_stop.detect.accounts import PAGE_SLOTS, Accounts
from emergency_stop.detect.pages import Page, decode_page, encode_page
from emergency_stop.detect.plan import Aggregate, Comparison, Series, TopicPlan
from emergency_stop.detect.standing import Standing
from emergency_stop.detect.windows import ConditionState, Crossing, Folded, SeriesState
from emergency_stop.domain.ids import derived_id
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.topics import TELEMETRY_SYSTEM
from emergency_stop.domain.values import Mode, Scope

_WORDS: Final = {
    Comparison.BELOW: "is below",
    Comparison.ABOVE: "is above",
    Comparison.AT_LEAST: "is at least",
}
Correlate = Callable[[Columns, int], str | None]
HashKey = Callable[[bytes], int]


@dataclass(slots=True)
class DetectorCounts:
    """Totals since start."""

    events: int = 0
    rejected: int = 0
    late: int = 0
    hits: int = 0
    suppressed: int = 0
    by_reason: dict[str, int] = field(default_factory=dict)


class TopicDetector:
    """Windows, conditions and cooldowns of one topic's partition.

    ``correlate`` finds the correlation id of a row that hit; ``hash_key`` is the columns' key hash.
    """

    def __init__(self, plan: TopicPlan, *, hash_key: HashKey, correlate: Correlate, enforcing: bool = True) -> None:
        self._accounts = Accounts()
        self._series: dict[Series, SeriesState] = {}
        self._conditions: list[ConditionState] = []
        self._hash_key = hash_key
        self._correlate = correlate
        self._enforcing = enforcing
        self._next_offset = 0
        self.counts = DetectorCounts()
        self.replan(plan)

    def replan(self, plan: TopicPlan) -> None:
        """Change the triggers; unchanged series and cooldowns keep their state."""
        self.plan = plan
        self._series = {one: self._series.get(one) or SeriesState(one) for one in plan.series}
        kept = {state.condition.trigger.trigger_id: state for state in self._conditions}
        self._conditions = []
        for condition in plan.conditions:
            state = ConditionState(condition)
            former = kept.get(condition.trigger.trigger_id)
            if former is not None:
                state.take_over(former)
            self._conditions.append(state)
        self._ensure()

    def on_batch(self, columns: Columns, now_ms: int) -> list[Hit]:
        """Apply the rows not yet applied; hits in offset order, then by trigger id."""
        self.counts.events += columns.n
        self._count_rejected(columns)
        slots = self._accounts.find(columns)
        if self._next_offset > columns.fetch_offset:
            slots[columns.offset < self._next_offset] = -1
        self._ensure()
        folded = {series: state.fold(columns, slots) for series, state in self._series.items()}
        self.counts.late += sum(one.late for one in folded.values())
        crossings = [
            crossing
            for state in self._conditions
            for crossing in state.evaluate(columns, slots, folded, self._only_slot(state))
        ]
        self.counts.suppressed = sum(state.suppressed for state in self._conditions)
        self._next_offset = max(self._next_offset, columns.next_offset)
        crossings.sort(key=lambda crossing: crossing.row)
        self.counts.hits += len(crossings)
        return [self._hit(columns, crossing, folded, now_ms) for crossing in crossings]

    def on_tick(self, now_ms: int) -> list[Hit]:
        return []

    def next_deadline(self) -> int | None:
        return None

    def standing(self, account: bytes) -> list[Standing]:
        """Where one account stands with every trigger of the topic; empty for an account without events."""
        slot = self._accounts.slot_of(account, self._hash_key(account))
        return [] if slot < 0 else [state.standing(slot, self._series) for state in self._conditions]

    # -- pages ----------------------------------------------------------------------------------

    def dirty_pages(self) -> list[int]:
        """Numbers of the pages that changed since ``write_page`` gave them."""
        return self._accounts.dirty_pages()

    def write_page(self, page: int) -> bytes:
        """The page's bytes as of now: it contains everything that was applied so far."""
        self._accounts.seal(page, self._next_offset)
        return encode_page(self._page(page))

    def load(self, pages: Iterable[tuple[int, bytes]], position: int) -> None:
        """Put written pages back; ``position`` is the next offset to apply. Unknown series are dropped."""
        self._next_offset = position
        for number, data in sorted(pages):
            page = decode_page(data)
            self._accounts.load_page(number, page.key_lengths, page.keys, page.hashes, page.next_offset)
            self._ensure()
            first = number * PAGE_SLOTS
            for name, state in self._stored().items():
                for target, source in zip(state.arrays, page.arrays.get(name, ()), strict=False):
                    if len(target):  # a trigger that had for_ms when the page was written may have none now
                        target[first : first + len(source)] = source
        self._accounts.finish_loading(position)
        self._ensure()

    def _page(self, page: int) -> Page:
        lengths, keys = self._accounts.page_keys(page)
        first, last = page * PAGE_SLOTS, page * PAGE_SLOTS + len(lengths)
        arrays = {name: tuple(array[first:last] for array in state.arrays) for name, state in self._stored().items()}
        next_offset = int(self._accounts.page_next[page])
        return Page(next_offset, lengths, keys, self._accounts.page_hashes(page), arrays)

    def _stored(self) -> dict[str, SeriesState | ConditionState]:
        stored: dict[str, SeriesState | ConditionState] = {s.name: state for s, state in self._series.items()}
        stored.update({f"trigger:{state.condition.trigger.trigger_id}": state for state in self._conditions})
        return stored

    def _ensure(self) -> None:
        for state in self._series.values():
            state.ensure(self._accounts.capacity)
        for condition in self._conditions:
            condition.ensure(self._accounts.capacity)

    # -- hits -----------------------------------------------------------------------------------

    def _only_slot(self, state: ConditionState) -> int:
        """-1: every account; -2: an account that has no events yet."""
        account_id = state.condition.trigger.account_id
        if account_id is None:
            return -1
        key = account_id.encode()
        slot = self._accounts.slot_of(key, self._hash_key(key))
        return slot if slot >= 0 else -2

    def _count_rejected(self, columns: Columns) -> None:
        self.counts.rejected += len(columns.rejected)
        for rejected in columns.rejected:
            label = rejected.reason.label
            self.counts.by_reason[label] = self.counts.by_reason.get(label, 0) + 1

    def _hit(self, columns: Columns, crossing: Crossing, folded: dict[Series, Folded], now_ms: int) -> Hit:
        trigger = crossing.condition.trigger
        term = crossing.term
        account_id = columns.key(crossing.row).decode(errors="backslashreplace")
        scope = str(_scope(columns.topic, account_id))
        source = (columns.topic, columns.partition, int(columns.offset[crossing.row]))
        hit_id = derived_id("hit", trigger.trigger_id, str(trigger.version), scope, *map(str, source))
        return Hit(
            hit_id=hit_id,
            trigger_id=trigger.trigger_id,
            trigger_version=trigger.version,
            trigger_type=trigger.trigger_type,
            trigger_name=trigger.name,
            mode=trigger.mode if self._enforcing else Mode.SHADOW,
            scope=scope,
            account_id=account_id if scope.startswith("account:") else None,
            level=trigger.stop_level,
            target_services=trigger.target_services,
            priority=trigger.priority,
            reason=_reason(crossing),
            occurred_at=int(columns.occurred_at[crossing.row]),
            detected_at=now_ms,
            source_topic=source[0],
            source_partition=source[1],
            source_offset=source[2],
            observed=crossing.observed,
            threshold=term.threshold,
            margin=abs(crossing.observed - term.threshold),
            window_ms=term.series.window_ms,
            window_samples=crossing.samples,
            window_contents=_contents(columns, crossing, folded),
            late=crossing.late,
            suppressed_before=crossing.suppressed_before,
            correlation_id=self._correlate(columns, crossing.row) or hit_id,
        )


def _scope(topic: str, key: str) -> Scope:
    """What a hit stops: the account, or for a process's own telemetry (``service@host``) the service."""
    return Scope.service(key.partition("@")[0]) if topic == TELEMETRY_SYSTEM else Scope.account(key)


def _reason(crossing: Crossing) -> str:
    """``average health_score 21.4 over 60 s is below 30``."""
    term = crossing.term
    series = term.series
    subject = {
        Aggregate.AVG: f"average {series.field}",
        Aggregate.MAX: f"highest {series.field}",
        Aggregate.MIN: f"lowest {series.field}",
        Aggregate.COUNT: f"count of {series.topic}{series.chosen}",
        Aggregate.DISTINCT: f"distinct {series.field}",
        Aggregate.ACTIVE: f"continuous activity, ms, of {series.topic}{series.chosen}",
    }[series.aggregate]
    window = f"{series.window_ms / 1000:g} s"
    return f"{subject} {crossing.observed:g} over {window} {_WORDS[term.comparison]} {term.threshold:g}"


def _contents(columns: Columns, crossing: Crossing, folded: dict[Series, Folded]) -> str:
    """What each term saw on this row; independent of how the log was cut into batches."""
    terms = [
        {
            "series": term.series.name,
            "value": float(folded[term.series].value[crossing.row]),
            "samples": int(folded[term.series].samples[crossing.row]),
            "threshold": term.threshold,
        }
        for term in crossing.condition.terms
    ]
    return json.dumps({"until": int(columns.occurred_at[crossing.row]), "terms": terms}, separators=(",", ":"))
