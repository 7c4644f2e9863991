"""Telemetry of our own processes: it says that they run, and nothing of whether anybody else is heard.

A condition counts as cleared only while telemetry arrives at all. A detector or sink that reports its own load must not
pass for that: with all producers gone, whatever was stopped would be let run again. Nor is it part of a value over all
accounts.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from emergency_stop.columnar.columns import Columns
from emergency_stop.domain.topics import TELEMETRY_SYSTEM
from emergency_stop.domain.values import OWN_PROCESSES

#: How their keys begin.
_BEGINNINGS: Final = tuple(np.frombuffer(f"{name}@".encode(), np.uint8) for name in OWN_PROCESSES)


def newest_of_others(columns: Columns) -> int:
    """Event time of the newest row that is not of our own processes; 0 where there is none."""
    moments = columns.occurred_at
    if columns.topic == TELEMETRY_SYSTEM:
        moments = moments[~is_own(columns)]
    return int(moments.max()) if len(moments) else 0


def is_own(columns: Columns) -> npt.NDArray[np.bool_]:
    """Which rows of ``telemetry.system`` are of our own processes."""
    own = np.zeros(columns.n, np.bool_)
    for beginning in _BEGINNINGS:
        rows = np.flatnonzero(columns.key_len > len(beginning))
        places = columns.key_start[rows, np.newaxis] + np.arange(len(beginning))
        own[rows] |= (columns.buffer[places] == beginning).all(axis=1)
    return own
