"""The detector of one partition number: a pure ``TopicDetector`` per telemetry topic, behind the port."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import fastavro

from emergency_stop.columnar.batches import Scratch
from emergency_stop.columnar.columns import Columns
from emergency_stop.columnar.decoder import ColumnDecoder, key_hash
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.detect.detector import TopicDetector
from emergency_stop.detect.plan import TopicPlan
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Hit
from emergency_stop.ports import Publish
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import Registry

RECORDS = {spec.name: spec.record or "" for spec in topics.TELEMETRY}
Plans = Mapping[str, TopicPlan]
#: About two milliseconds of work.
_SLICE_PAGES = 6


def warm_up(registry: Registry) -> None:
    """Load the compiled kernels, so that the first batch does not wait for them: a worker is ready when they are."""
    for topic, record in RECORDS.items():
        ColumnDecoder(registry, record).decode(FetchedBatch(topic, 0, 0, 0, ()), ())


class Correlator:
    """Finds the correlation id in the event of a hit; asked for hits only, so it may decode row by row."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._parsed: dict[int, Any] = {}

    def __call__(self, columns: Columns, row: int) -> str | None:
        schema_id = int(columns.schema_id[row])
        if schema_id < 0:  # framed by GUID; rare, and the hit's own id will do
            return None
        if schema_id not in self._parsed:
            schema = self._registry.writer_schema(schema_id)
            self._parsed[schema_id] = fastavro.parse_schema(schema, named_schemas={})
        event: Any = fastavro.schemaless_reader(io.BytesIO(columns.body(row)), self._parsed[schema_id], None)
        found = event.get("correlation_id")
        return found if isinstance(found, str) else None


class DetectorCore:
    """See ``ports.PartitionCore``. ``plans`` is asked before every batch, so triggers change while running."""

    def __init__(
        self, registry: Registry, codec: Codec, plans: Callable[[], Plans], scratch: Scratch, *, enforcing: bool
    ) -> None:
        self._registry = registry
        self._codec = codec
        self._plans = plans
        self._enforcing = enforcing
        self._scratch = scratch
        self._correlate = Correlator(registry)
        self._decoders: dict[str, ColumnDecoder] = {}
        self.detectors: dict[str, TopicDetector] = {}

    def restore(self, records: Iterable[tuple[bytes, bytes]], positions: Mapping[str, int]) -> None:
        pages: dict[str, list[tuple[int, bytes]]] = {}
        for key, value in records:
            topic, _, page = key.decode().partition("/")
            pages.setdefault(topic, []).append((int(page), value))
        for topic in {*pages, *positions}:
            if topic in RECORDS:
                self._detector(topic).load(pages.get(topic, ()), positions.get(topic, 0))

    def on_batch(self, batch: FetchedBatch, now_ms: int) -> Sequence[Publish]:
        detector = self._detector(batch.topic)
        decoder = self._decoders.get(batch.topic)
        if decoder is None:
            decoder = self._decoders[batch.topic] = ColumnDecoder(self._registry, RECORDS[batch.topic], self._scratch)
        hits = detector.on_batch(decoder.decode(batch, detector.plan.fields), now_ms)
        return [self._publish(hit) for hit in hits]

    def on_tick(self, now_ms: int) -> Sequence[Publish]:
        hits = [hit for detector in self.detectors.values() for hit in detector.on_tick(now_ms)]
        return [self._publish(hit) for hit in hits]

    def next_deadline(self) -> int | None:
        deadlines = [detector.next_deadline() for detector in self.detectors.values()]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def take_dirty(self) -> Iterator[Sequence[tuple[bytes, bytes | None]]]:
        """A few pages at a time: encoding all of them at once would delay hits by a tenth of a second."""
        dirty = [(topic, page) for topic, detector in self.detectors.items() for page in detector.dirty_pages()]
        for first in range(0, len(dirty), _SLICE_PAGES):
            yield [
                (f"{topic}/{page}".encode(), self.detectors[topic].write_page(page))
                for topic, page in dirty[first : first + _SLICE_PAGES]
            ]

    def _detector(self, topic: str) -> TopicDetector:
        plan = self._plans().get(topic) or TopicPlan(topic, (), (), ())
        detector = self.detectors.get(topic)
        if detector is None:
            detector = TopicDetector(plan, hash_key=key_hash, correlate=self._correlate, enforcing=self._enforcing)
            self.detectors[topic] = detector
        elif detector.plan != plan:
            detector.replan(plan)
        return detector

    def _publish(self, hit: Hit) -> Publish:
        return Publish(topics.HITS, hit.scope.encode(), self._codec.encode(hit, topics.HITS))
