"""Fetched batches → columns, by the writer's schema of each record. The one rule of what is accepted."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from emergency_stop.columnar.batches import Records, unpack
from emergency_stop.columnar.columns import F64, U64, Columns, Rejected
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.columnar.kernels import count_rows_of_schema, hash_bytes, project
from emergency_stop.columnar.program import (
    AS_HASH,
    AS_NUMBER,
    Program,
    SchemaMismatchError,
    compile_program,
    wanted_roles,
)
from emergency_stop.domain.reasons import Reject
from emergency_stop.wire.registry import Registry, UnknownSchemaError
from emergency_stop.wire.schemas import load_record_schema

FRAME_BYTES: Final = 5
GUID_FRAME_BYTES: Final = 17
_NO_HASH: Final = np.uint64(0)


def key_hash(key: bytes) -> int:
    """What ``Columns.key_hash`` holds for ``key``."""
    return int(hash_bytes(np.frombuffer(key, np.uint8), 0, len(key)))


def string_hash(text: str) -> int:
    """What a hash column holds for ``text``."""
    return key_hash(text.encode())


class ColumnDecoder:
    """Decodes one telemetry record type. Not thread-safe; keep one per thread that decodes.

    Asks the registry (which may block) once per new schema id.
    """

    def __init__(self, registry: Registry, record: str) -> None:
        self._registry = registry
        self._record = record
        self._reader = load_record_schema(record)
        self._programs: dict[tuple[int | str, tuple[str, ...]], Program | Reject] = {}

    def decode(self, batch: FetchedBatch, fields: tuple[str, ...]) -> Columns:
        """All accepted records as columns with ``fields``, and the refused ones with their reasons.

        Raises ``CorruptBatchError`` where the batch itself cannot be unpacked, ``SchemaMismatchError``
        where ``fields`` names something that cannot be a column.
        """
        records = unpack(batch)
        roles = wanted_roles(self._reader, fields)
        numbers = np.empty((sum(role == AS_NUMBER for role in roles.values()), records.n), np.float64)
        hashes = np.empty((1 + sum(role == AS_HASH for role in roles.values()), records.n), np.uint64)
        occurred_at = np.empty(records.n, np.int64)
        schema_ids = np.zeros(records.n, np.int32)
        for rows, schema in self._grouped(records):
            program = self._program(schema, fields)
            if isinstance(program, Reject):
                records.ints[2, rows] = program
                continue
            schema_ids[rows] = schema if isinstance(schema, int) else 0
            _fill_defaults(program, rows, numbers, hashes)
            code = (program.ops, program.children, program.fields, program.enum_map)
            project(records.buffer, records.longs, records.ints, rows, code, occurred_at, numbers, hashes)
        return _columns(batch, records, roles, occurred_at, numbers, hashes, schema_ids)

    def _grouped(self, records: Records) -> list[tuple[Any, int | str]]:
        """Rows by writer's schema; nearly always one group. Moves value starts past the framing."""
        if records.n == 0:
            return []
        _mark_unframed(records)
        first = _schema_of(records, int(np.argmax(records.ints[2] == 0)))
        if isinstance(first, int):
            same = int(count_rows_of_schema(records.buffer, records.longs[3], records.ints, first))
            if same == records.n:
                return [(_stripped(records, np.flatnonzero(records.ints[2] == 0), FRAME_BYTES), first)]
        groups: dict[int | str, list[int]] = {}
        for row in np.flatnonzero(records.ints[2] == 0).tolist():
            groups.setdefault(_schema_of(records, row), []).append(row)
        return [(_stripped(records, np.array(rows, np.int64), _frame_bytes(key)), key) for key, rows in groups.items()]

    def _program(self, schema: int | str, fields: tuple[str, ...]) -> Program | Reject:
        known = self._programs.get((schema, fields))
        if known is None:
            known = self._compile(schema, fields)
            if known is not Reject.UNKNOWN_SCHEMA:  # it may be registered later; the registry bounds how often it asks
                self._programs[schema, fields] = known
        return known

    def _compile(self, schema: int | str, fields: tuple[str, ...]) -> Program | Reject:
        try:
            writer = self._registry.writer_schema(schema)
            return compile_program(writer, self._reader, fields)
        except UnknownSchemaError:
            return Reject.UNKNOWN_SCHEMA
        except SchemaMismatchError:
            return Reject.WRONG_RECORD


