"""The sink as it ships, with a meter: from its first assignment to its last recorded position.

``python -m tests.bench.sink.subject ROWS`` works with the settings of the environment.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from emergency_stop.apps.sink import main as sink
from emergency_stop.apps.sink.dead_letter import DeadLetter
from emergency_stop.apps.sink.metrics import SinkMetrics
from emergency_stop.apps.sink.store import RangeInsert
from emergency_stop.apps.sink.worker import SinkWorker
from emergency_stop.config import Settings
from tests.bench.meter import Meter

TABLE: Final = "health_events"


def install(meter: Meter, rows: int) -> None:
    """Wrap the two methods between which the sink works."""
    reposition, stored = SinkWorker._reposition, SinkMetrics.stored
    seen = 0

    async def on_reposition(self: SinkWorker, *args: Any, **kwargs: Any) -> None:
        meter.start()
        await reposition(self, *args, **kwargs)

    def note_stored(self: SinkMetrics, inserts: Sequence[RangeInsert], dead: Iterable[DeadLetter]) -> None:
        nonlocal seen
        stored(self, inserts, dead)
        seen += sum(one.rows for one in inserts if one.table == TABLE)
        meter.note(seen)
        if seen >= rows and meter.running:
            meter.stop()
            os.kill(os.getpid(), signal.SIGTERM)

    SinkWorker._reposition = on_reposition  # type: ignore[method-assign]  # the meter's only way in
    SinkMetrics.stored = note_stored  # type: ignore[method-assign, assignment]


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    rows = int(sys.argv[1])
    install(Meter(rows), rows)
    return sink.run(Settings.from_env())


if __name__ == "__main__":
    sys.exit(main())
