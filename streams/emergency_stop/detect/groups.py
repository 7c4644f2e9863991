"""Groups of triggers at work: conditions on rows, who watches which account, and cooldowns."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from emergency_stop.columnar.columns import F64, I32, I64, U8
from emergency_stop.detect.judge_kernels import SINCE, STATE_CELLS, SUPPRESSED, UNTIL, WHO, judge
from emergency_stop.detect.lazy_rows import LazyRows
from emergency_stop.detect.plan import Comparison, Group, Member
from emergency_stop.detect.rule_kernels import run_program
from emergency_stop.detect.series import Series
from emergency_stop.detect.standing import AccountState
from emergency_stop.detect.window_kernels import EMPTY, NEVER_SEEN, OUT_OF_ORDER
from emergency_stop.detect.windows import Folded
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.language import AggregateCall, Function, Program, Rule

_NONE: Final[F64] = np.zeros(0, np.float64)
_EVERYONE: Final[I32] = np.zeros(0, np.int32)
_NOBODY: Final[I64] = np.zeros(0, np.int64)
_HUNDRED: Final = 100
_FALSE, _TRUE = 0, 1
#: Aggregates that have a value where the window is empty: nothing was counted.
_COUNTING: Final = (Function.COUNT, Function.DISTINCT)


@dataclass(frozen=True, slots=True)
class Crossing:
    """A condition that came true on a row, outside its cooldown; ``values`` and ``samples`` are its series', in order.

    ``inputs`` are what a rule read: as ``values``, but ``None`` where an aggregate had none.
    """

    row: int
    slot: int
    group: Group
    member: Member
    values: tuple[float, ...]
    samples: tuple[int, ...]
    inputs: tuple[float | None, ...]
    late: bool
    suppressed_before: int


class GroupState:
    """A group's cooldowns, one row per slot of its home topic."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.table = LazyRows(STATE_CELLS)
        #: Where the rule asks for absence: for which silence (its last moment) an account was reported.
        self.fired = LazyRows(1)
        self._suppressed = 0
        self._member_of: I32 = _EVERYONE
        self._enough: I32 = _EVERYONE
        self._thresholds, self._limits = _parameters(group.members)

    def ensure(self, count: int) -> None:
        """Have rows for ``count`` accounts. Views of the rows before must not be kept."""
        self.table.ensure(count)
        if self.group.is_silence:
            self.fired.ensure(count)

    def take_over(self, former: GroupState) -> None:
        """Go on with the state of the group of the same name, which must not be used any more."""
        self.table, self.fired = former.table, former.fired

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
        chosen = np.fromiter((_member_for(self.group, key) for key in keys), np.int32)
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
        comparisons = (*shape.comparisons, Comparison.BELOW)
        return self._judge(slots, moments, (first.value, first.samples, first.order), second, comparisons, seen)

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
        may: npt.NDArray[np.bool_] = _run(rule.program, values, has) != _FALSE
        return may

    def _evaluate_rule(self, slots: I32, moments: I64, seen: Sequence[Folded], *, by_clock: bool) -> list[Crossing]:
        rule = self.group.shape.rule
        if rule is None or not len(slots):
            return []
        truth = (run_rule(rule, seen) == _TRUE).astype(np.float64)
        order = np.zeros(len(slots), np.uint8) if by_clock else best_order(seen)
        first = (truth, self._samples(rule.aggregates, seen), order)
        return self._judge(slots, moments, first, _NONE, (Comparison.AT_LEAST, Comparison.BELOW), seen)

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
        comparisons: Sequence[Comparison],
        seen: Sequence[Folded],
    ) -> list[Crossing]:
        n = len(slots)
        shape = np.array((comparisons[0], comparisons[1], self.group.shape.any_of, 0), np.int64)
        hits = (np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int32))
        members = (self._thresholds, self._limits)
        found = judge((slots, moments), first, second, shape, members, self._member_of, self.table.rows, hits)
        self._suppressed += int(shape[3])
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
        index = _member_for(self.group, key)
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


def run_rule(rule: Rule, seen: Sequence[Folded]) -> U8:
    """Per row: 0 false, 1 true, 2 no value."""
    return _run(rule.program, *rule_inputs(rule.aggregates, seen))


def _run(program: Program, values: F64, known: U8) -> U8:
    holds = np.empty(values.shape[1], np.uint8)
    run_program(program.ops, program.constants, program.stack_max, values, known, holds)
    return holds


def best_order(seen: Sequence[Folded]) -> U8:
    """How a row stands to the window that it stands to best."""
    order = seen[0].order
    for one in seen[1:]:
        order = np.minimum(order, one.order)
    return order


def mark(trigger: Trigger) -> int:
    """What identifies a trigger in a row of state, whichever its version; never 0."""
    return _mark(trigger.trigger_id)


@lru_cache(maxsize=2**18)
def _mark(trigger_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(trigger_id.encode(), digest_size=8).digest(), "big") >> 1 | 1


def rule_inputs(aggregates: Sequence[AggregateCall], seen: Sequence[Folded]) -> tuple[F64, U8]:
    """What a rule's program reads: (value, whether there is one) per aggregate and row."""
    n = len(seen[0].value) if seen else 0
    values, known = np.empty((len(seen), n), np.float64), np.ones((len(seen), n), np.uint8)
    for index, (call, one) in enumerate(zip(aggregates, seen, strict=True)):
        if call.function is Function.ABSENT:
            values[index] = one.value == 0
            known[index] = one.order != NEVER_SEEN
            continue
        values[index] = one.value
        if call.function not in _COUNTING:
            known[index] = one.samples > 0
    return values, known


def _parameters(members: Sequence[Member]) -> tuple[F64, I64]:
    thresholds, limits = np.zeros((len(members), 2), np.float64), np.zeros((len(members), 4), np.int64)
    for index, member in enumerate(members):
        trigger = member.trigger
        limits_of = member.thresholds or (float(_TRUE),)  # a rule's value is whether it is true
        thresholds[index, : len(limits_of)] = limits_of
        limits[index] = trigger.min_samples, trigger.for_ms, trigger.cooldown_period, mark(trigger)
    return thresholds, limits


def _member_for(group: Group, key: bytes) -> int:
    own = group.by_account.get(key)
    if own is not None or group.canary is None:
        return group.base if own is None else own
    canary = group.canary
    inside = zlib.crc32(f"{canary.trigger_id}/".encode() + key) % _HUNDRED < canary.percent
    return group.base if inside == canary.inside else -1
