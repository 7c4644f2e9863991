"""Fetched batches → rows for ClickHouse and dead letters. Pure: what becomes of every record is decided here."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any, Final

import fastavro
import numpy as np

from emergency_stop.apps.sink.dead_letter import DeadLetter, dead_letter_row
from emergency_stop.columnar.batches import CorruptBatchError, Scratch
from emergency_stop.columnar.container import row_from_body, rows_from_columns
from emergency_stop.columnar.decoder import ColumnDecoder
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.columnar.records import Headers, Record, Unreadable, batch_by_batch, records_of, unreadable
from emergency_stop.domain import topics
from emergency_stop.domain.reasons import Reject
from emergency_stop.wire.audit_chain import RawRecord
from emergency_stop.wire.codec import WireError, split_frame
from emergency_stop.wire.registry import Registry, UnknownSchemaError
from emergency_stop.wire.registry_http import RegistryError

#: Topics whose tombstones are part of their meaning: the key is gone.
_TOMBSTONES: Final = frozenset({topics.TRIGGERS, topics.SERVICES})
_TELEMETRY: Final = frozenset(spec.name for spec in topics.TELEMETRY)


@dataclass(slots=True)
class Intake:
    """What one fetched batch became. ``rows`` are container rows by writer's schema id; ``chained`` is every record of
    the audit, readable or not, for its chain. ``size`` is about what all of it takes in memory, bytes.
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

    def add_raw(self, row: tuple[Any, ...]) -> None:
        """A row whose last two columns are key and value."""
        self.raw_rows.append(row)
        self.size += len(row[-2] or b"") + len(row[-1] or b"")

    def chain(self, record: Record) -> None:
        self.chained.append(RawRecord(record.offset, record.timestamp, record.key, record.value))
        self.size += len(record.key or b"") + len(record.value or b"")

    def refuse(self, letter: DeadLetter) -> None:
        self.dead.append(letter)
        self.size += letter.size


class Intaker:
    """Decides about every record of every topic; may ask the registry. ``take`` is for one thread."""

    def __init__(self, registry: Registry, records: dict[str, str | None]) -> None:
        """``records`` is the Avro record by topic; ``None`` for the dead-letter topic."""
        self._registry = registry
        self._records = records
        self._decoders: dict[str, ColumnDecoder] = {}
        self._readers: dict[tuple[int | str, str], Any] = {}
        self._scratch = Scratch()

    def take(self, batch: FetchedBatch, start: int, stop: int) -> Intake:
        """Everything of ``batch`` from offset ``start`` to ``stop`` (excluded).

        Raises ``RegistryError`` where the registry does not answer; then the same may be asked again.
        """
        intake = Intake(batch.topic, batch.partition, start, stop)
        trimmed = FetchedBatch(batch.topic, batch.partition, start, stop, batch.batches)
        if not batch.batches:
            return intake
        if batch.topic not in _TELEMETRY:
            self._one_by_one(trimmed, intake)
            return intake
        try:
            self._columns(trimmed, intake)
        except CorruptBatchError:
            for one in batch_by_batch(trimmed):
                self._columns_unless_corrupt(one, intake)
        return intake

    def _columns_unless_corrupt(self, batch: FetchedBatch, intake: Intake) -> None:
        try:
            self._columns(batch, intake)
        except CorruptBatchError as error:
            for lost in unreadable(batch, error):
                intake.refuse(_letter_of_batch(batch, lost))

    def _columns(self, batch: FetchedBatch, intake: Intake) -> None:
        """Raises ``CorruptBatchError`` before anything is taken in."""
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
        headers = self._headers(batch) if rejected else {}
        for refused in rejected:
            letter = DeadLetter(
                batch.topic, batch.partition, refused.offset, refused.key, refused.value,
                headers.get(refused.offset, ()), refused.reason, _detail(refused.schema_id), refused.record_timestamp,
            )  # fmt: skip
            intake.refuse(letter)

    def _headers(self, batch: FetchedBatch) -> dict[int, Headers]:
        return {one.offset: one.headers for one in records_of(batch, self._scratch) if isinstance(one, Record)}

    def _one_by_one(self, batch: FetchedBatch, intake: Intake) -> None:
        """Control topics: few records, nested types; fastavro checks them. And letters, whose values are anything."""
        name = self._records.get(batch.topic)
        for record in records_of(batch, self._scratch):
            if isinstance(record, Unreadable):
                intake.refuse(_letter_of_batch(batch, record))
                continue
            if batch.topic == topics.AUDIT:
                intake.chain(record)
            if name is None and record.is_framed:
                intake.add_raw(dead_letter_row(batch, record))
            elif record.value is not None or batch.topic not in _TOMBSTONES:
                self._check(name or "", batch, record, intake)

    def _check(self, name: str, batch: FetchedBatch, record: Record, intake: Intake) -> None:
        reason, detail, schema, body = self._checked(name, record)
        if reason is None:
            row = row_from_body((batch.topic, batch.partition), record.offset, record.timestamp, body)
            intake.add(schema, row, 1)
            return
        letter = DeadLetter(
            batch.topic, batch.partition, record.offset, record.key, record.value, record.headers,
            reason, detail, record.timestamp,
        )  # fmt: skip
        intake.refuse(letter)

    def _checked(self, name: str, record: Record) -> tuple[Reject | None, str, int | str, bytes]:
        """(why not, detail, schema id, body) of one framed value."""
        value = record.value
        if not record.is_framed:
            return Reject.MALFORMED_RECORD, "", 0, b""
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
        except RegistryError:  # says nothing of the record
            raise
        except WireError as error:
            return Reject.BAD_MAGIC if len(value) >= 5 else Reject.SHORT_VALUE, str(error), 0, b""  # noqa: PLR2004
        except Exception as error:  # noqa: BLE001  fastavro raises many types for bad bytes; all mean the same here
            return Reject.UNDECODABLE, f"{type(error).__name__}: {error}", 0, b""
        return None, "", schema, bytes(body)


def _letter_of_batch(batch: FetchedBatch, lost: Unreadable) -> DeadLetter:
    """A batch is whole in each of the ranges that cut it."""
    return DeadLetter(
        batch.topic, batch.partition, lost.offset, None, lost.raw, (), Reject.MALFORMED_RECORD, lost.problem
    )


def _detail(schema_id: int | None) -> str:
    return "" if schema_id is None else f"schema id {schema_id}"
