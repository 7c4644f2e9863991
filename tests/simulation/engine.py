"""A clock that jumps from event to event, and logs as a broker keeps them. All chance comes from one seed."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

#: Not 0, so that no time is mistaken for "never".
START_MS: Final = 1_000_000
T = TypeVar("T")


class Engine:
    """Events in the order of their time; those of one moment in the order in which they were asked for."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_ms = START_MS
        self._due: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0

    def after(self, delay_ms: int, act: Callable[..., None], *args: Any) -> None:
        self._number += 1
        heapq.heappush(self._due, (self.now_ms + delay_ms, self._number, act, args))

    def run(self, until_ms: int) -> None:
        """Let everything happen that is due by then."""
        due = self._due
        while due and due[0][0] <= until_ms:
            self.now_ms, _, act, args = heapq.heappop(due)
            act(*args)
        self.now_ms = until_ms

    def chance(self, share: float) -> bool:
        return share > 0 and self.random.random() < share


class Log(Generic[T]):
    """One partition of a topic: what was appended, in order. Readers are woken and read at their own pace."""

    def __init__(self) -> None:
        self.records: list[T] = []
        self.readers: list[Callable[[], None]] = []

    def append(self, record: T) -> None:
        self.records.append(record)
        for wake in self.readers:
            wake()

    def __len__(self) -> int:
        return len(self.records)
