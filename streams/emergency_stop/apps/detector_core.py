"""The detector of one partition number behind the port: bytes in, hits out, state as records."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import fastavro

from emergency_stop.apps.question_desk import QuestionDesk
from emergency_stop.apps.records import records_of
from emergency_stop.columnar.batches import CorruptBatchError, Scratch
from emergency_stop.columnar.columns import Columns
from emergency_stop.columnar.decoder import ColumnDecoder, key_hash
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.detect.across import NoPartError
from emergency_stop.detect.detector import PartitionDetector
from emergency_stop.detect.plan import Plan
from emergency_stop.detect.recording import Recording
from emergency_stop.domain import topics
from emergency_stop.domain.messages import ConditionQuestion, Evaluation, Hit, Partial, Tick
from emergency_stop.domain.reasons import FUTURE_MS_MAX
from emergency_stop.ports import Publish
from emergency_stop.wire.codec import Codec, WireError
from emergency_stop.wire.physical import physical
from emergency_stop.wire.registry import Registry, RegistryError, UnknownSchemaError

log = logging.getLogger(__name__)

RECORDS = {spec.name: spec.record or "" for spec in topics.TELEMETRY}
M = TypeVar("M")
#: About two milliseconds of work.
_SLICE_RECORDS: Final = 6
#: Where every partition's part meets the others'.
_OVERALL_PARTITION: Final = 0
_NOTHING: Final = Recording()


def warm_up(registry: Registry) -> None:
    """Load the compiled kernels, so that the first batch does not wait for them: a worker is ready when they are."""
    for topic, record in RECORDS.items():
        ColumnDecoder(registry, record).decode(FetchedBatch(topic, 0, 0, 0, ()), ())


def know_ids(registry: Registry) -> None:
    """Ask for the ids that hits and evaluations are written under, so that no hit waits for an answer. Blocking.

    Where there is none now, it is asked for again when there is something to write.
    """
    for record, topic in ((Hit.__name__, topics.HITS), (Evaluation.__name__, topics.EVALUATIONS)):
        try:
            registry.schema_id(record, topic)
        except RegistryError as error:
            log.warning("nothing can be written to %s yet: %s", topic, error)


class Correlator:
    """Finds the correlation id in the event of a hit; asked for hits only, so it may decode row by row.

    ``None`` for an event that has none, and for one that cannot be read this way: a hit waits for nothing, and has an
    id of its own.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._parsed: dict[int, Any] = {}

    def __call__(self, columns: Columns, row: int) -> str | None:
        schema_id = int(columns.schema_id[row])
        if schema_id < 0:  # framed by GUID; rare, and the hit's own id will do
            return None
        try:
            event: Any = fastavro.schemaless_reader(io.BytesIO(columns.body(row)), self._schema(schema_id), None)
            found = event.get("correlation_id")
        except Exception as error:  # noqa: BLE001  # whatever ails this second reading, the first has found a hit
            where = (columns.topic, columns.partition, int(columns.offset[row]))
            log.warning("%s-%d offset %d: the correlation id of a hit was not read: %r", *where, error)
            return None
        return found if isinstance(found, str) else None

    def _schema(self, schema_id: int) -> Any:
        if schema_id not in self._parsed:
            schema = physical(self._registry.writer_schema(schema_id))
            self._parsed[schema_id] = fastavro.parse_schema(schema, named_schemas={})
        return self._parsed[schema_id]


