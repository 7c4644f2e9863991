"""Panes of several partitions put together, in whole numbers of any size: the twin of ``detect.across``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PANES = 12
#: What a pane's count, and the samples that are told of a window, end at.
COUNT_MAX, SAMPLES_MAX = 2**32 - 1, 2**31 - 1


@dataclass(frozen=True)
class Part:
    """A partition's panes by number, each with (value, count); ``newest`` is its newest moment."""

    newest: int
    panes: dict[int, tuple[float, int]]


def together(aggregate: str, pane_ms: int, parts: Sequence[Part]) -> tuple[float, int]:
    """(value, samples) over the newest pane of any part and the eleven before it; (0, 0) where they are empty."""
    last = max(part.newest for part in parts) // pane_ms
    values: list[float] = []
    count = 0
    for pane in range(last - PANES + 1, last + 1):
        found = [part.panes[pane] for part in parts if part.panes.get(pane, (0.0, 0))[1]]
        values += [value for value, _ in found]
        count += min(sum(samples for _, samples in found), COUNT_MAX)
    if not count:
        return 0.0, 0
    value = {"avg": sum(values) / count, "sum": sum(values), "max": max(values), "min": min(values), "tally": count}
    return float(value[aggregate]), min(count, SAMPLES_MAX)
