"""One telemetry topic of a partition: its accounts, their windows, and the cooldowns that live with them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from emergency_stop.columnar.columns import I32, I64, Columns
from emergency_stop.detect.accounts import PAGE_SLOTS, Accounts, Keys
from emergency_stop.detect.across import AcrossSeries
from emergency_stop.detect.groups import GroupState
from emergency_stop.detect.moves import Strays, moves
from emergency_stop.detect.own_telemetry import is_own, newest_of_others
from emergency_stop.detect.pages import Page, decode_page, encode_page
from emergency_stop.detect.periods import Periods
from emergency_stop.detect.plan import Group, TopicPlan
from emergency_stop.detect.recording import Recording
from emergency_stop.detect.series import Series
from emergency_stop.detect.windows import Folded, Rows, SeriesState
from emergency_stop.domain.topics import TELEMETRY_SYSTEM

HashKey = Callable[[bytes], int]
_FIRED: Final = "fired/"
_TRUE: Final = "true/"


@dataclass(slots=True)
class DetectorCounts:
    """Totals since start."""

    events: int = 0
    rejected: int = 0
    late: int = 0
    hits: int = 0
    suppressed: int = 0
    #: Changes that were not told one by one, and accounts that came near and have no row of their own.
    changes_left_out: int = 0
    near_left_out: int = 0
    by_reason: dict[str, int] = field(default_factory=dict)


class TopicState:
    """Arrays of one topic, indexed by the slots of its accounts. Its state is a function of the topic's log, but for
    the cooldowns of conditions that read several topics.
    """

    def __init__(self, topic: str, hash_key: HashKey, recording: Recording) -> None:
        self.topic = topic
        self.periods = Periods(recording.period_ms)
        #: Whether the period that is under way is summed up.
        self.sums_up = False
        #: Changes that the period may still tell one by one.
        self.changes_left = recording.changes_max
        self.accounts = Accounts()
        self.counts = DetectorCounts()
        self.next_offset = 0
        #: Event time of the newest accepted row since start, whoever's but our own processes'.
        self.newest_at = 0
        self.plan = TopicPlan(topic)
        self.groups: dict[str, GroupState] = {}
        self.across: dict[Series, AcrossSeries] = {}
        self._hash_key = hash_key
        self._recording = recording
        #: For how many accounts there are rows.
        self._ensured = -1
        self._series: dict[Series, SeriesState] = {}

    # -- plans ----------------------------------------------------------------------------------

    def replan(self, plan: TopicPlan) -> None:
        """Change what is watched; unchanged series and cooldowns keep their state."""
        self.plan = plan
        self._ensured = -1
        self._series = {one: self._series.get(one) or SeriesState(one) for one in plan.series}
        self.across = {one: self.across.get(one) or AcrossSeries(one, self.next_offset) for one in plan.across}
        former, self.groups = self.groups, {}
        for group in plan.groups:
            if group.shape.home == self.topic:
                self.groups[group.name] = self._group_state(group, former)
        moved = moves(self.groups.values(), former, self.slot_of)
        self._ensure()
        for one in moved:
            one.arrive()
        for state in self.groups.values():
            if state is not former.get(state.group.name):
                state.forget_spans()

    def _group_state(self, group: Group, former: Mapping[str, GroupState]) -> GroupState:
        same = former.get(group.name)
        if same is not None and same.group == group:
            return same
        state = GroupState(group, self._recording)
        if same is not None:
            state.take_over(same)
        if same is None or not state.watches_as(same):
            state.watch(0, map(self.accounts.key, range(self.accounts.count)))
        other = former.get(_other_half(group.name))
        if other is not None:
            state.take_half(other)
        return state

    def _ensure(self) -> None:
        capacity = self.accounts.capacity
        if capacity == self._ensured:
            return
        self._ensured = capacity
        for series in self._series.values():
            series.table.ensure(capacity)
        for group in self.groups.values():
            group.ensure(capacity)

    # -- rows -----------------------------------------------------------------------------------

    def apply(self, columns: Columns) -> tuple[I32, dict[Series, Folded]]:
        """The rows' slots (-1: applied before), and every series as each row saw it."""
        self._count(columns)
        self.newest_at = max(self.newest_at, newest_of_others(columns))
        self._apply_across(columns)
        if not self.plan.series:
            return np.full(columns.n, -1, np.int32), {}
        known = self.accounts.count
        slots = self.accounts.find(columns)
        if self.next_offset > columns.fetch_offset:
            slots[columns.offset < self.next_offset] = -1
        self._admit(known)
        rows = Rows(columns, slots)
        folded = {series: state.fold(rows, read_all=series in self.plan.read) for series, state in self._series.items()}
        self.counts.late += sum(one.late for one in folded.values())
        return slots, folded

    def expect(self, offset: int) -> None:
        """Take rows from ``offset`` on, whatever was applied: a replay may give accounts one after the other.

        Only where no value over all accounts is folded, and no state is written.
        """
        self.next_offset = offset

    def _apply_across(self, columns: Columns) -> None:
        for state in self.across.values():
            slots = np.where(columns.offset >= state.next_offset, 0, -1).astype(np.int32, copy=False)
            if columns.topic == TELEMETRY_SYSTEM:
                slots[is_own(columns)] = -1
            state.apply(Rows(columns, slots), columns.next_offset)

    def enter(self, keys: Keys) -> I32:
        """Slots of accounts whose cooldowns a row of another topic is about to change."""
        known = self.accounts.count
        slots = self.accounts.enter(keys)
        self._admit(known)
        return slots

    def _admit(self, known: int) -> None:
        """Have rows for accounts that are new since there were ``known``."""
        self._ensure()
        if self.accounts.count > known:
            for group in self.groups.values():
                group.watch(known, (self.accounts.key(slot) for slot in range(known, self.accounts.count)))

    def read(self, series: Series, keys: Keys, moments: I64) -> Folded:
        """What the accounts' windows hold at ``moments``; changes nothing."""
        return self._series[series].read(self.accounts.look_up(keys), moments)

    def read_slots(self, series: Series, slots: I32, moments: I64) -> Folded:
        return self._series[series].read(slots, moments)

    def series_state(self, series: Series) -> SeriesState:
        return self._series[series]

    def newest_moments(self) -> list[I64]:
        """Views of rows per account that begin with its newest moment, as distance from ``EMPTY``: those of one series
        that every event is a sample of, or of all where there is none.
        """
        whole = [series for series in self._series if not series.filters and series.quiet is None]
        chosen = whole[:1] or list(self._series)
        return [self._series[series].table.rows[: self.accounts.count] for series in chosen]

    def end_period(self, edge_ms: int) -> None:
        """Notice, among the groups' changes, whose conditions time has cleared by ``edge_ms``; the next period may tell
        of as many changes as any.
        """
        for state in self.groups.values():
            if len(lapsed := state.lapse(edge_ms)):
                self.accounts.touch(lapsed)
        self.changes_left = self._recording.changes_max

    def slot_of(self, account: bytes) -> int:
        """-1 for an account without events."""
        return self.accounts.slot_of(account, self._hash_key(account))

    def _count(self, columns: Columns) -> None:
        self.counts.events += columns.n
        self.counts.rejected += len(columns.rejected)
        for rejected in columns.rejected:
            label = rejected.reason.label
            self.counts.by_reason[label] = self.counts.by_reason.get(label, 0) + 1

    # -- pages ----------------------------------------------------------------------------------

    def dirty_pages(self) -> list[int]:
        """Numbers of the pages that changed since ``write_page`` gave them."""
        return self.accounts.dirty_pages()

    def write_page(self, page: int) -> bytes:
        """The page's bytes as of now: it contains everything that was applied so far."""
        next_offset = self.accounts.seal(page, self.next_offset)
        lengths, keys = self.accounts.page_keys(page)
        first, last = page * PAGE_SLOTS, page * PAGE_SLOTS + len(lengths)
        slices = {name: rows[first:last] for name, rows in self._stored().items()}
        arrays = {name: (rows,) for name, rows in slices.items() if rows.any()}
        return encode_page(Page(next_offset, lengths, keys, self.accounts.page_hashes(page), arrays))

    def load(self, pages: Iterable[tuple[int, bytes]], position: int) -> None:
        """Put written pages back; ``position`` is the next offset to apply. Unknown series are dropped."""
        self.next_offset = position
        for state in self.across.values():
            state.next_offset = position
        strays = Strays(self.groups.values())
        for number, data in sorted(pages):
            page = decode_page(data)
            self.accounts.load_page(number, page.key_lengths, page.keys, page.hashes, page.next_offset)
            self._ensure()
            self._load_rows(number * PAGE_SLOTS, page.arrays)
            strays.settle(number * PAGE_SLOTS, page.arrays)
        self.accounts.finish_loading(position)
        self._admit(0)
        for name, group in self.groups.items():
            other = self.groups.get(_other_half(name))
            if other is not None:
                group.take_half(other)
        for group in self.groups.values():
            group.forget_spans()
            group.truth.recount()

    @property
    def across_unsaved(self) -> bool:
        return any(state.unsaved for state in self.across.values())

    def write_across(self) -> bytes:
        """The partition's parts of values over all accounts, with the first offset that each does not contain."""
        found = {}
        for series, state in self.across.items():
            state.unsaved = False
            found[series.name] = [state.next_offset, base64.b64encode(state.row()).decode()]
        return json.dumps(found, separators=(",", ":")).encode()

    def load_across(self, data: bytes) -> None:
        found = json.loads(data)
        for series, state in self.across.items():
            if series.name in found:
                next_offset, row = found[series.name]
                state.load(base64.b64decode(row), next_offset)

    def _load_rows(self, first: int, arrays: Mapping[str, Sequence[I64]]) -> None:
        for series, state in self._series.items():
            if series.name in arrays:
                state.load(first, arrays[series.name][0])
        for name, rows in self._cooldowns().items():
            if name in arrays:
                rows[first : first + len(arrays[name][0])] = arrays[name][0]

    def _stored(self) -> dict[str, I64]:
        """What there is to write; a table in which nothing is known to be true need not be looked through."""
        found = {series.name: state.table.rows for series, state in self._series.items()} | self._cooldowns()
        for name, group in self.groups.items():
            if not group.truth.count:
                del found[_TRUE + name]
        return found

    def _cooldowns(self) -> dict[str, I64]:
        found = {name: state.table.rows for name, state in self.groups.items()}
        found |= {_TRUE + name: state.truth.table.rows for name, state in self.groups.items()}
        return found | {
            _FIRED + name: state.fired.rows for name, state in self.groups.items() if state.group.is_silence
        }


def _other_half(name: str) -> str:
    """The group of the accounts that a canary leaves out, or that of its own; no group's name for others."""
    kind, _, trigger_id = name.partition(":")
    halves = {"trigger": "stable", "stable": "trigger"}
    return f"{halves.get(kind, '')}:{trigger_id}"