class DetectorCore:
    """See ``ports.PartitionCore``. ``plan`` is asked before every batch, so triggers change while running.

    Where they are recorded, evaluations that changed something without a hit come behind the hits of a batch; see
    ``evaluation_publisher``.

    Every ``interval_ms`` it writes a tick, as long as some trigger waits for the clock, and acts on the tick when it
    is read back: so ticks are on record, and a replay gets the same ones.
    """

    def __init__(
        self,
        registry: Registry,
        codec: Codec,
        plan: Callable[[], Plan],
        scratch: Scratch,
        *,
        partition: int = 0,
        enforcing: bool,
        interval_ms: int = 5_000,
        desk: QuestionDesk | None = None,
        recording: Recording = _NOTHING,
    ) -> None:
        """``desk`` answers questions about conditions; without one they are not read."""
        self._registry = registry
        self._codec = codec
        self._plan = plan
        self._scratch = scratch
        self._interval_ms = interval_ms
        self._next_tick_ms = 0
        self.desk = desk
        self._decoders: dict[str, ColumnDecoder] = {}
        #: Records and record batches that could not be read.
        self.undecodable = 0
        #: Evaluations whose schema the registry did not give.
        self.evaluations_given_up = 0
        self.detector = PartitionDetector(
            plan(),
            partition=partition,
            hash_key=key_hash,
            correlate=Correlator(registry),
            enforcing=enforcing,
            interval_ms=interval_ms,
            recording=recording,
        )

    def restore(self, records: Iterable[tuple[bytes, bytes]], positions: Mapping[str, int]) -> None:
        telemetry = {topic: offset for topic, offset in positions.items() if topic in RECORDS}
        self.detector.load(((key.decode(), value) for key, value in records), telemetry)

    def on_batch(self, batch: FetchedBatch, now_ms: int) -> Sequence[Publish]:
        """Raises ``RegistryError`` where hits could not be written, before anything is decided: a state that contains a
        hit which was never published would lose it.
        """
        self._registry.schema_id(Hit.__name__, topics.HITS)
        detector = self._planned()
        if batch.topic == topics.QUESTIONS:
            self._take_questions(batch, now_ms)
            return []
        if batch.topic == topics.TICKS:
            found = [self._on_tick(tick, (batch.topic, offset), now_ms) for offset, tick in self._messages(batch, Tick)]
        elif batch.topic == topics.PARTIALS:
            found = [
                self._on_part(part, (batch.topic, offset), now_ms) for offset, part in self._messages(batch, Partial)
            ]
        else:
            columns = self._columns(batch, detector.plan.topic(batch.topic).columns)
            found = [detector.on_batch(columns, now_ms)]
        hits = [hit for some in found for hit in some]
        return [*map(self._publish, hits), *self.evaluations(detector.recorder.take_changes())]

    def on_tick(self, now_ms: int) -> Sequence[Publish]:
        """The next tick's record, parts of values over all accounts, and answers; no hit is decided here."""
        detector = self._planned()
        published = self._answers(detector, now_ms)
        if detector.plan.needs_clock and now_ms >= self._next_tick_ms:
            tick = Tick(detector.partition, now_ms - now_ms % self._interval_ms)
            self._next_tick_ms = tick.at + self._interval_ms
            value = self._codec.encode(tick, topics.TICKS)
            published.append(Publish(topics.TICKS, None, value, partition=tick.partition))
        for part in detector.take_parts():
            value, key = self._codec.encode(part, topics.PARTIALS), part.series.encode()
            published.append(Publish(topics.PARTIALS, key, value, partition=_OVERALL_PARTITION))
        return published

    def next_deadline(self) -> int | None:
        if self.detector.has_parts or (self.desk is not None and self.desk.is_waiting):
            return 0
        return self._next_tick_ms if self._plan().needs_clock else None

    def take_dirty(self) -> Iterator[Sequence[tuple[bytes, bytes | None]]]:
        """A few pages at a time: encoding all of them at once would delay hits by a tenth of a second."""
        dirty = self.detector.dirty()
        for first in range(0, len(dirty), _SLICE_RECORDS):
            yield [(name.encode(), self.detector.write(name)) for name in dirty[first : first + _SLICE_RECORDS]]

    def _on_tick(self, tick: Tick, source: tuple[str, int], now_ms: int) -> Sequence[Hit]:
        """A tick of the future would stop the clock until then: no true one would be news."""
        if 0 <= tick.at <= now_ms + FUTURE_MS_MAX:
            return self.detector.on_tick(tick.at, source, now_ms)
        self._skip(source, f"a tick at {tick.at}; from 0 to {FUTURE_MS_MAX} ms after now, {now_ms}, is allowed")
        return ()

    def _on_part(self, part: Partial, source: tuple[str, int], now_ms: int) -> Sequence[Hit]:
        try:
            return self.detector.on_part(part, source, now_ms)
        except NoPartError as error:
            self._skip(source, str(error))
            return ()

    def _take_questions(self, batch: FetchedBatch, now_ms: int) -> None:
        for _, question in self._messages(batch, ConditionQuestion):
            if self.desk is not None:
                self.desk.take(question, now_ms)

    def _answers(self, detector: PartitionDetector, now_ms: int) -> list[Publish]:
        """To the coordinator of the scope."""
        if self.desk is None or not self.desk.is_waiting:
            return []
        return [
            Publish(topics.ANSWERS, one.scope.encode(), self._codec.encode(one, topics.ANSWERS))
            for one in self.desk.answers(detector, now_ms)
        ]

    def _skip(self, source: tuple[str, int], why: str) -> None:
        self.undecodable += 1
        log.warning("%s-%d offset %d was skipped: %s", source[0], self.detector.partition, source[1], why)

    def _planned(self) -> PartitionDetector:
        plan = self._plan()
        if self.detector.plan is not plan:
            self.detector.replan(plan)
        return self.detector

    def _decoder(self, topic: str) -> ColumnDecoder:
        decoder = self._decoders.get(topic)
        if decoder is None:
            decoder = self._decoders[topic] = ColumnDecoder(self._registry, RECORDS[topic], self._scratch)
        return decoder

    def _columns(self, batch: FetchedBatch, fields: tuple[str, ...]) -> Columns:
        """Of the record batches that can be unpacked; what cannot is the sink's to put away, and must not keep good
        telemetry, before it or behind it, from being evaluated.
        """
        decoder = self._decoder(batch.topic)
        try:
            return decoder.decode(batch, fields)
        except CorruptBatchError:
            sound = tuple(raw for raw in batch.batches if self._is_sound(decoder, replace(batch, batches=(raw,))))
            return decoder.decode(replace(batch, batches=sound), fields)

    def _is_sound(self, decoder: ColumnDecoder, batch: FetchedBatch) -> bool:
        try:
            decoder.decode(batch, ())
        except CorruptBatchError as error:
            self._note_damage(batch, str(error))
            return False
        return True

    def _note_damage(self, batch: FetchedBatch, error: str) -> None:
        self.undecodable += 1
        log.error("%s-%d: a record batch is damaged and was skipped: %s", batch.topic, batch.partition, error)

    def _messages(self, batch: FetchedBatch, kind: type[M]) -> Iterator[tuple[int, M]]:
        """(offset, message) of what can be read; the rest, which can only be damage of our own records, is counted."""
        for offset, _, value in records_of(batch, batch.fetch_offset, lambda error: self._note_damage(batch, error)):
            try:
                yield offset, self._codec.decode(kind, value)
            except (WireError, UnknownSchemaError) as error:
                self._skip((batch.topic, offset), str(error))

    def evaluations(self, found: Iterable[Evaluation]) -> Iterator[Publish]:
        """As records, one at a time; nothing that stops waits for them, nor for who says how they are written."""
        for one in found:
            try:
                value = self._codec.encode(one, topics.EVALUATIONS)
            except RegistryError as error:
                if not self.evaluations_given_up:
                    log.warning("evaluations are given up until they can be written, and counted: %s", error)
                self.evaluations_given_up += 1
            else:
                yield Publish(topics.EVALUATIONS, one.scope.encode(), value)

    def _publish(self, hit: Hit) -> Publish:
        return Publish(topics.HITS, hit.scope.encode(), self._codec.encode(hit, topics.HITS))
