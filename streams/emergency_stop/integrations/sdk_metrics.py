"""Prometheus counters of a service's telemetry and links.

Here and not in the SDK, which installs without the server's libraries; ``guard_metrics`` has the guard's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from emergency_stop.integrations.links.link import ServiceLink
from emergency_stop.sdk import Telemetry

_LINK_COUNTERS: Final = {
    "told": ("estop_link_told", "Events that became telemetry."),
    "lost": ("estop_link_lost", "Events that telemetry did not take."),
    "unmapped": ("estop_link_unmapped", "Events that mean nothing to the emergency stop."),
    "malformed": ("estop_link_malformed", "Events that lack what their meaning needs, by event and field."),
}


class TelemetryCollector(Collector):
    """Reads ``telemetry.stats`` when it is scraped; safe on the scraper's thread."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def collect(self) -> Iterator[Metric]:
        stats, service = self._telemetry.stats, [self._telemetry.service]
        for name, text, value in (
            ("estop_telemetry_offered", "Events that were handed over.", stats.offered),
            ("estop_telemetry_delivered", "Events that the broker has acknowledged.", stats.delivered),
            ("estop_telemetry_unreadable", "Events that nobody can open, for want of a key.", stats.unreadable),
        ):
            counter = CounterMetricFamily(name, text, labels=["service"])
            counter.add_metric(service, value)
            yield counter
        lost = CounterMetricFamily("estop_telemetry_lost", "Events not published.", labels=["service", "reason"])
        for reason, value in stats.lost.items():
            lost.add_metric([*service, reason.value], value)
        yield lost
        waiting = GaugeMetricFamily("estop_telemetry_waiting", "Events not acknowledged yet.", labels=["service"])
        waiting.add_metric(service, stats.waiting)
        yield waiting


class LinkCollector(Collector):
    """Reads ``link.stats`` of each link when it is scraped; safe on the scraper's thread.

    Names of events are the user's; ``LinkStats`` bounds how many there are.
    """

    def __init__(self, links: Iterable[ServiceLink]) -> None:
        self._links = tuple(links)

    def collect(self) -> Iterator[Metric]:
        for field, (name, text) in _LINK_COUNTERS.items():
            family = CounterMetricFamily(name, text, labels=["service", "event"])
            for link in self._links:
                for event, value in _copied(getattr(link.stats, field)).items():
                    family.add_metric([link.service, event], value)
            yield family


def _copied(counts: Mapping[str, int]) -> dict[str, int]:
    """A copy in one step, so that the event loop may add names while the scraper reads."""
    return dict(counts)
