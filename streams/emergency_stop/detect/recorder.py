"""What a partition's detector has evaluated and not handed over yet: changes one by one, and periods summed up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from emergency_stop.detect.crossings import Change
from emergency_stop.detect.evaluations import (
    NO_OFFSET,
    Period,
    change_evaluation,
    left_out,
    period_evaluations,
)
from emergency_stop.detect.groups import GroupState
from emergency_stop.detect.hits import Source, scope_of
from emergency_stop.detect.recording import Recording
from emergency_stop.detect.topic_state import TopicState
from emergency_stop.domain.messages import Evaluation
from emergency_stop.domain.values import GLOBAL_SCOPE

#: While so many periods wait to be written, as in a backlog, those that begin are not summed up.
WAITING_MAX: Final = 10


class Recorder:
    """Of one partition number. Changes must be handed over with the hits of the same rows; periods whenever there is
    time.
    """

    def __init__(self, recording: Recording, partition: int, *, enforcing: bool) -> None:
        self.recording = recording
        self._partition = partition
        self._enforcing = enforcing
        self._changes: list[Evaluation] = []
        self._periods: deque[Period] = deque()
        #: Set by the shell while the process uses more than it should: what changed nothing is not recorded. Nothing
        #: that decides reads it.
        self.sheds = False
        #: Evaluations that no period tells of for that reason.
        self.evaluations_shed = 0
        #: Topics whose period that is under way is shed, and stays so to its end: half a period would tell too little.
        self._shed_topics: set[str] = set()
        #: Periods that were not summed up, because too many waited.
        self.periods_dropped = 0
        self._offsets: dict[str, int] = {}

    def note(
        self, home: TopicState, state: GroupState, topic: str, source_of: Callable[[Change], Source], now_ms: int
    ) -> None:
        """Take what changed in a group of ``home``; ``topic`` is whose keys name the accounts."""
        changes, too_many = state.take_changes(), state.take_left_out()
        if not self.recording.changes_max:
            return
        home.counts.changes_left_out += too_many
        for change in changes:
            if home.changes_left <= 0:
                home.counts.changes_left_out += 1
                continue
            home.changes_left -= 1
            scope = scope_of(topic, home.accounts.key(change.slot).decode(errors="backslashreplace"))
            self._changes.append(change_evaluation(change, scope, source_of(change), now_ms, enforcing=self._enforcing))

    def note_overall(self, changes: list[Change], source: Source, now_ms: int) -> None:
        """Take what changed in groups over all accounts."""
        if not self.recording.changes_max:
            return
        self._changes += [
            change_evaluation(change, GLOBAL_SCOPE, source, now_ms, enforcing=self._enforcing) for change in changes
        ]

    def begin_period(self, topic: TopicState, start: int, now_ms: int) -> None:
        """Rows of the period that begins at ``start`` come next; what was under way before is over."""
        self._shed_under_way(topic)
        before = topic.periods.start
        if before == start:
            return
        topic.end_period(start)  # also after a restart: it may have been what came between two periods
        source = Source(topic.topic, self._partition, NO_OFFSET, start)
        for state in topic.groups.values():
            self.note(topic, state, topic.topic, lambda _change: source, now_ms)
        if before is not None:
            self._sum_up(topic, before)
        topic.periods.start = start
        self._shed_topics.discard(topic.topic)
        topic.sums_up = bool(self.recording.rows_max) and len(self._periods) < WAITING_MAX
        self._shed_under_way(topic)

    def _sum_up(self, topic: TopicState, start: int) -> None:
        if not self.recording.rows_max:
            return
        groups = tuple(state.take_period() for state in topic.groups.values())
        if not any(asked or (found is not None and found.near) for _, asked, found in groups):
            return
        if topic.topic in self._shed_topics:
            self.evaluations_shed += sum(asked for _, asked, _ in groups)
            return
        if not topic.sums_up:
            self.periods_dropped += 1
            return
        period = Period(topic.topic, self._partition, start, topic.periods.period_ms, groups, topic.accounts.key)
        topic.counts.near_left_out += left_out(period, self.recording.rows_max)
        self._periods.append(period)

    def sum_up_idle(self, topics: Iterator[TopicState]) -> None:
        """Sum up the periods of topics that had no event since this was last called: nobody knows when the next one
        comes. What still comes in such a period is summed up again, under the same ids.
        """
        for topic in topics:
            if self._offsets.get(topic.topic) == topic.next_offset and topic.periods.start is not None:
                self._sum_up(topic, topic.periods.start)
            self._offsets[topic.topic] = topic.next_offset

    def take_changes(self) -> list[Evaluation]:
        """Those noted since this was last asked, in the order of the log, group by group."""
        found, self._changes = self._changes, []
        return found

    def take_period(self, now_ms: int) -> Iterator[Evaluation] | None:
        """The oldest period that waits, as records; made while it is iterated. ``None``: none waits, or it is shed."""
        if self.sheds:
            self._shed_waiting()
        if not self._periods:
            return None
        rows_max = self.recording.rows_max
        return period_evaluations(self._periods.popleft(), rows_max, now_ms, enforcing=self._enforcing)

    def _shed_under_way(self, topic: TopicState) -> None:
        if self.sheds and topic.sums_up:
            topic.sums_up = False
            self._shed_topics.add(topic.topic)

    def _shed_waiting(self) -> None:
        for period in self._periods:
            self.evaluations_shed += sum(asked for _, asked, _ in period.groups)
        self._periods.clear()
