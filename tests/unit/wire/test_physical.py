"""A body is read as it was written, whatever logical types its schema names."""

from __future__ import annotations

import copy
import io
from typing import Any

import fastavro
import pytest

from emergency_stop.wire.physical import physical


def record(**types: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": [{"name": name, "type": kind} for name, kind in types.items()]}


ANNOTATED: list[tuple[Any, Any]] = [
    ({"type": "string", "logicalType": "uuid"}, "evt-17"),
    (["null", {"type": "string", "logicalType": "uuid"}], "evt-17"),
    ({"type": "int", "logicalType": "date"}, 2**31 - 1),
    ({"type": "long", "logicalType": "timestamp-millis"}, 2**62),
    ({"type": "array", "items": {"type": "long", "logicalType": "timestamp-micros"}}, [2**62]),
    ({"type": "map", "values": {"type": "string", "logicalType": "uuid"}}, {"a": "b"}),
    (record(inner={"type": "string", "logicalType": "uuid"}) | {"name": "Inner"}, {"inner": "evt-17"}),
]


@pytest.mark.parametrize(("kind", "value"), ANNOTATED, ids=[str(kind)[:60] for kind, _ in ANNOTATED])
def test_what_a_logical_type_would_refuse_is_read(kind: Any, value: Any) -> None:
    schema = record(it=kind)
    before = copy.deepcopy(schema)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(physical(schema), named_schemas={}), {"it": value})
    read = fastavro.parse_schema(physical(schema), named_schemas={})
    assert fastavro.schemaless_reader(io.BytesIO(out.getvalue()), read, None) == {"it": value}
    assert schema == before, "the registry's own schema stays as it is"


def test_what_only_looks_like_a_schema_is_data() -> None:
    schema = record(it="string")
    schema["fields"][0]["default"] = {"logicalType": "uuid"}
    assert physical(schema)["fields"][0]["default"] == {"logicalType": "uuid"}
