"""What a group of triggers finds on rows: conditions that fire, and conditions that change without a hit."""

from __future__ import annotations

from dataclasses import dataclass

from emergency_stop.detect.plan import Group, Member


@dataclass(frozen=True, slots=True)
class Crossing:
    """A condition that came true on a row, outside its cooldown; ``values`` and ``samples`` are its series', in order.

    ``inputs`` are what a rule read: as ``values``, but ``None`` where an aggregate had none.
    """

    row: int
    slot: int
    group: Group
    member: Member
    values: tuple[float, ...]
    samples: tuple[int, ...]
    inputs: tuple[float | None, ...]
    late: bool
    suppressed_before: int


@dataclass(frozen=True, slots=True)
class Change:
    """A condition that became true without a hit, or cleared. ``what`` is one of ``judge_kernels.WAITS`` and those
    beside it. Where time alone cleared it there are no values, and no row (-1) unless one brought it to notice.
    """

    row: int
    slot: int
    group: Group
    member: Member
    what: int
    moment: int
    values: tuple[float, ...] = ()
    samples: tuple[int, ...] = ()
    late: bool = False
