"""The sink's metrics."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import REGISTRY, CollectorRegistry, Counter

from emergency_stop.apps.sink.dead_letter import DeadLetter
from emergency_stop.apps.sink.store import RangeInsert


class SinkMetrics:
    """One per process; ``registry`` is the process-wide one unless a test brings its own.

    Losses of ``topics`` are counted from nought on: of a series that begins with a loss Prometheus sees no increase.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, topics: Iterable[str] = ()) -> None:
        self._rows = Counter("estop_sink_rows_total", "Rows stored.", ["table"], registry=registry)
        self._bytes = Counter("estop_sink_bytes_total", "Bytes of blocks stored.", ["table"], registry=registry)
        self._inserts = Counter("estop_sink_inserts_total", "Blocks stored.", ["table"], registry=registry)
        self._dead = Counter("estop_dead_letters_total", "Records refused.", ["topic", "reason"], registry=registry)
        self._retries = Counter("estop_sink_retries_total", "Failed calls of the database.", registry=registry)
        self._lost = Counter("estop_sink_offsets_lost_total", "Offsets deleted unseen.", ["topic"], registry=registry)
        for topic in topics:
            self._lost.labels(topic)

    def stored(self, inserts: Iterable[RangeInsert], dead: Iterable[DeadLetter]) -> None:
        for one in inserts:
            self._rows.labels(one.table).inc(one.rows)
            self._inserts.labels(one.table).inc()
            self._bytes.labels(one.table).inc(len(one.block.data) if one.block else 0)
        for letter in dead:
            self._dead.labels(letter.topic, letter.reason.label).inc()

    def retried(self) -> None:
        self._retries.inc()

    def lost(self, topic: str, offsets: int) -> None:
        self._lost.labels(topic).inc(offsets)
