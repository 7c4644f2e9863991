"""How far partitions are applied, against their ends as the broker tells them. Pure; time is an argument.

Under load a partition never stands at its end, because the end moves while one looks. So each end is kept with the
moment at which it was the end: once it is applied, everything that existed at that moment is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from emergency_stop.domain.messages import TopicFreshness

#: Ends that wait to be applied; past it they are only kept more coarsely.
_ENDS_MAX: Final = 1_024


@dataclass(slots=True)
class TopicProgress:
    """One topic's partition. ``moved_at_ms`` is on a clock that never jumps, ``fresh_at_ms`` on the wall's."""

    #: When the position was last seen to move, or to be at the end; at first, when the owner began to look.
    moved_at_ms: int
    position: int = -1
    end: int = 0
    #: Everything that the broker had at this moment has been applied; 0: not known yet.
    fresh_at_ms: int = 0
    _ends: deque[tuple[int, int]] = field(default_factory=deque)

    def note(self, position: int, end: int, *, steady_ms: int, wall_ms: int) -> None:
        """``end`` was asked for at these times, and ``position`` is applied by now."""
        if position != self.position or position >= end:
            self.moved_at_ms = steady_ms
        self.position, self.end = position, end
        if len(self._ends) < _ENDS_MAX:
            self._ends.append((end, wall_ms))
        while self._ends and self._ends[0][0] <= position:
            self.fresh_at_ms = self._ends.popleft()[1]

    def still_ms(self, steady_ms: int) -> int:
        """How long it has not been seen to move before its end."""
        return steady_ms - self.moved_at_ms


class LaneProgress:
    """All topics of the partitions that a worker owns."""

    def __init__(self) -> None:
        self._topics: dict[tuple[int, str], TopicProgress] = {}

    def keep(self, partitions: Iterable[int], topics: Sequence[str], steady_ms: int) -> None:
        """The worker owns exactly ``partitions`` now; what it knew of those that it keeps, it knows still."""
        wanted = [(partition, topic) for partition in partitions for topic in topics]
        self._topics = {key: self._topics.get(key) or TopicProgress(steady_ms) for key in wanted}

    def forgive(self, steady_ms: int) -> None:
        """Nothing could move meanwhile, during a rebalance for example: standing still counts from now on."""
        for one in self._topics.values():
            one.moved_at_ms = steady_ms

    def of(self, partition: int, topic: str) -> TopicProgress | None:
        return self._topics.get((partition, topic))

    def fresh_at(self, partition: int, topics: Sequence[str]) -> int:
        """The oldest ``fresh_at_ms`` of some topics of a partition; 0 where one is not known yet."""
        return min((one.fresh_at_ms if (one := self.of(partition, name)) else 0 for name in topics), default=0)

    def blind(self, steady_ms: int, after_ms: int) -> tuple[int, ...]:
        """Partitions of which some topic stands still before its end, or is not known to move, for ``after_ms``."""
        still = {key[0] for key, one in self._topics.items() if one.still_ms(steady_ms) > after_ms}
        return tuple(sorted(still))

    def freshness(self) -> Mapping[int, tuple[TopicFreshness, ...]]:
        """Per partition, its topics sorted by name."""
        found: dict[int, tuple[TopicFreshness, ...]] = {}
        for (partition, topic), one in sorted(self._topics.items()):
            here = TopicFreshness(topic, max(one.position, 0), one.end, one.fresh_at_ms)
            found[partition] = (*found.get(partition, ()), here)
        return found
