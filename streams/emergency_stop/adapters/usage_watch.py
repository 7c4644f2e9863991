"""Watching what this process uses: a look every second, told to whoever sheds, and once per crossing to the log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from emergency_stop.adapters.process_usage import Meter, ProcessMeter, give_back_memory, usable_processors
from emergency_stop.adapters.usage_reports import UsageReporter
from emergency_stop.config import Settings
from emergency_stop.domain.usage import CALM_MS, CALM_PERCENT, Bounds, Crossing, Resource, Usage, observe
from emergency_stop.wire.registry_http import build_registry

log = logging.getLogger(__name__)

SAMPLE_S: Final = 1.0
_VARIABLES: Final = {Resource.CPU: "MAX_CPU_USAGE", Resource.MEMORY: "MAX_MEMORY_USAGE"}
_UNITS: Final = {Resource.CPU: "% of the processors it may use", Resource.MEMORY: "bytes"}
#: What is left off where nothing is only for analysts.
NOTHING: Final = "nothing is left off, because all that is done here is needed"
Listener = Callable[[Usage], None]


def bounds_of(settings: Settings, processors: float) -> Bounds:
    return Bounds(float(settings.cpu_percent_max), settings.memory_bytes_max, processors)


class UsageWatch:
    """``usage`` is what is known now. ``sheds`` says, for the log, what this process leaves off past a bound.

    Belongs to one event loop. What goes wrong with measuring costs the measurement and nothing else.
    """

    def __init__(self, bounds: Bounds, sheds: str, meter: Meter, give_back: Callable[[], None]) -> None:
        self.bounds: Final = bounds
        self.usage = Usage()
        self._sheds = sheds
        self.meter: Final = meter
        self._give_back = give_back
        self._listeners: list[Listener] = []
        self._failing = False

    @classmethod
    def of(cls, settings: Settings, sheds: str = NOTHING) -> UsageWatch:
        """The watch over this process."""
        return cls(bounds_of(settings, usable_processors()), sheds, ProcessMeter(), give_back_memory)

    def is_over(self) -> bool:
        """Whether any bound is exceeded; see ``domain.usage``."""
        return self.usage.is_over()

    def is_over_memory(self) -> bool:
        return self.usage.is_over(Resource.MEMORY)

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` after every sample. It must be quick, and must not raise."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Look every ``SAMPLE_S``, until cancelled."""
        while True:
            self._look()
            await asyncio.sleep(SAMPLE_S)

    def _look(self) -> None:
        try:
            self.usage, crossings = observe(self.usage, self.meter.sample(), self.bounds)
            for crossing in crossings:
                self._on_crossing(crossing)
            for listener in self._listeners:
                listener(self.usage)
        except Exception:
            if not self._failing:
                log.exception("what this process uses could not be measured; nothing else depends on it")
            self._failing = True
        else:
            self._failing = False

    def _on_crossing(self, crossing: Crossing) -> None:
        variable, unit = _VARIABLES[crossing.resource], _UNITS[crossing.resource]
        if not crossing.is_over:
            log.info("%s: %.0f %s, within %s=%.0f again", crossing.resource, crossing.used, unit, variable,
                     crossing.bound)  # fmt: skip
            return
        log.warning(
            "%s: %.0f %s exceed %s=%.0f. Until it is %d %% of it or less for %d s, %s. Stops are not concerned",
            crossing.resource, crossing.used, unit, variable, crossing.bound, CALM_PERCENT, CALM_MS // 1000,
            self._sheds,
        )  # fmt: skip
        if crossing.resource is Resource.MEMORY:
            # What is only kept for the next batch is no reason to shed for long.
            asyncio.get_running_loop().run_in_executor(None, self._give_back)


class UsageCollector(Collector):
    """The metrics of a watch. How much memory and processor time the process uses, the client library tells itself
    (``process_resident_memory_bytes``, ``process_cpu_seconds_total``).
    """

    def __init__(self, watch: UsageWatch, reporter: UsageReporter) -> None:
        self._watch = watch
        self._reporter = reporter

    def collect(self) -> Iterator[Metric]:
        over = GaugeMetricFamily(
            "estop_process_over_bound", "1: the process uses more than it should, and sheds.", labels=["resource"]
        )
        bound = GaugeMetricFamily(
            "estop_process_bound", "MAX_CPU_USAGE, percent of usable processors; MAX_MEMORY_USAGE, bytes.",
            labels=["resource"],
        )  # fmt: skip
        for one in Resource:
            over.add_metric([one.value], float(self._watch.usage.is_over(one)))
            bound.add_metric([one.value], self._watch.bounds.of(one))
        reports = CounterMetricFamily(
            "estop_usage_reports", "Records of its own use that the process wrote to telemetry.system.",
            labels=["outcome"],
        )  # fmt: skip
        reports.add_metric(["written"], self._reporter.written)
        reports.add_metric(["lost"], self._reporter.lost)
        yield from (over, bound, reports)


@contextlib.asynccontextmanager
async def watched(watch: UsageWatch, service: str, settings: Settings) -> AsyncIterator[None]:
    """Inside it ``watch`` looks, what is past a bound is reported as ``service``'s, and both have metrics."""
    registry = build_registry(settings.registry_url)  # of its own: it is asked on another thread
    reporter = UsageReporter(service, settings, registry, lambda: watch.usage, watch.meter)
    collector = UsageCollector(watch, reporter)
    REGISTRY.register(collector)
    tasks = {asyncio.create_task(one.run(), name=f"{service} usage") for one in (watch, reporter)}
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        REGISTRY.unregister(collector)