def _mark_unframed(records: Records) -> None:
    """Status for null and unframed values; what is left has a whole frame."""
    ints, buffer = records.ints, records.buffer
    status = ints[2]
    pending = status == 0
    status[pending & (ints[0] < 0)] = Reject.NULL_KEY
    status[pending & (ints[1] < 0)] = Reject.NULL_VALUE
    status[(status == 0) & (ints[1] < FRAME_BYTES)] = Reject.SHORT_VALUE
    rows = np.flatnonzero(status == 0)
    magic = buffer[records.longs[3, rows]]
    status[rows[magic > 1]] = Reject.BAD_MAGIC
    status[rows[(magic == 1) & (ints[1, rows] < GUID_FRAME_BYTES)]] = Reject.SHORT_VALUE


def _schema_of(records: Records, row: int) -> int | str:
    """The id (magic 0) or GUID (magic 1) that a framed value names; -1 where nothing is framed."""
    if records.ints[2, row] != 0:
        return -1
    at = int(records.longs[3, row])
    if records.buffer[at] == 0:
        return int.from_bytes(records.buffer[at + 1 : at + FRAME_BYTES].tobytes(), "big")
    return records.buffer[at + 1 : at + GUID_FRAME_BYTES].tobytes().hex()


def _frame_bytes(schema: int | str) -> int:
    return GUID_FRAME_BYTES if isinstance(schema, str) else FRAME_BYTES


def _stripped(records: Records, rows: Any, frame_bytes: int) -> Any:
    records.longs[3, rows] += frame_bytes
    records.ints[1, rows] -= frame_bytes
    return rows


def _fill_defaults(program: Program, rows: Any, numbers: F64, hashes: U64) -> None:
    """Columns that the writer's schema lacks get the reader's default; the kernel writes the others."""
    for column, value in enumerate(program.number_defaults):
        numbers[column, rows] = value
    for column, text in enumerate(program.hash_defaults):
        hashes[1 + column, rows] = np.uint64(string_hash(text)) if text else _NO_HASH


def _columns(
    batch: FetchedBatch, records: Records, roles: dict[str, int], occurred_at: Any, numbers: F64, hashes: U64, ids: Any
) -> Columns:
    status = records.ints[2]
    refused = np.flatnonzero(status)
    keep: Any = slice(None) if len(refused) == 0 else np.flatnonzero(status == 0)
    longs, ints = records.longs, records.ints
    fields: dict[str, F64 | U64] = {}
    seen = {AS_NUMBER: 0, AS_HASH: 0}
    for name, role in roles.items():
        source = numbers[seen[role]] if role == AS_NUMBER else hashes[1 + seen[role]]
        fields[name] = source[keep]
        seen[role] += 1
    return Columns(
        topic=batch.topic,
        partition=batch.partition,
        fetch_offset=batch.fetch_offset,
        next_offset=batch.next_offset,
        n=records.n - len(refused),
        offset=longs[0][keep],
        occurred_at=occurred_at[keep],
        record_timestamp=longs[1][keep],
        key_hash=hashes[0][keep],
        key_start=longs[2][keep],
        key_len=ints[0][keep],
        value_start=longs[3][keep],
        value_len=ints[1][keep],
        schema_id=ids[keep],
        buffer=records.buffer,
        fields=fields,
        rejected=tuple(_rejected(records, int(row)) for row in refused),
    )


def _rejected(records: Records, row: int) -> Rejected:
    """Key and value as received: the frame that was stepped over belongs to the value."""
    key_length, value_length, status = (int(part) for part in records.ints[:, row])
    offset, timestamp, key_start, value_start, _ = (int(part) for part in records.longs[:, row])
    key = None if key_length < 0 else records.buffer[key_start : key_start + key_length].tobytes()
    value, schema_id = None, None
    if value_length >= 0:
        value = records.buffer[value_start : value_start + value_length].tobytes()
        value, schema_id = _with_frame(records, value, value_start, key_start + max(key_length, 0))
    return Rejected(offset, timestamp, key, value, Reject(status), schema_id)


def _with_frame(records: Records, value: bytes, value_start: int, key_end: int) -> tuple[bytes, int | None]:
    """A value's length varint lies between key and value; what is between that and ``value_start`` is the frame."""
    at = key_end
    while records.buffer[at] & 0x80 and at < value_start:
        at += 1
    frame = records.buffer[at + 1 : value_start].tobytes()
    whole = frame + value
    framed = len(whole) >= FRAME_BYTES and whole[0] == 0
    return whole, int.from_bytes(whole[1:FRAME_BYTES], "big") if framed else None
