"""Fetched batches → columns, by the writer's schema of each record. The one rule of what is accepted."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from emergency_stop.columnar.batches import Records, Scratch, unpack
from emergency_stop.columnar.columns import F64, I64, U64, Columns, Rejected
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.columnar.program import (
    AS_HASH,
    AS_NUMBER,
    Program,
    SchemaMismatchError,
    compile_program,
    wanted_roles,
)
from emergency_stop.columnar.project_kernels import project
from emergency_stop.columnar.record_kernels import open_frames
from emergency_stop.columnar.text_kernels import hash_bytes
from emergency_stop.domain.reasons import Reject
from emergency_stop.wire.registry import Registry, UnknownSchemaError
from emergency_stop.wire.schemas import load_record_schema

FRAME_BYTES: Final = 5
GUID_BYTES: Final = 16
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

    def __init__(self, registry: Registry, record: str, scratch: Scratch | None = None) -> None:
        """Decoders that take turns on one thread can share a ``scratch``, so that it stays in the CPU's cache."""
        self._registry = registry
        self._record = record
        self._reader = load_record_schema(record)
        self._scratch = scratch or Scratch()
        self._guids: list[str] = []
        self._programs: dict[tuple[int | str, tuple[str, ...]], Program | Reject] = {}

    def decode(self, batch: FetchedBatch, fields: tuple[str, ...]) -> Columns:
        """All accepted records as columns with ``fields``, and the refused ones with their reasons.

        ``Columns.buffer`` is the decoder's own memory, valid until it decodes the next batch.

        Raises ``CorruptBatchError`` where the batch itself cannot be unpacked, ``SchemaMismatchError``
        where ``fields`` names something that cannot be a column.
        """
        records = unpack(batch, self._scratch)
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
            schema_ids[rows] = self._schema_number(schema)
            _fill_defaults(program, rows, numbers, hashes)
            code = (program.ops, program.children, program.fields, program.enum_map)
            project(records.buffer, records.longs, records.ints, rows, code, occurred_at, numbers, hashes)
        return _columns(batch, records, roles, occurred_at, numbers, hashes, schema_ids)

    def schema_of(self, number: int) -> int | str:
        """The schema id, or GUID, that a number of ``Columns.schema_id`` stands for."""
        return number if number >= 0 else self._guids[-number - 1]

    def _schema_number(self, schema: int | str) -> int:
        """GUIDs do not fit into a column; they are numbered from -1 down."""
        if isinstance(schema, int):
            return schema
        if schema not in self._guids:
            self._guids.append(schema)
        return -1 - self._guids.index(schema)

    def _grouped(self, records: Records) -> list[tuple[I64, int | str]]:
        """Accepted rows by writer's schema; nearly always one group. Moves value starts past the framing."""
        schemas = np.empty(records.n, np.int64)
        shared = int(open_frames(records.buffer, records.longs, records.ints, schemas))
        rows = np.flatnonzero(records.ints[2] == 0)
        if shared >= 0 or len(rows) == 0:
            return [(rows, shared)] if len(rows) else []
        groups: dict[int | str, list[int]] = {}
        for row in rows.tolist():
            schema = int(schemas[row])
            groups.setdefault(schema if schema >= 0 else _guid(records, row), []).append(row)
        return [(np.array(group, np.int64), schema) for schema, group in groups.items()]

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


def _guid(records: Records, row: int) -> str:
    """The writer's schema's GUID, which ends where the value's body starts."""
    end = int(records.longs[3, row])
    return records.buffer[end - GUID_BYTES : end].tobytes().hex()


def _fill_defaults(program: Program, rows: Any, numbers: F64, hashes: U64) -> None:
    """Columns that the writer's schema lacks get the reader's default; the kernel writes the others."""
    for column, value in program.number_defaults:
        numbers[column, rows] = value
    for column, text in program.hash_defaults:
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
    key_length, value_length, status, frame = (int(part) for part in records.ints[:, row])
    offset, timestamp, key_start, value_start, _ = (int(part) for part in records.longs[:, row])
    key = None if key_length < 0 else records.buffer[key_start : key_start + key_length].tobytes()
    value, schema_id = None, None
    if value_length >= 0:
        value = records.buffer[value_start - frame : value_start + value_length].tobytes()
        schema_id = int.from_bytes(value[1:FRAME_BYTES], "big") if frame == FRAME_BYTES else None
    return Rejected(offset, timestamp, key, value, Reject(status), schema_id)
