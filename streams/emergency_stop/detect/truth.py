"""Of whom a condition is known to be true, so that its becoming true and its clearing are each told once.

Theory of operation. An evaluation that finds the condition true of an account whom it was not known of makes it
*become true*. It *clears* on the first evaluation that finds it false with the margin of ``clearance``, so a value that
wavers around its threshold is told once, not with every event. Time clears a comparison too: a whole window after the
evaluation that last found it true, nothing is left of what made it so. That is noticed by the account's next event, or
when a period of event time ends (see ``periods``), whichever comes first, and told as of the moment at which the window
was over. A rule in CEL may be true of an empty window, so time alone never clears one.

A version of a trigger begins anew: what is known belongs to the version that found it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from emergency_stop.columnar.columns import F64, I32, I64, U8
from emergency_stop.detect.clearance import clear_level
from emergency_stop.detect.judge_kernels import TRUTH_CELLS, forget_lapsed
from emergency_stop.detect.lazy_rows import LazyRows
from emergency_stop.detect.plan import Group, Member
from emergency_stop.detect.series import PANED, Aggregate

#: Longer than any time; of conditions that time alone does not clear.
NEVER_LAPSES_MS: Final = 2**61
_HUNDRED: Final = 100
_BITS: Final = 8
_COUNTED: Final = (Aggregate.COUNT, Aggregate.DISTINCT)


class Truth:
    """One group's accounts. ``table`` has a row per slot: the moment that last found the condition true (as distance
    from ``EMPTY``), and a mark of the version that did. ``known`` says of whom there is one, in a bit, which a loop
    over rows can afford to look at.
    """

    def __init__(self) -> None:
        self.table = LazyRows(TRUTH_CELLS)
        self.known: U8 = np.zeros(0, np.uint8)
        #: Of how many there is one.
        self.count = 0

    def ensure(self, count: int) -> None:
        """Have rows for ``count`` accounts."""
        self.table.ensure(count)
        if count > len(self.known) * _BITS:
            more = np.zeros(-(-count // _BITS), np.uint8)
            more[: len(self.known)] = self.known
            self.known = more

    def recount(self) -> None:
        """Say anew of whom there is a row; after rows were put back."""
        true = self.table.rows[:, 0] != 0
        self.known, self.count = np.packbits(true, bitorder="little"), int(np.count_nonzero(true))

    def is_known(self, slots: I32) -> npt.NDArray[np.bool_]:
        """Of which of ``slots`` (0 or more) the condition is known to be true."""
        found: npt.NDArray[np.bool_] = (self.known[slots >> 3] >> (slots & 7).astype(np.uint8)) & 1 != 0
        return found

    def take_lapsed(self, edge_ms: int, member_of: I32, limits: I64) -> tuple[I32, I32, I64]:
        """(slot, member, when its window was over) of whom time has cleared the condition by ``edge_ms``, and forget
        that it was true of them. What belongs to others than the members that watch now is forgotten without a word.
        """
        if not self.count:
            return _NO_SLOTS, _NO_SLOTS, _NO_MOMENTS
        n = self.count
        found = (np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.int64))
        lapsed = forget_lapsed(edge_ms, member_of, limits, (self.known, self.table.rows), found)
        self.count = int(np.count_nonzero(self.table.rows[:, 0]))
        return found[0][:lapsed], found[1][:lapsed], found[2][:lapsed]


_NO_SLOTS: Final[I32] = np.zeros(0, np.int32)
_NO_MOMENTS: Final[I64] = np.zeros(0, np.int64)


def clear_levels(group: Group, member: Member, margin_percent: int) -> tuple[float, ...]:
    """Per term the value that is just clear; of a rule, that it is false."""
    shape = group.shape
    if shape.rule is not None:
        return (0.0,)
    levels = []
    for series, comparison, threshold in zip(shape.series, shape.comparisons, member.thresholds, strict=True):
        if series.aggregate in _COUNTED:
            levels.append(float(math.ceil(threshold * (_HUNDRED - margin_percent) / _HUNDRED) - 1))
        else:
            levels.append(clear_level(series, comparison, threshold, margin_percent)[0])
    return tuple(levels)


def samples_to_clear(group: Group, member: Member) -> int:
    """How many samples a window must have for its value to say that the condition is clear; few events are clear."""
    is_valued = group.shape.rule is None and all(one.aggregate in PANED for one in group.shape.series)
    return member.trigger.min_samples if is_valued else 0


def lapse_ms(group: Group) -> int:
    """How long after it was last true a condition is cleared by time alone."""
    if group.shape.rule is not None:
        return NEVER_LAPSES_MS
    return max(one.window_ms for one in group.shape.series)


def limits_of(group: Group, members: Sequence[Member], margin_percent: int) -> tuple[F64, I64]:
    """(two clear levels each; samples to clear, lapse each)."""
    levels, limits = np.zeros((len(members), 2), np.float64), np.zeros((len(members), 2), np.int64)
    lapse = lapse_ms(group)
    for index, member in enumerate(members):
        own = clear_levels(group, member, margin_percent)
        levels[index, : len(own)] = own
        limits[index] = samples_to_clear(group, member), lapse
    return levels, limits
