"""What analysts must see of a record of the audit: the columns of its row, read anew from the bytes on the topic."""

from __future__ import annotations

import io
import json
from functools import cache
from typing import Any, Final

import fastavro

from emergency_stop.wire.audit_chain import RawRecord
from emergency_stop.wire.codec import WireError, split_frame
from emergency_stop.wire.registry import LocalRegistry, UnknownSchemaError
from emergency_stop.wire.schemas import load_record_schema, schemas_root

RECORD: Final = "AuditRecord"
#: The record's own moment, in the column beside the record's fields.
TIMESTAMP: Final = "_timestamp"


def row_columns() -> tuple[str, ...]:
    """The fields of a record, each a column."""
    return tuple(field["name"] for field in load_record_schema(RECORD)["fields"])


def expected_row(raw: RawRecord, *, committed_ids: bool) -> dict[str, Any] | None:
    """The columns of the row; ``None`` for a value that is no record of the audit and was dead-lettered.

    ``committed_ids``: schema ids are those of ``ids.json``; otherwise a registry gave them, and any version that was
    ever committed may be meant.
    """
    try:
        schema_id, body = split_frame(raw.value)
    except WireError:
        return None
    for writer in _writers(schema_id if committed_ids else None):
        stream = io.BytesIO(body)
        try:
            plain = fastavro.schemaless_reader(stream, writer, _reader())
        except Exception:  # noqa: BLE001, S112  # fastavro raises many types for bad bytes; all mean the same here
            continue
        if stream.tell() == len(body) and isinstance(plain, dict):
            return plain | {TIMESTAMP: raw.timestamp}
    return None


@cache
def _reader() -> Any:
    return fastavro.parse_schema(load_record_schema(RECORD), named_schemas={})


@cache
def _writers(schema_id: int | str | None) -> tuple[Any, ...]:
    """What may have written it: the schema that is committed under the id, or, without one, every version that was
    ever committed, newest first. No schema from elsewhere can make bytes mean something else.
    """
    if schema_id is None:
        kept = sorted((schemas_root() / "avro" / "history" / RECORD).glob("v*.avsc"), reverse=True)
        known = [json.loads(path.read_text()) for path in kept]
    else:
        try:
            known = [LocalRegistry().writer_schema(schema_id)]
        except UnknownSchemaError:
            return ()
    parsed = (schema for schema in known if schema["name"] == RECORD)
    return tuple(fastavro.parse_schema(schema, named_schemas={}) for schema in parsed)
