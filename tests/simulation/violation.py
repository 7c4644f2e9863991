"""What a judge found."""

from __future__ import annotations

from typing import NamedTuple


class Violation(NamedTuple):
    """``kind`` is one of those that ``judge`` lists; ``seed`` repeats the schedule."""

    seed: int
    at: int
    kind: str
    text: str
