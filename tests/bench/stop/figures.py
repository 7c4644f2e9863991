"""Percentiles of times, as every part of the report shows them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

SHARES: Final[Mapping[str, float]] = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}


def percentiles(times_ms: Iterable[int]) -> dict[str, int]:
    """By nearest rank, so that every figure is a time that was measured; empty where none was."""
    found = sorted(times_ms)
    return {name: found[max(0, math.ceil(share * len(found)) - 1)] for name, share in SHARES.items()} if found else {}
