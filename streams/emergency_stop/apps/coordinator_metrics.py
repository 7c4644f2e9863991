"""The coordinator's metrics: what it decided is counted as it happens, what it holds is read when asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from emergency_stop.coordinate.blast import LIFTED, RAISED
from emergency_stop.coordinate.state import Effect
from emergency_stop.domain.messages import Command, Emergency, Hold, Recovery
from emergency_stop.domain.topics import COORDINATOR_INPUTS, HITS, LIFECYCLE, NOTICES
from emergency_stop.domain.values import EmergencyState, RecoveryOutcome

if TYPE_CHECKING:
    from emergency_stop.apps.coordinator_core import CoordinatorCore
    from emergency_stop.apps.lane_worker import LaneWorker

_ENDED: Final = (EmergencyState.STOPPED, EmergencyState.PARTIAL)
#: Seconds; the promise is under one second, and the graceful deadline is a minute.
_STOP_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class CoordinatorMetrics:
    """Thread-safe. One per process; ``registry`` is the process-wide one unless a test brings its own."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._time_to_stop = Histogram(
            "estop_time_to_stop_seconds", "From the causing event to the last instance's proof.", ["level"],
            buckets=_STOP_SECONDS, registry=registry,
        )  # fmt: skip
        self._holds = Counter("estop_holds_total", "Holds published.", ["state"], registry=registry)
        self._commands = Counter("estop_commands_total", "Commands sent.", ["service", "action"], registry=registry)
        self._ended = Counter("estop_emergencies_ended_total", "Stops that ended.", ["state"], registry=registry)
        self._recoveries = Counter(
            "estop_recoveries_ended_total", "Recoveries that ended.", ["outcome", "procedure"], registry=registry
        )
        self._acks = Counter("estop_acks_total", "Acknowledgements read.", ["service", "state"], registry=registry)
        self._refused = Counter(
            "estop_coordinator_refused_total", "Messages that did not fit, by reason.", ["reason"], registry=registry
        )
        self._undecodable = Counter(
            "estop_coordinator_undecodable_total", "Inputs that are no message.", ["topic"], registry=registry
        )
        self._blindness = Counter(
            "estop_blindness_total",
            "Telemetry partitions that became blind, or see again.",
            ["what"],
            registry=registry,
        )
        self._common_causes = Counter(
            "estop_common_causes_total",
            "Times that triggers stopped so many accounts that everything was held, or was no longer.",
            ["what"],
            registry=registry,
        )
        self._strays = Counter(
            "estop_coordinator_forwarded_total", "Inputs found in a wrong partition.", registry=registry
        )

        self._telling_failed = Counter(
            "estop_telling_failed_total", "Times that notices or events could not be written.", ["topic"],
            registry=registry,
        )  # fmt: skip
        # What alerts ask the increase of begins at nought: of a series that begins with 1 Prometheus sees none.
        for state in _ENDED:
            self._ended.labels(state.value)
        for spec in COORDINATOR_INPUTS:
            self._undecodable.labels(spec.name)
        for topic in (NOTICES, LIFECYCLE):
            self._telling_failed.labels(topic)

    def observe(self, effect: Effect) -> None:
        """Count something that is about to be published."""
        if isinstance(effect, Hold):
            self._holds.labels(effect.state.value).inc()
        elif isinstance(effect, Command):
            self._commands.labels(effect.service, effect.action.value).inc()
        elif isinstance(effect, Emergency) and effect.state in _ENDED and not effect.drill:
            self._ended.labels(effect.state.value).inc()
            if effect.time_to_stop_ms is not None:
                self._time_to_stop.labels(effect.level.value).observe(effect.time_to_stop_ms / 1000)

        elif isinstance(effect, Recovery) and effect.outcome is not RecoveryOutcome.UNDER_WAY:
            self._recoveries.labels(effect.outcome.value, effect.procedure).inc()

    def ack(self, service: str, state: str) -> None:
        self._acks.labels(service, state).inc()

    def refused(self, reason: str) -> None:
        self._refused.labels(reason).inc()

    def undecodable(self, topic: str) -> None:
        self._undecodable.labels(topic).inc()

    def watched(self, what: str) -> None:
        """A partition became blind, or sees again; a common cause was raised, or lifted."""
        (self._common_causes if what in (RAISED, LIFTED) else self._blindness).labels(what).inc()

    def telling_failed(self, topic: str) -> None:
        self._telling_failed.labels(topic).inc()

    def strays(self, count: int) -> None:
        self._strays.inc(count)


class CoordinatorCollector(Collector):
    """What the cores hold now and what the lane counted, read when Prometheus asks."""

    def __init__(self, worker: LaneWorker, cores: Mapping[int, CoordinatorCore]) -> None:
        self._worker = worker
        self._cores = cores

    def collect(self) -> Iterator[Metric]:
        counters = self._worker.counters
        for name, text, value in (
            ("estop_coordinator_batches", "Fetched batches applied.", counters.batches),
            ("estop_positions_mended", "Times the consumer was sent back.", counters.mended_positions),
            ("estop_offsets_lost", "Offsets deleted by retention before they were applied.", counters.lost_offsets),
            ("estop_checkpoints", "Checkpoints made durable.", counters.checkpoints),
            ("estop_state_bytes", "State bytes written.", counters.state_bytes),
            ("estop_restores", "Partitions read back from the state log.", counters.restores),
        ):
            yield CounterMetricFamily(name, text, value=value)
        yield GaugeMetricFamily("estop_checkpoint_ms", "The last checkpoint, ms.", counters.checkpoint_ms_last)
        yield from self._per_partition()

    def _per_partition(self) -> Iterator[Metric]:
        emergencies = GaugeMetricFamily(
            "estop_emergencies", "Emergencies in memory.", labels=["partition", "phase", "level"]
        )
        queue = GaugeMetricFamily(
            "estop_stop_queue_length", "Emergencies whose commands wait for a slot.", labels=["partition"]
        )
        unrecorded = GaugeMetricFamily(
            "estop_stops_unrecorded",
            "Scopes whose stop every instance has proven, and whose hold is not read back yet.",
            labels=["partition"],
        )
        blind = GaugeMetricFamily(
            "estop_telemetry_blind", "1: no detector evaluates what is new in it.", labels=["partition"]
        )
        common_cause = GaugeMetricFamily(
            "estop_common_cause", "1: so many accounts were stopped by triggers that everything is held.", labels=[]
        )
        for partition, core in sorted(self._cores.items()):
            if self._worker.position(HITS, partition) is None:
                continue  # it belongs to another worker now
            for (phase, level), count in core.coordinator.census().items():
                emergencies.add_metric([str(partition), phase, level], count)
            queue.add_metric([str(partition)], core.coordinator.queue_length)
            unrecorded.add_metric([str(partition)], core.coordinator.unrecorded)
            for number, is_blind in core.watches.blind.blind().items():
                blind.add_metric([str(number)], float(is_blind))
            if core.watches.blast.is_on:
                common_cause.add_metric([], float(core.watches.blast.is_raised))
        yield from (emergencies, queue, unrecorded, blind, common_cause)
