"""A guard's counters for Prometheus. Here and not in the SDK, which installs without the server's libraries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from emergency_stop.coordinate.lease_table import LeaseState
from emergency_stop.sdk import StopGuard
from emergency_stop.sdk.leases import IGNORED

_COUNTERS: Final = {
    "permitted": ("estop_service_permits", "Actions that were permitted and have ended."),
    "refused": ("estop_service_refusals", "Actions that a stop forbade."),
    "stops_proven": ("estop_service_stops_proven", "Stop commands answered with STOPPED."),
    "stops_failed": ("estop_service_stops_failed", "Stop commands answered with FAILED."),
    "resumes": ("estop_service_resumes", "Resume commands answered with RESUMED."),
    "failed_actions": ("estop_service_failures", "Actions that were permitted and raised."),
    "probes_ready": ("estop_service_probes_ready", "Probes answered with READY."),
    "probes_refused": ("estop_service_probes_refused", "Probes answered with REFUSED."),
    "drills_passed": ("estop_service_drills_passed", "Drills answered with STOPPED; nothing was stopped."),
    "drills_failed": ("estop_service_drills_failed", "Drills answered with FAILED."),
    "commands": ("estop_service_commands", "Commands read."),
    "holds": ("estop_service_holds", "Hold records read."),
    "untrusted": ("estop_service_untrusted", "Commands, holds and leases whose signature is not good."),
    "unreadable": ("estop_service_unreadable", "Commands, holds and leases that could not be decoded."),
}
_GAUGES: Final = {
    "in_flight": ("estop_service_in_flight", "Actions in flight."),
    "held_scopes": ("estop_service_held_scopes", "Scopes that are shut for the service."),
    "unverified": ("estop_service_unverified_scopes", "Scopes shut by holds whose signature is not checked yet."),
    "stops_under_way": ("estop_service_stops_under_way", "Stops not yet proven."),
}
_LEASE_STATES: Final = (*(state.value for state in LeaseState), IGNORED)


class GuardCollector(Collector):
    """Reads ``guard.stats`` when it is scraped; safe on the scraper's thread."""

    def __init__(self, guard: StopGuard) -> None:
        self._guard = guard

    def collect(self) -> Iterator[Metric]:
        stats, labels = self._guard.stats, [self._guard.service]
        for field, (name, text) in _COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=["service"])
            counter.add_metric(labels, getattr(stats, field))
            yield counter
        silent = ("estop_service_hold_tail_silent_seconds", "Since the broker last answered about the holds.")
        values = {**{gauge: getattr(stats, field) for field, gauge in _GAUGES.items()}}
        for (name, text), value in {**values, silent: stats.hold_tail_silent_ms / 1000}.items():
            gauge = GaugeMetricFamily(name, text, labels=["service"])
            gauge.add_metric(labels, value)
            yield gauge
        yield from self._lease()

    def _lease(self) -> Iterator[Metric]:
        lease, service = self._guard.stats.lease, self._guard.service
        state = GaugeMetricFamily(
            "estop_service_lease", "1 for the state that the coordinator's lease is in.", labels=["service", "state"]
        )
        for name in _LEASE_STATES:
            state.add_metric([service, name], float(name == lease.state))
        left = GaugeMetricFamily(
            "estop_service_lease_seconds", "How long the lease lasts; 0: there is none.", labels=["service"]
        )
        left.add_metric([service], lease.left_ms / 1000)
        lost = CounterMetricFamily(
            "estop_service_leases_lost",
            "Times that no lease came in time, the hold delay included.",
            labels=["service"],
        )
        lost.add_metric([service], lease.times_lost)
        yield from (state, left, lost)
