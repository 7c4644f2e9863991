"""How far a slice's rows are applied, and the next batches of topics that share a condition.

Between topics only the order of one account's rows matters: windows and cooldowns are an account's own. So a slice is
cut into rounds. A run is what an account has in a row of one topic; the first round has every account's first run, the
second one its second, and so on: as many batches as the busiest account has runs, not one for each run that there is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from emergency_stop.apps.backtest.telemetry import PLACES_PER_MS, Arrived, last_place_of
from emergency_stop.columnar.columns import I64
from emergency_stop.domain.messages import Hit

_CONTENTS, _SEEN = "window_contents", "seen"


@dataclass(frozen=True, slots=True)
class Due:
    """Rows of a topic from ``first`` to ``last`` (excluded) that stand next."""

    topic: str
    first: int
    last: int


class Reading:
    """Positions in a slice's rows, by topic."""

    def __init__(self, rows: Mapping[str, Arrived]) -> None:
        self.rows = rows
        self.newest_ms = 0
        self._next = dict.fromkeys(rows, 0)

    def steps(self, topics: Iterable[str], limit: int, step_ms: int) -> list[int]:
        """The last places of steps in which something stands that is not applied, before ``limit``."""
        found = [
            one.at_ms[self._next[topic] : int(np.searchsorted(one.place, limit, "right"))] // step_ms
            for topic in topics
            if (one := self.rows.get(topic)) is not None
        ]
        steps: list[int] = np.unique(np.concatenate(found)).tolist() if found else []
        places = [last_place_of((step + 1) * step_ms - 1) for step in steps]
        return [place for place in places if place < limit]

    def due(self, topics: Sequence[str], limit: int) -> list[Due]:
        """What stands up to the place ``limit``; it counts as applied from now on."""
        found = []
        for topic in topics:
            arrived = self.rows.get(topic)
            if arrived is None:
                continue
            first, last = self._next[topic], int(np.searchsorted(arrived.place, limit, "right"))
            if last > first:
                found.append(Due(topic, first, last))
                self._next[topic] = last
                self.newest_ms = max(self.newest_ms, int(arrived.at_ms[last - 1]))
        return found

    def rounds(self, due: Sequence[Due]) -> Iterator[tuple[str, I64]]:
        """(topic, rows) of one batch after the other. Within a place, rows stand in the order of topics in ``due``."""
        which = np.repeat(np.arange(len(due)), [one.last - one.first for one in due])
        row = np.concatenate([np.arange(one.first, one.last) for one in due])
        place = np.concatenate([self.rows[one.topic].place[one.first : one.last] for one in due])
        account = np.concatenate([self.rows[one.topic].columns.key_hash[one.first : one.last] for one in due])
        order = np.lexsort((row, which, place, account))
        account, which, row = account[order], which[order], row[order]
        is_new = np.diff(account, prepend=~account[:1]) != 0
        run = np.cumsum(is_new | (np.diff(which, prepend=-1) != 0))
        number = run - np.maximum.accumulate(np.where(is_new, run, 0))
        batches = np.lexsort((row, which, number))
        number, which, row = number[batches], which[batches], row[batches]
        edges = np.flatnonzero((np.diff(number, prepend=-1) != 0) | (np.diff(which, prepend=-1) != 0))
        for low, high in pairwise([*edges.tolist(), len(row)]):
            yield due[int(which[low])].topic, row[low:high]

    def as_read(self, hit: Hit, topics: Sequence[str], before: Mapping[str, int]) -> Hit:
        """A hit of a round, with how far other topics had been read: in the order of places, which rounds do not keep.

        ``before`` is how far topics had been read before the round's rows.
        """
        contents = json.loads(hit.window_contents)
        if _SEEN not in contents:
            return hit
        mine = self.rows[hit.source_topic]
        place = mine.place[int(np.searchsorted(mine.columns.offset, hit.source_offset))]
        for topic in contents[_SEEN]:
            other = self.rows.get(topic)
            if other is None:
                contents[_SEEN][topic] = before.get(topic, 0)
                continue
            side = "right" if topics.index(topic) < topics.index(hit.source_topic) else "left"
            end = int(np.searchsorted(other.place, place, side))  # type: ignore[call-overload]  # one of the two
            contents[_SEEN][topic] = int(other.columns.offset[end - 1]) + 1 if end else before.get(topic, 0)
        return replace(hit, window_contents=json.dumps(contents, separators=(",", ":")))

    def detected(self, hit: Hit) -> Hit:
        """A hit of a row, detected when its record was there, however rows are cut into batches."""
        one = self.rows[hit.source_topic]
        row = int(np.searchsorted(one.columns.offset, hit.source_offset))
        return replace(hit, detected_at=int(one.at_ms[row]))


def moment_of(place: int) -> int:
    """The millisecond of a place."""
    return place // PLACES_PER_MS
