"""What is kept per account: windowed aggregates over the rows of one topic that pass some filters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

#: Panes per window: a window slides in steps of a twelfth of its length.
PANES: Final = 12
#: Stands for the clock's own moment in ``Filter.field``: whether it lies in quiet hours.
OCCURRED_AT: Final = "occurred_at"


class Aggregate(IntEnum):
    """How a series folds its samples."""

    AVG = 0
    MAX = 1
    MIN = 2
    SUM = 3
    #: How many, by panes; ``COUNT`` is exact, up to its depth.
    TALLY = 4
    COUNT = 5
    DISTINCT = 6
    ACTIVE = 7
    LAST = 8


#: Those that fold into panes.
PANED: Final = (Aggregate.AVG, Aggregate.MAX, Aggregate.MIN, Aggregate.SUM, Aggregate.TALLY)
#: Those that need no field's value.
_VALUELESS: Final = (Aggregate.TALLY, Aggregate.COUNT, Aggregate.ACTIVE)


@dataclass(frozen=True, slots=True, order=True)
class Filter:
    """Rows whose ``field`` compares so with ``value``; of an enum, by the index of its symbol. Null never passes."""

    field: str
    op: str
    value: float

    def __str__(self) -> str:
        """As short as it can be read back: what differs in a far digit is another filter, with state of its own."""
        value = int(self.value) if self.value.is_integer() else self.value
        return f"{self.field}{self.op}{value!r}"


@dataclass(frozen=True, slots=True)
class Series:
    """One windowed aggregate per account, over the rows that pass all ``filters``.

    ``depth`` bounds what COUNT and DISTINCT remember. With ``shares`` the value of a row is not its field's, but
    whether it passes these: an average of that is a share. ``quiet`` is quiet hours and their time zone, within
    which rows count. ``across``: one value over all accounts of the partition.
    """

    topic: str
    aggregate: Aggregate
    field: str
    filters: tuple[Filter, ...]
    window_ms: int
    depth: int = 0
    shares: tuple[Filter, ...] = ()
    quiet: tuple[str, str] | None = None
    across: bool = False

    @property
    def name(self) -> str:
        """Identity in snapshots: the same definition finds its state again."""
        subject = "&".join(map(str, self.shares)) or self.field
        across = ",across" if self.across else ""
        return f"{self.aggregate.name.lower()}({subject}{self.chosen},{self.window_ms}ms,{self.depth}{across})"

    @property
    def chosen(self) -> str:
        """``[kind==1,outcome==1]``, or nothing where every row counts."""
        parts = [*map(str, self.filters), *([f"{OCCURRED_AT} in {' '.join(self.quiet)}"] if self.quiet else ())]
        return f"[{','.join(parts)}]" if parts else ""

    @property
    def pane_ms(self) -> int:
        return -(-self.window_ms // PANES)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the decoder must bring."""
        named = [one.field for one in (*self.filters, *self.shares)]
        if self.aggregate not in _VALUELESS and not self.shares:
            named.append(self.field)
        return tuple(dict.fromkeys(named))
