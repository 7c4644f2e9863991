"""The detector as it ships, with a meter: from its first assignment to its last durable position.

``python -m tests.bench.subject EVENTS`` works with the settings of the environment, and ends when all
``EVENTS`` of the health topic are applied, their hits acknowledged, and the position is in the state log.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from emergency_stop.adapters.state_log import StateLog
from emergency_stop.apps import detector
from emergency_stop.apps.lane_partition import LanePartition
from emergency_stop.apps.lane_worker import LaneWorker
from emergency_stop.config import Settings
from tests.bench.meter import Meter


def install(meter: Meter, events: int) -> None:
    """Wrap the three methods between which the detector works."""
    assigned, apply, written = LaneWorker._on_assigned, LanePartition.apply, StateLog.write_positions
    applied: dict[int, int] = {}
    durable: dict[int, int] = {}

    async def on_assigned(self: LaneWorker, *args: Any, **kwargs: Any) -> None:
        meter.start()
        await assigned(self, *args, **kwargs)

    def note_applied(self: LanePartition, *args: Any, **kwargs: Any) -> None:
        apply(self, *args, **kwargs)
        applied[self.number] = sum(self.positions.values())
        meter.note(sum(applied.values()))

    async def write_positions(self: StateLog, positions: Mapping[str, int]) -> None:
        await written(self, positions)
        durable[self._partition] = sum(positions.values())
        if sum(durable.values()) >= events and meter.running:
            meter.stop()
            os.kill(os.getpid(), signal.SIGTERM)

    LaneWorker._on_assigned = on_assigned  # type: ignore[method-assign]  # the meter's only way in
    LanePartition.apply = note_applied  # type: ignore[method-assign]
    StateLog.write_positions = write_positions  # type: ignore[method-assign]


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    events = int(sys.argv[1])
    install(Meter(events), events)
    return detector.run(Settings.from_env())


if __name__ == "__main__":
    sys.exit(main())
