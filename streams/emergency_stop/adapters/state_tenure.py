"""Whether a partition's state log is still its writer's: proven by offsets, without reading and without clocks.

Theory of operation. A new owner writes a mark under its fence, reads the log up to that mark, and restores what
it read. So whatever its predecessor wrote lies either before the mark, and is restored, or behind it, and is
void. The predecessor learns which it was from the offsets of its own records: as long as nobody else writes,
they follow one another without a gap, from its own mark on. Only where there is a gap it reads what lies in
it. Late records under older fences do not matter; one under a newer fence means that the partition is lost.

A writer that was cut off cannot be told so by anybody, and its producer never gives up. So it asks here after
each record of decisions, and before it publishes them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

log = logging.getLogger(__name__)

#: A log that does not show within this what it acknowledged has lost it.
LOOK_S: Final = 30.0


class LostPartitionError(Exception):
    """Somebody else took the partition over: what was decided here and not published is void."""


class Glance(NamedTuple):
    """What was found in a log from some offset on."""

    newest_fence: int
    next_offset: int


#: ``(first, up_to)``: reads the log from ``first``, up to ``up_to`` at least, to its end. Raises ``KafkaError``.
Look = Callable[[int, int], Awaitable[Glance]]


class Tenure:
    """Of one writer of one log; ``name`` is the log's for people, ``look`` reads it. Not thread-safe."""

    def __init__(self, name: str, look: Look | None = None) -> None:
        """Without ``look`` a gap cannot be explained, and counts as the end of the tenure."""
        self._name = name
        self._look = look
        #: Everything before it was restored, was looked at, or is ours; ``None``: not begun.
        self._known: int | None = None
        #: What follows our newest record; the same as ``_known`` while nobody else writes.
        self._next = 0

    def begin(self, offset: int) -> None:
        """Everything before ``offset`` is known."""
        self._known = self._next = offset

    def note(self, offsets: Sequence[int]) -> None:
        """Our next records lie there."""
        for offset in offsets:
            if self._known == self._next == offset:
                self._known = offset + 1
            self._next = offset + 1

    async def prove(self, fence: int) -> None:
        """Return only if nobody with a newer fence than ``fence`` had written when our newest record was.

        Raises ``LostPartitionError``, and what looking raises.
        """
        known = self._known
        if known == self._next:
            return
        if known is None or self._look is None:
            raise LostPartitionError(f"{self._name}: nobody can tell whose it is")
        try:
            async with asyncio.timeout(LOOK_S):
                seen = await self._look(min(known, self._next), self._next)
        except TimeoutError:
            raise LostPartitionError(f"{self._name}: what was written up to {self._next} is not there") from None
        if seen.newest_fence > fence:
            raise lost_to(self._name, seen.newest_fence, fence)
        log.warning(
            "%s: somebody else wrote between offsets %d and %d, under no newer fence than ours; it does not count",
            self._name, known, seen.next_offset,
        )  # fmt: skip
        self.begin(seen.next_offset)


def lost_to(name: str, newest: int, fence: int) -> LostPartitionError:
    """The error of who wrote under ``fence``, and finds the newer one ``newest``."""
    return LostPartitionError(
        f"{name}: another worker took it over (its fence is {newest}, ours {fence}); what was decided here since, and"
        " not published, is void"
    )
