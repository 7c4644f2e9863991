"""Taking a body apart: fastavro's values where the body is whole, and the byte of the fault where it is not."""

from __future__ import annotations

import io
import random
from typing import Any

import fastavro
import fastavro.utils
import pytest

from emergency_stop.wire.dissect import Fault, dissect
from emergency_stop.wire.schemas import committed_ids, load_record_schema

NESTED = {
    "type": "record",
    "name": "Outer",
    "namespace": "n",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "ok", "type": "boolean"},
        {"name": "small", "type": "int"},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["a", "b"]}},
        {"name": "again", "type": ["null", "Kind"]},
        {
            "name": "items",
            "type": {
                "type": "array",
                "items": {"type": "record", "name": "Item", "fields": [{"name": "x", "type": "double"}]},
            },
        },
        {"name": "tags", "type": {"type": "map", "values": "n.Item"}},
        {"name": "mark", "type": {"type": "fixed", "name": "Mark", "size": 2}},
    ],
}
VALUE = {
    "id": "é1", "ok": True, "small": -3, "kind": "b", "again": "a", "items": [{"x": 1.5}, {"x": 2.5}],
    "tags": {"t": {"x": 3.5}}, "mark": b"zz",
}  # fmt: skip


def written(schema: dict[str, Any], value: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema, named_schemas={}), value)
    return out.getvalue()


def flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        pairs = [(f"{path}.{name}" if path else name, inner) for name, inner in value.items()]
    elif isinstance(value, list):
        pairs = [(f"{path}[{number}]", inner) for number, inner in enumerate(value)]
    else:
        return {path: value}
    return {name: one for inner_path, inner in pairs for name, one in flat(inner, inner_path).items()}


def dotted(path: str) -> str:
    """Fastavro's values do not tell a map from a record."""
    return path.replace("[", ".").replace("]", "")


def test_every_part_has_its_path_its_value_and_its_bytes() -> None:
    body = written(NESTED, VALUE)
    found = dissect(body, NESTED)
    assert found.fault is None
    values = {part.path: part.value for part in found.parts if part.path != "tags (a key)"}
    assert values == {**flat({**VALUE, "tags": {}}), "tags[t].x": 3.5}
    mark = found.part("mark")
    assert mark is not None
    assert body[mark.start : mark.end] == b"zz"


@pytest.mark.parametrize("record", sorted(committed_ids()))
def test_it_reads_what_fastavro_reads_of_every_committed_record(record: str) -> None:
    schema = load_record_schema(record)
    for value in fastavro.utils.generate_many(schema, 5):
        body = written(schema, value)
        read = fastavro.schemaless_reader(io.BytesIO(body), fastavro.parse_schema(schema, named_schemas={}), None)
        found = dissect(body, schema)
        assert found.fault is None, (record, value)
        assert {dotted(part.path): part.value for part in found.parts} == {
            dotted(path): one for path, one in flat(read).items()
        }


def test_no_broken_body_raises_or_is_taken_for_a_whole_one_that_fastavro_would_not_write() -> None:
    seed = random.randrange(2**32)
    source = random.Random(seed)
    body = written(NESTED, VALUE)
    for _ in range(3_000):
        broken = bytearray(body)
        for _ in range(source.randint(1, 3)):
            broken[source.randrange(len(broken))] = source.randrange(256)
        broken = broken[: source.randint(0, len(broken))]
        found = dissect(bytes(broken), NESTED)
        if found.fault is None:
            stream = io.BytesIO(bytes(broken))
            fastavro.schemaless_reader(stream, fastavro.parse_schema(NESTED, named_schemas={}), None)
            assert stream.tell() == len(broken), f"seed {seed}"
        else:
            assert 0 <= found.fault.at <= len(broken), f"seed {seed}"


@pytest.mark.parametrize(
    ("change", "path", "at", "problem"),
    [
        (lambda body: b"\x07" + body[1:], "id", 0, "the length is -4"),
        (lambda body: b"\x7e" + body[1:], "id", 0, "the length is 63"),
        (lambda body: body[:1] + b"\xff" + body[2:], "id", 1, "the byte is 0xff"),
        (lambda body: body[:4] + b"\x02" + body[5:], "ok", 4, "the byte is 0x02"),
        (lambda body: body[:5] + b"\xff" * 11, "small", 5, "more than 64 bits"),
        (lambda body: body[:5] + b"\xff\xff\xff\xff\xff\x0f" + body[6:], "small", 5, "32 bits"),
        (lambda body: body[:6] + b"\x08" + body[7:], "kind", 6, "the index is 4"),
        (lambda body: body[:7] + b"\x09" + body[8:], "again", 7, "the branch is -5"),
        (lambda body: body[:-1], "mark", -2, "1 bytes are left"),
        (lambda body: body + b"xx", "", None, "2 bytes follow"),
        (lambda _: b"", "id", 0, "the body ends"),
    ],
)
def test_a_fault_names_field_byte_and_what_was_expected(change: Any, path: str, at: int | None, problem: str) -> None:
    body = written(NESTED, VALUE)
    broken = change(body)
    fault = dissect(broken, NESTED).fault
    assert isinstance(fault, Fault)
    wanted = len(body) if at is None else at if at >= 0 else len(body) + at
    assert (fault.path, fault.at) == (path, wanted)
    assert problem in fault.problem
    assert fault.expected
