"""Silence of accounts, for rules that ask for absence: who is silent, and which silences were told."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emergency_stop.columnar.columns import I32
from emergency_stop.detect.plan import Group
from emergency_stop.detect.series import Series
from emergency_stop.detect.topic_state import TopicState
from emergency_stop.detect.window_kernels import EMPTY
from emergency_stop.rules.language import Function


def silent_slots(home: TopicState, group: Group, at_ms: int) -> I32:
    """Accounts whose silence has become long enough, and was not told yet."""
    series = _absent_series(group)
    newest = home.series_state(series).table.rows[: home.accounts.count, 0]
    told = home.groups[group.name].fired.rows[: home.accounts.count, 0]
    silent = (newest != 0) & (newest <= at_ms - series.window_ms - EMPTY) & (told != newest)
    return np.flatnonzero(silent).astype(np.int32)


def remember_told(home: TopicState, group: Group, slots: Sequence[int]) -> None:
    """A silence is known by the last moment before it: until an event ends it, it is not told again."""
    newest = home.series_state(_absent_series(group)).table.rows[slots, 0]
    home.groups[group.name].fired.rows[slots, 0] = newest
    home.accounts.touch(list(slots))


def _absent_series(group: Group) -> Series:
    """The first aggregate of the rule that asks for absence."""
    calls = () if group.shape.rule is None else group.shape.rule.aggregates
    pairs = zip(calls, group.shape.series, strict=True)
    return next(series for call, series in pairs if call.function is Function.ABSENT)
