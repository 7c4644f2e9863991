"""The notifier's metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from emergency_stop.apps.notifier.hiding import Hidden
from emergency_stop.apps.notifier.last_resort import Outcome, Standing
from emergency_stop.apps.notifier.telling import Message
from emergency_stop.domain.messages import Notice
from emergency_stop.domain.values import NoticeKind


class NotifierMetrics:
    """Thread-safe. One per process; ``registry`` is the process-wide one unless a test brings its own."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._taken = Counter("estop_notices_total", "Notices read.", ["kind"], registry=registry)
        self._hidden = Counter(
            "estop_notices_hidden_total", "Notices not told, by reason.", ["channel", "reason"], registry=registry
        )
        self._messages = Counter(
            "estop_notify_messages_total", "Messages that arrived.", ["channel", "kind"], registry=registry
        )
        self._told = Counter("estop_notices_told_total", "Notices in them.", ["channel", "kind"], registry=registry)
        self._failed = Counter(
            "estop_notify_failures_total", "Messages that did not arrive, tried again.", ["channel"], registry=registry
        )
        self._waiting = Gauge("estop_notices_waiting", "Notices not told yet.", ["channel", "kind"], registry=registry)
        self._oldest = Gauge(
            "estop_notices_waiting_seconds", "How long the oldest has waited.", ["channel", "kind"], registry=registry
        )
        self._unreadable = Counter(
            "estop_notifier_unreadable_total", "Records that are no message, or no valid silence.", ["topic"],
            registry=registry,
        )  # fmt: skip
        self._resorts = Counter("estop_last_resort_total", "Last resorts that ended.", ["outcome"], registry=registry)
        # An alert asks the increase: of a series that begins with 1 Prometheus sees none.
        self._resorts.labels(Standing.FAILED.value)
        self._resort_failures = Counter(
            "estop_last_resort_failures_total", "Posts that were not accepted, tried again.", registry=registry
        )

    def taken(self, notice: Notice) -> None:
        self._taken.labels(notice.kind.value).inc()

    def hidden(self, hidden: Iterable[Hidden]) -> None:
        for one in hidden:
            self._hidden.labels(one.channel, one.reason.value).inc()

    def sent(self, message: Message) -> None:
        self._messages.labels(message.channel, message.kind.value).inc()
        self._told.labels(message.channel, message.kind.value).inc(len(message.notices))

    def failed(self, message: Message) -> None:
        self._failed.labels(message.channel).inc()

    def waiting(self, waiting: Mapping[tuple[str, NoticeKind], tuple[int, int]], now_ms: int) -> None:
        for (channel, kind), (count, oldest_at) in waiting.items():
            self._waiting.labels(channel, kind.value).set(count)
            self._oldest.labels(channel, kind.value).set((now_ms - oldest_at) / 1000 if count else 0)

    def unreadable(self, topic: str) -> None:
        self._unreadable.labels(topic).inc()

    def resort_ended(self, outcome: Outcome) -> None:
        self._resorts.labels(outcome.standing.value).inc()

    def resort_failed(self) -> None:
        self._resort_failures.inc()
