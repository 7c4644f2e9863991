"""When standby copies are given up for want of memory, and when they come back.

```
memory 120  ──────────────┐ 30 s over: copies of 20 are given up
bound  100  ─ ─ ─ ─ ─ ─ ─ │─ ─ ─ ─ ─ ─ ─ ─ ─
         80               └──── 80 + 20 do not fit under 90 ──┐
         70                                                   └── 70 + 20 do
```
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from emergency_stop.apps.standby_room import PATIENCE_MS, StandbyRoom
from emergency_stop.domain.usage import CALM_MS, Bounds, Sample, Usage, observe

BOUNDS = Bounds(100.0, 100, 1.0)
STEP_MS = 1_000
PATIENCE = PATIENCE_MS // STEP_MS
CALM = CALM_MS // STEP_MS


@dataclass
class Copies:
    """So many copies of so many bytes each, as long as they are kept."""

    partitions: int
    each_bytes: int = 10
    kept: int = 0
    is_kept: bool = True

    def __post_init__(self) -> None:
        self.kept = self.partitions

    def give_up(self) -> int:
        self.is_kept, had, self.partitions = False, self.partitions, 0
        return had * self.each_bytes

    def take_up(self) -> None:
        self.is_kept, self.partitions = True, self.kept


class Room:
    """A room whose process uses what it is told, a sample a second."""

    def __init__(self, copies: Copies) -> None:
        self.given_back = 0
        self._usage = Usage()
        self._at_ms = 0
        self._room = StandbyRoom(copies, BOUNDS.memory_bytes_max, self._give_back)

    def _give_back(self) -> None:
        self.given_back += 1

    def uses(self, memory_bytes: int, seconds: int = 1) -> None:
        for _ in range(seconds):
            self._at_ms += STEP_MS
            self._usage, _ = observe(self._usage, Sample(self._at_ms, 0.0, memory_bytes), BOUNDS)
            self._room.note(self._usage)


async def test_copies_go_after_a_while_and_come_back_where_they_fit() -> None:
    copies = Copies(2)
    room = Room(copies)
    room.uses(120, PATIENCE)
    assert copies.is_kept
    room.uses(120)
    assert not copies.is_kept
    await asyncio.get_running_loop().run_in_executor(None, lambda: None)
    room.uses(80, CALM + 60)
    assert not copies.is_kept, "with them it would be at 100"
    room.uses(70)
    assert copies.is_kept


async def test_a_burst_costs_no_copy() -> None:
    copies = Copies(2)
    room = Room(copies)
    for _ in range(20):
        room.uses(120, PATIENCE - CALM // 2 - 1)
        room.uses(50, CALM + 1)
    assert copies.is_kept
    assert room.given_back == 0


async def test_what_is_copied_only_later_goes_at_once_and_without_copies_nothing_does() -> None:
    copies = Copies(0)
    room = Room(copies)
    room.uses(120, 3 * PATIENCE)
    assert copies.is_kept
    copies.partitions = 1
    room.uses(120)
    assert not copies.is_kept


async def test_they_are_given_up_again_when_they_do_not_fit_after_all() -> None:
    copies = Copies(2)
    room = Room(copies)
    for _ in range(3):
        room.uses(120, PATIENCE + 1)
        assert not copies.is_kept
        room.uses(10, CALM + 1)
        assert copies.is_kept
