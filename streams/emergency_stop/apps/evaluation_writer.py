"""Recording what was evaluated, on a slow beat: periods that ended, and versions of triggers that came into force."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final

from emergency_stop.apps.detector_core import DetectorCore
from emergency_stop.apps.evaluation_publisher import EvaluationQueue
from emergency_stop.apps.lane_worker import LaneWorker
from emergency_stop.apps.trigger_book import TriggerBook
from emergency_stop.detect.evaluations import version_evaluation
from emergency_stop.detect.recording import PERIOD_MS
from emergency_stop.ports import Clock

_BEAT_S: Final = 1.0
#: Records that are made before the event loop has its turn, about a millisecond; and in one beat, about one percent of
#: the CPU: what a backlog of telemetry brings up waits, and is dropped at the bound of ``detect.recorder``.
_AT_ONCE: Final = 20
_PER_BEAT: Final = 200
#: By this partition's owner alone.
_VERSIONS_PARTITION: Final = 0


class EvaluationWriter:
    """``run`` never ends. Nothing here changes what a detector decides, and what is lost here is a record.

    ``sheds`` tells, on every beat, whether what changed nothing is to be left unrecorded.
    """

    def __init__(
        self,
        worker: LaneWorker,
        cores: Mapping[int, DetectorCore],
        book: TriggerBook,
        queue: EvaluationQueue,
        clock: Clock,
        *,
        enforcing: bool,
        sheds: Callable[[], bool] = lambda: False,
    ) -> None:
        self._worker = worker
        self._cores = cores
        self._book = book
        self._queue = queue
        self._clock = clock
        self._enforcing = enforcing
        self._sheds = sheds
        self._told: dict[str, int] = {}

    async def run(self) -> None:
        beats_per_period = int(PERIOD_MS / 1000 / _BEAT_S)
        beat = 0
        while True:
            await asyncio.sleep(_BEAT_S)
            beat += 1
            owned = [number for number in self._worker.progress.freshness() if number in self._cores]
            for number in owned:
                self._cores[number].detector.recorder.sheds = self._sheds()
            if beat % beats_per_period == 0:
                for number in owned:
                    detector = self._cores[number].detector
                    detector.recorder.sum_up_idle(iter(detector.topics.values()))
            left = _PER_BEAT
            if _VERSIONS_PARTITION in owned:
                left -= await self._write_versions(self._cores[_VERSIONS_PARTITION], left)
            for number in owned:
                left -= await self._write_periods(self._cores[number], left)

    async def _write_periods(self, core: DetectorCore, left: int) -> int:
        """Whole periods, as long as ``left`` records may be written; returns how many were."""
        count = 0
        while count < left:
            period = core.detector.recorder.take_period(self._clock.now_ms())
            if period is None:
                break
            while records := list(islice(core.evaluations(period), _AT_ONCE)):
                count += len(records)
                await self._queue.offer(records)
                await asyncio.sleep(0)
        return count

    async def _write_versions(self, core: DetectorCore, left: int) -> int:
        """Versions in force that were not told yet: after a start all, under the same ids as before."""
        news = [one for one in self._book.triggers() if self._told.get(one.trigger_id) != one.version][:left]
        now_ms = self._clock.now_ms()
        for first in range(0, len(news), _AT_ONCE):
            some = news[first : first + _AT_ONCE]
            found = [
                version_evaluation(one, self._book.offset_of(one.trigger_id), now_ms, enforcing=self._enforcing)
                for one in some
            ]
            await self._queue.offer(list(core.evaluations(found)))
            self._told |= {one.trigger_id: one.version for one in some}
        return len(news)
