"""Parts of series that nobody watches yet: detectors take up a trigger one after the other, and a part that comes early
must not be lost. The topic holds what anybody wrote to it, so they are kept within bounds, the newest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from emergency_stop.domain.messages import Partial

#: Of all such parts: rows and names. A partition's part of the largest series is 16 KiB.
UNWATCHED_BYTES_MAX: Final = 1024 * 1024
#: What Python keeps of a part besides.
_PART_BYTES: Final = 400


class UnwatchedParts:
    """Of two parts of a partition the one that contains more stands; the oldest go where there is no room."""

    def __init__(self) -> None:
        self._parts: OrderedDict[tuple[str, str, int], Partial] = OrderedDict()
        self.size_bytes = 0

    def __iter__(self) -> Iterator[Partial]:
        """The oldest first."""
        return iter(self._parts.values())

    def add(self, part: Partial) -> None:
        key = (part.source_topic, part.series, part.source_partition)
        before = self._parts.get(key)
        if before is not None and before.next_offset >= part.next_offset:
            return
        self._drop(key)
        self._parts[key] = part
        self.size_bytes += _size_of(part)
        while self.size_bytes > UNWATCHED_BYTES_MAX:
            self._drop(next(iter(self._parts)))

    def take(self, topic: str, series: str) -> list[Partial]:
        """All of a series, which is watched from now on."""
        keys = [key for key in self._parts if key[:2] == (topic, series)]
        found = [self._parts[key] for key in keys]
        for key in keys:
            self._drop(key)
        return found

    def _drop(self, key: tuple[str, str, int]) -> None:
        part = self._parts.pop(key, None)
        if part is not None:
            self.size_bytes -= _size_of(part)


def _size_of(part: Partial) -> int:
    return _PART_BYTES + len(part.source_topic) + len(part.series) + len(part.row)
