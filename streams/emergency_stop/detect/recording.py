"""What is recorded of evaluations, beside hits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PERIOD_MS: Final = 60_000


#: Enough for what happens; past it something flaps, and one row more says nothing new.
CHANGES_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class Recording:
    """By default nothing. ``rows_max`` is how many accounts of a topic's partition and period get a row of their own;
    0: periods are not summed up. ``changes_max`` bounds, per topic's partition and period, the changes that are told
    one by one; 0: none is.
    """

    rows_max: int = 0
    changes_max: int = 0
    period_ms: int = PERIOD_MS
    clear_margin_percent: int = 10
