"""Fetched batches → rows for ClickHouse and dead letters. Pure: what becomes of every record is decided here."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import fastavro
import numpy as np
from aiokafka.record.default_records import DefaultRecordBatch

from emergency_stop.apps.sink.letter_headers import HEADER, SOURCE_TIMESTAMP
from emergency_stop.columnar.batches import CorruptBatchError
from emergency_stop.columnar.block import Block, BlockForm, block_form, native_block
from emergency_stop.columnar.container import container, container_schema, row_from_body, rows_from_columns
from emergency_stop.columnar.decoder import ColumnDecoder
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.domain import topics
from emergency_stop.domain.reasons import Reject
from emergency_stop.wire.audit_chain import RawRecord
from emergency_stop.wire.codec import WireError, split_frame
from emergency_stop.wire.registry import Registry, UnknownSchemaError
from emergency_stop.wire.schemas import load_record_schema

TABLES: Final = {
    "HealthEvent": "health_events",
    "DetectionEvent": "detection_events",
    "BehavioralEvent": "behavioral_events",
    "ProxyEvent": "proxy_events",
    "PlatformEvent": "platform_events",
    "SystemEvent": "system_events",
    "Hit": "hits",
    "Evaluation": "evaluations",
    "Request": "requests",
    "Command": "commands",
    "Ack": "acks",
    "Hold": "holds",
    "Emergency": "emergencies",
    "ServiceInstance": "service_instances",
    "Freshness": "freshness",
    "AuditRecord": "audit",
    "Trigger": "triggers",
    "Activity": "activity",
    "ConditionQuestion": "condition_questions",
    "ConditionAnswer": "condition_answers",
    "Recovery": "recoveries",
    "Lifecycle": "lifecycle",
    "Notice": "notices",
    "Silence": "silences",
    "Tick": "ticks",
    "Partial": "partials",
}
DEAD_LETTERS: Final = "dead_letters"
DEAD_LETTER_COLUMNS: Final = (
    "_topic", "_partition", "_offset", "_timestamp", "source_topic", "source_partition", "source_offset",
    "reason", "message", "key", "value",
)  # fmt: skip
#: Topics whose tombstones are part of their meaning: the key is gone.
_TOMBSTONES: Final = frozenset({topics.TRIGGERS, topics.SERVICES})
_TELEMETRY: Final = frozenset(spec.name for spec in topics.TELEMETRY)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was refused, as received."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    reason: Reject
    detail: str = ""
    #: Of the record; ``None`` where there is no one record.
    timestamp_ms: int | None = None

    def error_headers(self) -> tuple[tuple[str, bytes], ...]:
        """The record's own headers, and Kafka Connect's that say where it came from and why it is here."""
        message = self.reason.explanation + (f" ({self.detail})" if self.detail else "")
        errors = {
            "topic": self.topic,
            "partition": str(self.partition),
            "offset": str(self.offset),
            "connector.name": "estop-sink",
            "task.id": "0",
            "stage": "VALUE_CONVERTER",
            "class.name": "emergency_stop.apps.sink.intake",
            "exception.class.name": self.reason.label,
            "exception.message": message,
        }
        headers = [(HEADER + name, text.encode()) for name, text in errors.items()]
        if self.timestamp_ms is not None:
            headers.append((SOURCE_TIMESTAMP, str(self.timestamp_ms).encode()))
        return (*self.headers, *headers)


@dataclass(slots=True)
class Intake:
    """What one fetched batch became. ``rows`` are container rows by writer's schema id; ``chained`` is every record of
    the audit, readable or not, for its chain.
    """

    topic: str
    partition: int
    fetch_offset: int
    next_offset: int
    rows: dict[int | str, list[bytes]] = field(default_factory=dict)
    counts: dict[int | str, int] = field(default_factory=dict)
    raw_rows: list[tuple[Any, ...]] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    chained: list[RawRecord] = field(default_factory=list)
    size: int = 0

    def add(self, schema: int | str, row: bytes, count: int) -> None:
        self.rows.setdefault(schema, []).append(row)
        self.counts[schema] = self.counts.get(schema, 0) + count
        self.size += len(row)

    def chain(self, record: Any) -> None:
        self.chained.append(RawRecord(record.offset, record.timestamp, record.key, record.value))
        self.size += len(record.key or b"") + len(record.value or b"")


class Intaker:
    """Decides about every record of every topic; may ask the registry.

    ``take`` is for one thread. Another one may make blocks meanwhile: those are of schemas that ``take`` has asked for.
    """

    def __init__(self, registry: Registry, records: dict[str, str | None]) -> None:
        """``records`` is the Avro record by topic; ``None`` for the dead-letter topic."""
        self._registry = registry
        self._records = records
        self._decoders: dict[str, ColumnDecoder] = {}
        self._readers: dict[tuple[int | str, str], Any] = {}
        self._fits: dict[tuple[str, int | str], bool] = {}
        self._forms: dict[int | str, tuple[dict[str, Any], BlockForm | None]] = {}

    def take(self, batch: FetchedBatch, start: int, stop: int) -> Intake:
        """Everything of ``batch`` from offset ``start`` to ``stop`` (excluded)."""
        intake = Intake(batch.topic, batch.partition, start, stop)
        if not batch.batches:
            return intake
        trimmed = FetchedBatch(batch.topic, batch.partition, start, stop, batch.batches)
        try:
            if batch.topic in _TELEMETRY:
                self._columns(trimmed, intake)
            elif self._records.get(batch.topic) is None:
                intake.raw_rows += [_dead_letter_row(batch, record) for record in _records(trimmed)]
                intake.size += sum(len(row[-1] or "") for row in intake.raw_rows)
            else:
                self._one_by_one(trimmed, intake)
        except CorruptBatchError as error:
            raw = b"".join(batch.batches)
            lost = DeadLetter(batch.topic, batch.partition, start, None, raw, (), Reject.MALFORMED_RECORD, str(error))
            intake.dead.append(lost)
        return intake

    def _columns(self, batch: FetchedBatch, intake: Intake) -> None:
        record = self._records[batch.topic] or ""
        decoder = self._decoders.get(record)
        if decoder is None:
            decoder = self._decoders[record] = ColumnDecoder(self._registry, record)
        columns = decoder.decode(batch, ())
        origin = (batch.topic, batch.partition)
        within = columns.offset < batch.next_offset
        for schema in np.unique(columns.schema_id[within]).tolist():
            keep = within & (columns.schema_id == schema)
            rows = rows_from_columns(
                origin,
                columns.buffer,
                np.ascontiguousarray(columns.offset[keep]),
                np.ascontiguousarray(columns.record_timestamp[keep]),
                np.ascontiguousarray(columns.value_start[keep]),
                np.ascontiguousarray(columns.value_len[keep]),
            )
            intake.add(decoder.schema_of(int(schema)), rows, int(np.count_nonzero(keep)))
        rejected = [refused for refused in columns.rejected if refused.offset < batch.next_offset]
        if rejected:
            headers = {record.offset: tuple(record.headers) for record in _records(batch)}
            intake.dead += [
                DeadLetter(
                    batch.topic, batch.partition, refused.offset, refused.key, refused.value,
                    headers.get(refused.offset, ()), refused.reason, _detail(refused.schema_id),
                    refused.record_timestamp,
                )
                for refused in rejected
            ]  # fmt: skip

    def _one_by_one(self, batch: FetchedBatch, intake: Intake) -> None:
        """Control topics: few records, nested types; fastavro checks them."""
        name = self._records[batch.topic] or ""
        for record in _records(batch):
            if batch.topic == topics.AUDIT:
                intake.chain(record)
            if record.value is None and batch.topic in _TOMBSTONES:
                continue
            reason, detail, schema, body = self._checked(name, record.value)
            if reason is None:
                row = row_from_body((batch.topic, batch.partition), record.offset, record.timestamp, body)
                intake.add(schema, row, 1)
            else:
                dead = DeadLetter(
                    batch.topic, batch.partition, record.offset, record.key, record.value, tuple(record.headers),
                    reason, detail, record.timestamp,
                )  # fmt: skip
                intake.dead.append(dead)

    def _checked(self, name: str, value: bytes | None) -> tuple[Reject | None, str, int | str, bytes]:
        """(why not, detail, schema id, body) of one framed value."""
        if value is None:
            return Reject.NULL_VALUE, "", 0, b""
        try:
            schema, body = split_frame(value)
            if (schema, name) not in self._readers:
                writer = self._registry.writer_schema(schema)
                if str(writer.get("name")).rpartition(".")[2] != name:
                    return Reject.WRONG_RECORD, f"schema id {schema}", 0, b""
                self._readers[schema, name] = fastavro.parse_schema(writer, named_schemas={})
            stream = io.BytesIO(body)
            fastavro.schemaless_reader(stream, self._readers[schema, name], None)
            if stream.tell() != len(body):
                return Reject.TRAILING_BYTES, "", 0, b""
        except UnknownSchemaError as error:
            return Reject.UNKNOWN_SCHEMA, str(error), 0, b""
        except WireError as error:
            return Reject.BAD_MAGIC if len(value) >= 5 else Reject.SHORT_VALUE, str(error), 0, b""  # noqa: PLR2004
        except Exception as error:  # noqa: BLE001  fastavro raises many types for bad bytes; all mean the same here
            return Reject.UNDECODABLE, f"{type(error).__name__}: {error}", 0, b""
        return None, "", schema, bytes(body)

    def container_schema(self, schema: int | str) -> dict[str, Any]:
        return container_schema(self._registry.writer_schema(schema))

    def fits(self, name: str, schema: int | str) -> bool:
        """Whether ClickHouse takes rows of this writer's schema as they are: it fills in fields that a former schema
        lacks, but not within a nested record.
        """
        if (name, schema) not in self._fits:
            written, committed = self.container_schema(schema), container_schema(load_record_schema(name))
            former = {field["name"]: field["type"] for field in written["fields"]}
            self._fits[name, schema] = all(
                nested_names(former[field["name"]]) == nested_names(field["type"])
                for field in committed["fields"]
                if field["name"] in former
            )
        return self._fits[name, schema]

    def block(self, schema: int | str, count: int, rows: list[bytes]) -> Block:
        """``count`` rows of one writer's schema as a block."""
        if schema not in self._forms:
            written = self.container_schema(schema)
            self._forms[schema] = written, block_form(written)
        return _block(*self._forms[schema], count, rows)

    def uniform(self, name: str, count: int, rows: list[tuple[int | str, bytes]]) -> Block:
        """Rows of several writer's schemas, written anew by the committed one, so that one block takes them."""
        committed = container_schema(load_record_schema(name))
        target = fastavro.parse_schema(committed, named_schemas={})
        written = [_rewritten(self.container_schema(schema), target, data) for schema, data in rows]
        return _block(committed, block_form(committed), count, written)


