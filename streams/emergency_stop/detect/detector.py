"""The detector of one partition number, over all telemetry topics: columns in, hits out. Pure.

Five verbs: ``on_batch``, ``on_tick`` (a tick that was read back from its topic) and ``on_part``, ``take_parts``, and
``dirty``/``write``/``load`` for state. Every series is a function of one topic's log. A condition that reads several
topics is asked on the rows of each, and sees of the others what was applied before: a hit of it says how far that was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from emergency_stop.columnar.columns import I64, Columns
from emergency_stop.detect.account_standing import account_standings
from emergency_stop.detect.accounts import keys_of
from emergency_stop.detect.clock import ClockState
from emergency_stop.detect.crossings import Crossing
from emergency_stop.detect.groups import GroupState
from emergency_stop.detect.hits import Source, crossing_hit, schedule_hit, scope_of
from emergency_stop.detect.overall import OverallState
from emergency_stop.detect.piece import Piece
from emergency_stop.detect.plan import Group, Plan
from emergency_stop.detect.recorder import Recorder
from emergency_stop.detect.recording import Recording
from emergency_stop.detect.rule_rows import best_order
from emergency_stop.detect.silence import remember_told, silent_slots
from emergency_stop.detect.standing import Standing
from emergency_stop.detect.topic_state import HashKey, TopicState
from emergency_stop.detect.window_kernels import EMPTY, OUT_OF_ORDER
from emergency_stop.detect.windows import Folded, Mask
from emergency_stop.domain.messages import Hit, Partial
from emergency_stop.domain.values import GLOBAL_SCOPE, Scope

Correlate = Callable[[Columns, int], str | None]
_ACROSS: Final = "across"
_CLOCK: Final = "clock"
_OVERALL: Final = "overall"
_NOTHING: Final = Recording()


class PartitionDetector:
    """Windows, conditions and cooldowns of one partition number.

    ``correlate`` finds the correlation id of a row that hit; ``hash_key`` is the columns' key hash.
    ``interval_ms`` is how far apart ticks are.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        partition: int = 0,
        hash_key: HashKey,
        correlate: Correlate = lambda _columns, _row: None,
        enforcing: bool = True,
        interval_ms: int = 5_000,
        recording: Recording = _NOTHING,
    ) -> None:
        self.partition = partition
        self.topics: dict[str, TopicState] = {}
        self._hash_key = hash_key
        self._correlate = correlate
        self._enforcing = enforcing
        self._interval_ms = interval_ms
        self.recorder = Recorder(recording, partition, enforcing=enforcing)
        self._clock = ClockState()
        self._clock_cut = b""
        self._clock_changed = False
        self._overall = OverallState(recording=recording)
        self._overall_changed = False
        self.plan = plan
        self.replan(plan)

    def replan(self, plan: Plan) -> None:
        """Change the triggers; unchanged series and cooldowns keep their state."""
        self.plan = plan
        for name in {*plan.topics, *self.topics}:
            self._topic(name).replan(plan.topic(name))
        self._overall.replan(plan.across)

    def _topic(self, name: str) -> TopicState:
        found = self.topics.get(name)
        if found is None:
            found = self.topics[name] = TopicState(name, self._hash_key, self.recorder.recording)
            found.replan(self.plan.topic(name))
        return found

    # -- telemetry ------------------------------------------------------------------------------

    def on_batch(self, columns: Columns, now_ms: int) -> list[Hit]:
        """Apply the rows not yet applied; hits in offset order, then by group. What else changed is in ``recorder``."""
        topic = self._topic(columns.topic)
        slots, folded = topic.apply(columns)
        crossings: list[tuple[Crossing, Group]] = []
        for first, last, start in topic.periods.pieces(columns.occurred_at):
            self.recorder.begin_period(topic, start, now_ms)
            piece = Piece(columns, slots, folded, first, last)
            for group in topic.plan.groups:
                one_topic = len(group.shape.topics) == 1
                evaluate = self._on_own_rows if one_topic else self._on_shared_rows
                crossings += [(crossing, group) for crossing in evaluate(topic, group, piece, now_ms)]
        topic.next_offset = max(topic.next_offset, columns.next_offset)
        topic.counts.hits += len(crossings)
        crossings.sort(key=lambda found: found[0].row)
        return [self._row_hit(columns, crossing, group, now_ms) for crossing, group in crossings]

    def _on_own_rows(self, topic: TopicState, group: Group, piece: Piece, now_ms: int) -> list[Crossing]:
        state = topic.groups[group.name]
        seen = [piece.seen(series) for series in group.shape.series]
        found = state.evaluate(piece.slots, piece.moments, seen)
        if topic.sums_up:
            state.keep_nearest(piece.slots, piece.moments, piece.offsets, seen)
        self._note(topic, group, found)
        if state.has_news:
            self.recorder.note(topic, state, topic.topic, lambda change: piece.source(change.row), now_ms)
        return [_moved(crossing, crossing.row + piece.first) for crossing in found] if piece.first else found

    def _on_shared_rows(self, topic: TopicState, group: Group, piece: Piece, now_ms: int) -> list[Crossing]:
        """Only rows that are a sample of one of the condition's series in this topic."""
        home, columns = self._topic(group.shape.home), piece.columns
        state = home.groups[group.name]
        mine = {series: piece.seen(series) for series in group.shape.series if series.topic == topic.topic}
        asked = (best_order(list(mine.values())) <= OUT_OF_ORDER) & (piece.slots >= 0)
        may_change = state.may_hold(mine, len(piece.slots)) | self._known_to_hold(home, state, piece, topic)
        rows: I64 = np.flatnonzero(asked & may_change)
        if not len(rows):
            return []
        keys, moments = keys_of(columns, rows + piece.first), piece.moments[rows]
        seen = [
            _taken(mine[series], rows)
            if series.topic == topic.topic
            else self._topic(series.topic).read(series, keys, moments)
            for series in group.shape.series
        ]
        home_slots = piece.slots[rows] if home is topic else home.enter(keys)
        found = state.evaluate(home_slots, moments, seen)
        self._note(home, group, found)
        if state.has_news:
            self.recorder.note(home, state, topic.topic, lambda change: piece.source(int(rows[change.row])), now_ms)
        return [_moved(crossing, int(rows[crossing.row]) + piece.first) for crossing in found]

    @staticmethod
    def _known_to_hold(home: TopicState, state: GroupState, piece: Piece, topic: TopicState) -> Mask:
        """Rows of accounts of which the condition was true: that it is false of them now is news."""
        if not state.truth.count:
            return np.zeros(len(piece.slots), np.bool_)
        rows = np.arange(piece.first, piece.last)
        slots = piece.slots if home is topic else home.accounts.look_up(keys_of(piece.columns, rows))
        is_known: Mask = (slots >= 0) & state.truth.is_known(np.maximum(slots, 0))
        return is_known

    def _row_hit(self, columns: Columns, crossing: Crossing, group: Group, now_ms: int) -> Hit:
        row, topic = crossing.row, columns.topic
        source = Source(
            topic,
            columns.partition,
            int(columns.offset[row]),
            int(columns.occurred_at[row]),
            self._correlate(columns, row),
            self._seen(group, topic),
        )
        scope = scope_of(topic, columns.key(row).decode(errors="backslashreplace"))
        return crossing_hit(crossing, scope, source, now_ms, enforcing=self._enforcing)

    def _seen(self, group: Group, topic: str) -> tuple[tuple[str, int], ...]:
        return tuple((name, self._topic(name).next_offset) for name in group.shape.topics if name != topic)

    # -- the clock ------------------------------------------------------------------------------

    def on_tick(self, at_ms: int, source: tuple[str, int], now_ms: int) -> list[Hit]:
        """Let event time come to ``at_ms``; ``source`` is the topic and offset of the tick's record."""
        if not self._clock.advance(at_ms):
            return []
        hits = []
        if self.partition == 0:
            for due in self._clock.due(self.plan.schedules, at_ms, self._interval_ms):
                account = due.trigger.account_id
                scope = GLOBAL_SCOPE if account is None else Scope.account(account)
                where = Source(source[0], self.partition, source[1], due.at_ms)
                hits.append(
                    schedule_hit(
                        due.trigger, scope, where, now_ms,
                        enforcing=self._enforcing, late=due.late, suppressed=due.suppressed,
                    )
                )  # fmt: skip
        for group in self.plan.groups:
            if group.is_silence:
                hits += self._silences(group, Source(source[0], self.partition, source[1], at_ms), now_ms)
        self._clock.last_ms, self._clock_changed = at_ms, True
        return hits

    def _silences(self, group: Group, source: Source, now_ms: int) -> list[Hit]:
        """Hits of accounts that are silent by now. One silence fires once, however long it lasts."""
        home = self._topic(group.shape.home)
        slots = silent_slots(home, group, source.moment)
        if not len(slots):
            return []
        moments, keys = np.full(len(slots), source.moment, np.int64), home.accounts.keys_of_slots(slots)
        seen = [
            home.read_slots(series, slots, moments)
            if series.topic == home.topic
            else self._topic(series.topic).read(series, keys, moments)
            for series in group.shape.series
        ]
        source = replace(source, seen=self._seen(group, source.topic))
        state = home.groups[group.name]
        before = np.hstack((state.table.rows[slots], state.truth.table.rows[slots]))
        crossings = state.evaluate(slots, moments, seen, by_clock=True)
        after = np.hstack((state.table.rows[slots], state.truth.table.rows[slots]))
        home.accounts.touch(slots[(after != before).any(axis=1)])
        self._note(home, group, crossings)
        self.recorder.note(home, state, home.topic, lambda _change: source, now_ms)
        home.counts.hits += len(crossings)
        hits = []
        for crossing in crossings:
            key = home.accounts.key(crossing.slot).decode(errors="backslashreplace")
            scope = scope_of(home.topic, key)
            hits.append(crossing_hit(crossing, scope, source, now_ms, enforcing=self._enforcing))
        return hits

    def _note(self, home: TopicState, group: Group, found: list[Crossing]) -> None:
        """Count what was suppressed, and remember silences that are told."""
        home.counts.suppressed += home.groups[group.name].take_suppressed()
        if found and group.is_silence:
            remember_told(home, group, [crossing.slot for crossing in found])

    # -- one value over all accounts ------------------------------------------------------------

    def take_parts(self) -> list[Partial]:
        """Parts of this partition that changed since they were last taken; to be published, and read back by one."""
        return [
            Partial(topic.topic, series.name, self.partition, state.next_offset, state.take())
            for topic in self.topics.values()
            for series, state in topic.across.items()
            if state.changed
        ]

    @property
    def has_parts(self) -> bool:
        return any(state.changed for topic in self.topics.values() for state in topic.across.values())

    def on_part(self, part: Partial, source: tuple[str, int], now_ms: int) -> list[Hit]:
        """A part read back; ``source`` is the topic and offset of its record."""
        found = self._overall.on_part(part)
        self._overall_changed = True
        where = Source(source[0], self.partition, source[1], part.next_offset)
        self.recorder.note_overall(self._overall.take_changes(), where, now_ms)
        return [
            crossing_hit(
                crossing, GLOBAL_SCOPE, Source(source[0], self.partition, source[1], moment), now_ms,
                enforcing=self._enforcing,
            )
            for crossing, moment in found
        ]  # fmt: skip

    # -- state ----------------------------------------------------------------------------------

    def dirty(self) -> list[str]:
        """Names of the records that changed since ``write`` gave them.

        The clock's record will be as of now, whenever it is written: it must not be ahead of any page, because a tick
        that the clock contains is not asked again, and what it did to a page that lacks it would be lost.
        """
        self._clock_cut = self._clock.encode()
        names = [f"{topic.topic}/{page}" for topic in self.topics.values() for page in topic.dirty_pages()]
        names += [f"{topic.topic}/{_ACROSS}" for topic in self.topics.values() if topic.across_unsaved]
        names += [_CLOCK] * self._clock_changed
        return names + [_OVERALL] * self._overall_changed

    def write(self, name: str) -> bytes:
        """A record's bytes as of now (the clock's: as of ``dirty``): it contains everything that was applied so far."""
        if name == _CLOCK:
            self._clock_changed = self._clock.encode() != self._clock_cut
            return self._clock_cut
        if name == _OVERALL:
            self._overall_changed = False
            return self._overall.encode()
        topic, _, page = name.partition("/")
        return self.topics[topic].write_across() if page == _ACROSS else self.topics[topic].write_page(int(page))

    def load(self, records: Iterable[tuple[str, bytes]], positions: Mapping[str, int]) -> None:
        """Put written records back; ``positions`` are the next offsets to apply. Unknown series are dropped."""
        pages: dict[str, list[tuple[int, bytes]]] = {name: [] for name in positions}
        across: dict[str, bytes] = {}
        for name, data in records:
            topic, _, page = name.partition("/")
            if name == _CLOCK:
                self._clock = ClockState.decode(data)
            elif name == _OVERALL:
                self._overall.load(data)
            elif page == _ACROSS:
                across[topic] = data
            else:
                pages.setdefault(topic, []).append((int(page), data))
        for topic, found in pages.items():
            self._topic(topic).load(found, positions.get(topic, 0))
        for topic, data in across.items():
            self._topic(topic).load_across(data)

    @property
    def newest_at(self) -> int:
        """Event time of the newest telemetry that was applied since start, of any topic and account; 0: none."""
        return max((topic.newest_at for topic in self.topics.values()), default=0)

    def keys_of(self, topic: str) -> Iterator[bytes]:
        """The keys of all accounts of a topic that were ever seen."""
        known = self.topics.get(topic)
        return iter(()) if known is None else map(known.accounts.key, range(known.accounts.count))

    def standing(self, account: bytes, at_ms: int | None = None, only: str | None = None) -> Iterator[Standing]:
        """Where one account stands with every trigger that watches it, as far as it has had events; see
        ``account_standings``.
        """
        return account_standings(self.topics, account, at_ms, only)

    def overall_standing(self, trigger_id: str, at_ms: int = EMPTY) -> Standing | None:
        """Where all accounts together stand with a trigger over all accounts; kept by partition 0."""
        return self._overall.standing(trigger_id, at_ms)


def _taken(folded: Folded, rows: I64) -> Folded:
    return Folded(folded.value[rows], folded.samples[rows], folded.order[rows])


def _moved(crossing: Crossing, row: int) -> Crossing:
    return replace(crossing, row=row)
