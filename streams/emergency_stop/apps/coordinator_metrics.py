"""The coordinator's metrics."""

from __future__ import annotations

from collections import Counter as Tally
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from emergency_stop.coordinate.state import Effect
from emergency_stop.domain.messages import Command, Emergency, Hold
from emergency_stop.domain.values import EmergencyState

#: Seconds; the promise is under one second, and the graceful deadline is a minute.
_STOP_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class CoordinatorMetrics:
    """Thread-safe. One per process; ``registry`` is the process-wide one unless a test brings its own."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._emergencies = Gauge(
            "estop_emergencies", "Emergencies now held in memory.", ["partition", "phase", "level"], registry=registry
        )
        self._queue = Gauge(
            "estop_stop_queue_length", "Emergencies whose commands wait for a slot.", ["partition"], registry=registry
        )
        self._time_to_stop = Histogram(
            "estop_time_to_stop_seconds", "From the causing event to the last instance's proof.", ["level"],
            buckets=_STOP_SECONDS, registry=registry,
        )  # fmt: skip
        self._holds = Counter("estop_holds_total", "Holds published.", ["state"], registry=registry)
        self._commands = Counter("estop_commands_total", "Commands sent.", ["service", "action"], registry=registry)
        self._ended = Counter("estop_emergencies_ended_total", "Stops that ended.", ["state"], registry=registry)
        self._acks = Counter("estop_acks_total", "Acknowledgements read.", ["service", "state"], registry=registry)
        self._refused = Counter(
            "estop_coordinator_refused_total", "Messages that did not fit, by reason.", ["reason"], registry=registry
        )
        self._undecodable = Counter(
            "estop_coordinator_undecodable_total", "Inputs that are no message.", ["topic"], registry=registry
        )
        self._strays = Counter(
            "estop_coordinator_forwarded_total", "Inputs found in a wrong partition.", registry=registry
        )
        self._reported: dict[int, set[tuple[str, str]]] = {}

    def observe(self, effect: Effect) -> None:
        """Count something that is about to be published."""
        if isinstance(effect, Hold):
            self._holds.labels(effect.state.value).inc()
        elif isinstance(effect, Command):
            self._commands.labels(effect.service, effect.action.value).inc()
        elif isinstance(effect, Emergency) and effect.state in (EmergencyState.STOPPED, EmergencyState.PARTIAL):
            self._ended.labels(effect.state.value).inc()
            if effect.time_to_stop_ms is not None:
                self._time_to_stop.labels(effect.level.value).observe(effect.time_to_stop_ms / 1000)

    def ack(self, service: str, state: str) -> None:
        self._acks.labels(service, state).inc()

    def refused(self, reason: str) -> None:
        self._refused.labels(reason).inc()

    def undecodable(self, topic: str) -> None:
        self._undecodable.labels(topic).inc()

    def strays(self, count: int) -> None:
        self._strays.inc(count)

    def report(self, partition: int, census: Tally[tuple[str, str]], queue_length: int) -> None:
        """Set one partition's gauges; what is no longer there becomes 0."""
        known = self._reported.setdefault(partition, set())
        known.update(census)
        for phase, level in known:
            self._emergencies.labels(str(partition), phase, level).set(census[phase, level])
        self._queue.labels(str(partition)).set(queue_length)

    def forget(self, partition: int) -> None:
        self.report(partition, Tally(), 0)