def _block(schema: dict[str, Any], form: BlockForm | None, count: int, rows: list[bytes]) -> Block:
    return native_block(form, count, rows) if form else Block("Avro", container(schema, count, rows))


def nested_names(kind: Any) -> list[Any]:
    """The names of the fields of all records within an Avro type, in order."""
    if isinstance(kind, list):
        return [name for branch in kind for name in nested_names(branch)]
    if not isinstance(kind, dict):
        return []
    if kind["type"] == "record":
        return [(field["name"], nested_names(field["type"])) for field in kind["fields"]]
    return nested_names(kind.get("items", kind.get("values", kind["type"])))


def _rewritten(source: dict[str, Any], target: Any, data: bytes) -> bytes:
    parsed = fastavro.parse_schema(source, named_schemas={})
    stream, out = io.BytesIO(data), io.BytesIO()
    while stream.tell() < len(data):
        fastavro.schemaless_writer(out, target, fastavro.schemaless_reader(stream, parsed, target))
    return out.getvalue()


def _detail(schema_id: int | None) -> str:
    return "" if schema_id is None else f"schema id {schema_id}"


def _records(batch: FetchedBatch) -> Iterator[Any]:
    """Records as aiokafka decodes them: offset, timestamp, key, value, headers."""
    for raw in batch.batches:
        for record in DefaultRecordBatch(raw):
            if batch.fetch_offset <= record.offset < batch.next_offset:
                yield record


def _dead_letter_row(batch: FetchedBatch, record: Any) -> tuple[Any, ...]:
    headers = {name: value for name, value in record.headers if name.startswith(HEADER)}

    def text(name: str) -> str:
        return (headers.get(HEADER + name) or b"").decode(errors="replace")

    moment = datetime.fromtimestamp(record.timestamp / 1000, UTC)
    return (
        batch.topic, batch.partition, record.offset, moment, text("topic"), _whole(text("partition")),
        _whole(text("offset")), text("exception.class.name"), text("exception.message"), record.key, record.value,
    )  # fmt: skip


def _whole(text: str) -> int:
    return int(text) if text.lstrip("-").isdigit() else -1
