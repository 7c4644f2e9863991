"""Groups of triggers at work: conditions on rows, who watches which account, and cooldowns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from emergency_stop.columnar.columns import F64, I32, I64, U8
from emergency_stop.detect.crossings import Change, Crossing
from emergency_stop.detect.judge_kernels import (
    CHANGE_CELLS,
    LAPSED,
    SHAPE_SUPPRESSED,
    SINCE,
    STATE_CELLS,
    SUPPRESSED,
    UNTIL,
    WHO,
    judge,
)
from emergency_stop.detect.lazy_rows import LazyRows
from emergency_stop.detect.nearest import Nearest, NearTrack
from emergency_stop.detect.parameters import mark, member_for, parameters
from emergency_stop.detect.plan import Comparison, Group, Member
from emergency_stop.detect.recording import Recording
from emergency_stop.detect.rule_rows import best_order, rule_inputs, run_on_inputs, run_rule
from emergency_stop.detect.series import Series
from emergency_stop.detect.standing import AccountState
from emergency_stop.detect.truth import Truth
from emergency_stop.detect.window_kernels import EMPTY, NEVER_SEEN, OUT_OF_ORDER
from emergency_stop.detect.windows import Folded
from emergency_stop.rules.language import AggregateCall, Function

_NONE: Final[F64] = np.zeros(0, np.float64)
_EVERYONE: Final[I32] = np.zeros(0, np.int32)
_NOBODY: Final[I64] = np.zeros(0, np.int64)
_FALSE, _TRUE = 0, 1
_NOTHING: Final = Recording()
#: Changes of one condition that one batch tells of; more are counted.
CHANGES_MAX: Final = 256


class GroupState:
    """A group's cooldowns, and of whom its condition is known to be true: one row each per slot of its home topic."""

    def __init__(self, group: Group, recording: Recording = _NOTHING) -> None:
        self.group = group
        self.truth = Truth()
        self._near = NearTrack(recording.rows_max) if recording.rows_max and group.shape.rule is None else None
        #: Since they were last taken, and how many there were no room for.
        self.changes: list[Change] = []
        self.changes_left_out = 0
        #: How often member 0 was asked, since it was last taken.
        self.evaluated = 0
        self.table = LazyRows(STATE_CELLS)
        #: Where the rule asks for absence: for which silence (its last moment) an account was reported.
        self.fired = LazyRows(1)
        self._suppressed = 0
        self._member_of: I32 = _EVERYONE
        self._enough: I32 = _EVERYONE
        comparisons = (Comparison.AT_LEAST,) if group.shape.rule is not None else group.shape.comparisons
        #: Both comparisons, and whether one of two terms is enough, as kernels are told.
        self._asked = (*(*comparisons, Comparison.BELOW)[:2], int(group.shape.any_of))
        self._asked_of: I64 = np.array(self._asked, np.int64)
        self._changes: I64 = np.empty((CHANGES_MAX, CHANGE_CELLS), np.int64)
        self._thresholds, self._limits = parameters(group, recording.clear_margin_percent)

    def ensure(self, count: int) -> None:
        """Have rows for ``count`` accounts. Views of the rows before must not be kept."""
        self.table.ensure(count)
        self.truth.ensure(count)
        if self._near is not None:
            self._near.ensure(count)
        if self.group.is_silence:
            self.fired.ensure(count)

    def take_over(self, former: GroupState) -> None:
        """Go on with the state of the group of the same name, which must not be used any more."""
        self.table, self.fired, self.truth = former.table, former.fired, former.truth

    def take_half(self, other: GroupState) -> None:
        """Go on with what ``other`` knows of accounts that are watched here now: a canary begins, moves or ends.

        A row lies in one place only: else nobody could tell, after a crash, which of two is the later one.
        """
        self.ensure(len(other.table.rows))
        watcher = mark(self.group.members[self.group.base].trigger)
        theirs = self._watched(np.flatnonzero(other.table.rows[:, WHO] == watcher))
        moved = theirs[self.table.rows[theirs, WHO] != watcher]
        self.table.rows[moved] = other.table.rows[moved]
        other.table.rows[moved] = 0
        told = self._watched(np.flatnonzero(other.fired.rows[:, 0])) if self.group.is_silence else _NOBODY
        self.fired.rows[told] = np.maximum(self.fired.rows[told], other.fired.rows[told])

    def _watched(self, slots: I64) -> I64:
        """Those of ``slots`` that the base watches."""
        return slots if self.group.watches_all else slots[self._member_of[slots] == self.group.base]

    def take_suppressed(self) -> int:
        """Hits that cooldowns suppressed since this was last asked."""
        found, self._suppressed = self._suppressed, 0
        return found

    def forget_spans(self) -> None:
        """A trigger without ``for_ms`` does not note for how long it holds; what an earlier version noted is stale."""
        rows = self.table.rows
        noted = np.flatnonzero(rows[:, SINCE])
        watching = self._member_of[noted] if len(self._member_of) else np.zeros(len(noted), np.int32)
        rows[noted[(watching < 0) | (self._limits[watching, 1] == 0)], SINCE] = 0

    def watches_as(self, former: GroupState) -> bool:
        """Whether the same members watch the same accounts; then nothing has to be decided anew."""
        ours, theirs = self.group, former.group
        same = (ours.base, ours.canary) == (theirs.base, theirs.canary) and ours.by_account == theirs.by_account
        if same:
            self._member_of = former._member_of  # of its own kind
        return same

    def watch(self, first: int, keys: Iterable[bytes]) -> None:
        """Decide who watches the accounts of the slots from ``first`` on."""
        if self.group.watches_all:
            return
        chosen = np.fromiter((member_for(self.group, key) for key in keys), np.int32)
        if first + len(chosen) > len(self._member_of):
            more = np.full(max(first + len(chosen), 2 * len(self._member_of)), -1, np.int32)
            more[: len(self._member_of)] = self._member_of
            self._member_of = more
        self._member_of[first : first + len(chosen)] = chosen

    def evaluate(self, slots: I32, moments: I64, seen: Sequence[Folded], *, by_clock: bool = False) -> list[Crossing]:
        """Hits in row order. ``seen`` are the shape's series as the rows saw them; rows that are a sample of none of
        them are not asked, unless it is the clock that asks.
        """
        shape = self.group.shape
        if shape.rule is not None:
            return self._evaluate_rule(slots, moments, seen, by_clock=by_clock)
        first, second = seen[0], seen[1].value if len(seen) > 1 else _NONE
        return self._judge(slots, moments, (first.value, first.samples, first.order), second, seen)

    def may_hold(self, known: Mapping[Series, Folded], n: int) -> npt.NDArray[np.bool_]:
        """Which of ``n`` rows the rule is not false of, whatever the series hold that are not ``known`` yet.

        As in CEL, what is false beside something without a value is false: most rows need no look at other topics.
        """
        rule = self.group.shape.rule
        if rule is None or bool(self._limits[:, 1].any()):  # with for_ms, rows of which it is false matter too
            return np.ones(n, np.bool_)
        nothing = Folded(np.zeros(n, np.float64), np.zeros(n, np.int32), np.full(n, NEVER_SEEN, np.uint8))
        series = self.group.shape.series
        values, has = rule_inputs(rule.aggregates, [known.get(one, nothing) for one in series])
        for index, one in enumerate(series):
            if one not in known:
                has[index] = 0
        may: npt.NDArray[np.bool_] = run_on_inputs(rule.program, values, has) != _FALSE
        return may

    def _evaluate_rule(self, slots: I32, moments: I64, seen: Sequence[Folded], *, by_clock: bool) -> list[Crossing]:
        rule = self.group.shape.rule
        if rule is None or not len(slots):
            return []
        outcomes = run_rule(rule, seen)
        truth = (outcomes == _TRUE).astype(np.float64)
        if self.truth.count:  # without a value it is neither true nor clear
            truth[outcomes > _TRUE] = np.nan
        order = np.zeros(len(slots), np.uint8) if by_clock else best_order(seen)
        first = (truth, self._samples(rule.aggregates, seen), order)
        return self._judge(slots, moments, first, _NONE, seen)

    def _samples(self, aggregates: Sequence[AggregateCall], seen: Sequence[Folded]) -> I32:
        """What ``min_samples`` is compared with: the samples of the aggregate that has most."""
        asked = [
            one.samples for call, one in zip(aggregates, seen, strict=True) if call.function is not Function.ABSENT
        ]
        if not asked or int(self._limits[:, 0].max()) == 1:
            return self._enough_for(len(seen[0].value))
        most: I32 = np.maximum.reduce(asked)
        return most

    def _enough_for(self, n: int) -> I32:
        if len(self._enough) < n:
            self._enough = np.full(n, np.iinfo(np.int32).max, np.int32)
        return self._enough[:n]

    def _judge(
        self,
        slots: I32,
        moments: I64,
        first: tuple[F64, I32, U8],
        second: F64,
        seen: Sequence[Folded],
    ) -> list[Crossing]:
        n = len(slots)
        shape = np.array((*self._asked, 0, 0, 0, self.truth.count), np.int64)
        hits = (np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int32))
        changes = self._changes
        members = (self._thresholds, self._limits)
        states = (self.table.rows, self.truth.known, self.truth.table.rows)
        found = judge((slots, moments), first, second, shape, members, self._member_of, states, (*hits, changes))
        suppressed, changed, asked, self.truth.count = shape[SHAPE_SUPPRESSED:].tolist()
        self._suppressed += suppressed
        self.evaluated += asked
        if changed:
            self._note_changes(changes, changed, slots, first[2], seen)
        return [
            Crossing(
                row=row,
                slot=int(slots[row]),
                group=self.group,
                member=self.group.members[member],
                values=tuple(float(one.value[row]) for one in seen),
                samples=tuple(int(one.samples[row]) for one in seen),
                inputs=self._inputs(seen, row),
                late=bool(first[2][row] == OUT_OF_ORDER),
                suppressed_before=before,
            )
            for row, before, member in zip(*(array[:found].tolist() for array in hits), strict=True)
        ]

    def _note_changes(self, changes: I64, n: int, slots: I32, order: U8, seen: Sequence[Folded]) -> None:
        self.changes_left_out += max(0, n - len(changes))
        for row, what, member, moment in changes[:n].tolist():
            told = () if what == LAPSED else seen
            self.changes.append(
                Change(
                    row=row,
                    slot=int(slots[row]),
                    group=self.group,
                    member=self.group.members[member],
                    what=what,
                    moment=moment,
                    values=tuple(float(one.value[row]) for one in told),
                    samples=tuple(int(one.samples[row]) for one in told),
                    late=bool(order[row] == OUT_OF_ORDER) and what != LAPSED,
                )
            )

    def lapse(self, edge_ms: int) -> I32:
        """Note, among the changes, of whom time has cleared the condition by ``edge_ms``: slots whose rows changed."""
        slots, members, moments = self.truth.take_lapsed(edge_ms, self._member_of, self._limits)
        for slot, member, moment in zip(slots.tolist(), members.tolist(), moments.tolist(), strict=True):
            self.changes.append(Change(-1, slot, self.group, self.group.members[member], LAPSED, moment))
        return slots

    @property
    def has_news(self) -> bool:
        """Whether something changed that was not taken yet."""
        return bool(self.changes or self.changes_left_out)

    def take_left_out(self) -> int:
        """Changes that there was no room for since this was last asked."""
        found, self.changes_left_out = self.changes_left_out, 0
        return found

    def keep_nearest(self, slots: I32, moments: I64, offsets: I64, seen: Sequence[Folded]) -> None:
        """Note how near the rows came to firing, where that is recorded; arguments as those of ``evaluate``."""
        if self._near is None:
            return
        self._near.keep(
            (slots, moments, offsets),
            (seen[0].value, seen[0].samples, seen[0].order),
            seen[1].value if len(seen) > 1 else _NONE,
            self._asked_of,
            (self._thresholds, self._limits, self._member_of),
        )

    def take_period(self) -> tuple[Group, int, Nearest | None]:
        """What was evaluated since this was last asked, and what came nearest; see ``evaluations.Period``."""
        asked, self.evaluated = self.evaluated, 0
        return self.group, asked, None if self._near is None else self._near.take()

    def take_changes(self) -> list[Change]:
        """Those noted since this was last asked."""
        found, self.changes = self.changes, []
        return found

    def _inputs(self, seen: Sequence[Folded], row: int) -> tuple[float | None, ...]:
        rule = self.group.shape.rule
        if rule is None:
            return ()
        at = slice(row, row + 1)
        values, known = rule_inputs(
            rule.aggregates, [Folded(one.value[at], one.samples[at], one.order[at]) for one in seen]
        )
        return tuple(float(value) if has else None for value, has in zip(values[:, 0], known[:, 0], strict=True))

    def member_for(self, key: bytes) -> Member | None:
        """Which of the group's triggers watches an account."""
        index = member_for(self.group, key)
        return None if index < 0 else self.group.members[index]

    def account(self, slot: int, member: Member) -> AccountState:
        """What the row of a slot says of ``member``."""
        row = self.table.rows[slot]
        mine = int(row[WHO]) == mark(member.trigger)
        return AccountState(
            cooldown_until=int(row[UNTIL]) + EMPTY if mine and row[UNTIL] else None,
            suppressed=int(row[SUPPRESSED]) if mine else 0,
            holds_since=int(row[SINCE]) + EMPTY if mine and row[SINCE] else None,
        )

    def rule_holds(self, seen: Sequence[Folded]) -> bool | None:
        """Whether the rule is true of the one row that ``seen`` holds; ``None`` without a value, or without a rule."""
        rule = self.group.shape.rule
        if rule is None:
            return None
        return {_FALSE: False, _TRUE: True}.get(int(run_rule(rule, seen)[0]))
