"""The second stage of one value over all accounts: every partition's newest part, and the conditions on their sum."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from emergency_stop.detect.across import NoPartError, check_origin, check_part, put_together
from emergency_stop.detect.crossings import Change, Crossing
from emergency_stop.detect.groups import GroupState
from emergency_stop.detect.plan import Group
from emergency_stop.detect.recording import Recording
from emergency_stop.detect.series import Series
from emergency_stop.detect.standing import Standing, standing_of
from emergency_stop.detect.unwatched_parts import UnwatchedParts
from emergency_stop.detect.window_kernels import EMPTY, IN_ORDER, NOT_A_SAMPLE, OUT_OF_ORDER
from emergency_stop.detect.windows import Folded, standing_in
from emergency_stop.domain.messages import Partial
from emergency_stop.domain.triggers import Trigger

_SLOT: Final = np.zeros(1, np.int32)


@dataclass(slots=True)
class OverallState:
    """Parts by (topic, series, partition). Its state is a function of the parts' log, and of what was watched when."""

    _parts: dict[tuple[str, str], dict[int, Partial]] = field(default_factory=dict)
    _unwatched: UnwatchedParts = field(default_factory=UnwatchedParts)
    recording: Recording = field(default_factory=Recording)
    _groups: dict[str, GroupState] = field(default_factory=dict)
    _newest: dict[str, int] = field(default_factory=dict)
    _stored: dict[str, list[int]] = field(default_factory=dict)
    _true: dict[str, list[int]] = field(default_factory=dict)

    def replan(self, groups: Sequence[Group]) -> None:
        watched = self._watched()
        former, self._groups = self._groups, {}
        for group in groups:
            state = GroupState(group, self.recording)
            state.ensure(1)
            if group.name in former:
                state.take_over(former[group.name])
            elif group.name in self._stored:
                self._put_back(state)
            state.forget_spans()
            self._groups[group.name] = state
        self._forget(watched)

    def on_part(self, part: Partial) -> list[tuple[Crossing, int]]:
        """(what crossed, its moment). Of two parts of a partition the one that contains more stands.

        Raises ``NoPartError`` for what cannot be one; nothing is changed then.
        """
        check_origin(part)
        series = self._watched().get((part.source_topic, part.series))
        if series is None:  # it is checked once it is watched; see ``replan``
            self._unwatched.add(part)
            return []
        check_part(series, part.row)
        known = self._of(series)
        before = known.get(part.source_partition)
        if before is not None and before.next_offset >= part.next_offset:
            return []
        known[part.source_partition] = part
        found = []
        for state in self._groups.values():
            if any(one.topic == part.source_topic and one.name == part.series for one in state.group.shape.series):
                found += self._evaluate(state)
        return found

    def _watched(self) -> dict[tuple[str, str], Series]:
        return {(one.topic, one.name): one for state in self._groups.values() for one in state.group.shape.series}

    def _forget(self, former: Mapping[tuple[str, str], Series]) -> None:
        """Drop the parts of series that nobody watches any more, and take over those of series that are watched now."""
        watched = self._watched()
        for key in former.keys() - watched.keys():
            self._parts.pop(key, None)
        for key in watched.keys() - former.keys():
            self._take_over(watched[key])

    def _take_over(self, series: Series) -> None:
        """The parts that came before the series was watched; those that are none of it are dropped."""
        for part in self._unwatched.take(series.topic, series.name):
            if _fits(series, part):
                self._of(series)[part.source_partition] = part

    def _of(self, series: Series) -> dict[int, Partial]:
        """The newest part of every partition."""
        return self._parts.setdefault((series.topic, series.name), {})

    def _evaluate(self, state: GroupState) -> list[tuple[Crossing, int]]:
        together = [self._together(series) for series in state.group.shape.series]
        moment = max(newest for _, newest in together)
        if moment == EMPTY:
            return []
        before = self._newest.get(state.group.name, EMPTY)
        self._newest[state.group.name] = max(before, moment)
        order = np.full(1, IN_ORDER if moment >= before else OUT_OF_ORDER, np.uint8)
        seen = [
            Folded(one.value, one.samples, np.where(one.order == NOT_A_SAMPLE, order, one.order).astype(np.uint8))
            for one, _ in together
        ]
        crossings = state.evaluate(_SLOT, np.array((moment,), np.int64), seen, by_clock=True)
        return [(crossing, moment) for crossing in crossings]

    def take_changes(self) -> list[Change]:
        """Conditions that became true without a hit, or cleared, since this was last asked."""
        return [change for state in self._groups.values() for change in state.take_changes()]

    def _put_back(self, state: GroupState) -> None:
        state.table.rows[0] = self._stored[state.group.name]
        state.truth.table.rows[0] = self._true.get(state.group.name, 0)
        state.truth.recount()

    def _together(self, series: Series, at_ms: int = EMPTY) -> tuple[Folded, int]:
        parts = self._parts.get((series.topic, series.name), {})
        return put_together(series, [parts[number].row for number in sorted(parts)], at_ms)

    def standing(self, trigger_id: str, at_ms: int = EMPTY) -> Standing | None:
        """Where all accounts together stand with a trigger at ``at_ms``, by default as of the newest event of any;
        ``None`` for one that is not about all of them.
        """
        state = next((one for one in self._groups.values() if _trigger_of(one).trigger_id == trigger_id), None)
        if state is None:
            return None
        shape, member = state.group.shape, state.group.members[0]
        together = [self._together(series, at_ms) for series in shape.series]
        windows = [standing_in(series, *one) for series, one in zip(shape.series, together, strict=True)]
        holds = state.rule_holds([one for one, _ in together])
        own = state.account(0, member)
        return standing_of(member.trigger, shape, member.thresholds, own, windows, rule_holds=holds)

    def encode(self) -> bytes:
        parts = [
            [one.source_topic, one.series, one.source_partition, one.next_offset, base64.b64encode(one.row).decode()]
            for one in self._all_parts()
        ]
        cooldowns = {name: state.table.rows[0].tolist() for name, state in self._groups.items()}
        true = {name: state.truth.table.rows[0].tolist() for name, state in self._groups.items()}
        return json.dumps({"parts": parts, "cooldowns": cooldowns, "true": true, "newest": self._newest}).encode()

    def _all_parts(self) -> Iterator[Partial]:
        for known in self._parts.values():
            yield from known.values()
        yield from self._unwatched

    def load(self, data: bytes) -> None:
        """Put written state back; call after ``replan``."""
        found = json.loads(data)
        watched = self._watched()
        for topic, name, partition, next_offset, row in found["parts"]:
            part = Partial(topic, name, partition, next_offset, base64.b64decode(row))
            series = watched.get((topic, name))
            if series is None:
                self._unwatched.add(part)
            elif _fits(series, part):
                self._of(series)[partition] = part
        self._newest, self._stored, self._true = found["newest"], found["cooldowns"], found.get("true", {})
        for name, state in self._groups.items():
            if name in self._stored:
                self._put_back(state)


def _fits(series: Series, part: Partial) -> bool:
    try:
        check_part(series, part.row)
    except NoPartError:
        return False
    return True


def _trigger_of(state: GroupState) -> Trigger:
    return state.group.members[0].trigger
