"""Random telemetry by random writers' schemas, much of it damaged, for the decoder and its naive twin.

Also a program: ``NUMBA_DISABLE_JIT=1 python -m tests.unit.columnar.fuzz SEED ROUNDS`` runs the kernels as
plain Python over a buffer that refuses every read outside of itself, which compiled code would not notice.
"""

from __future__ import annotations

import copy
import io
import math
import random
import struct
import sys
from typing import Any, Final

import fastavro
import numpy as np
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from emergency_stop.columnar.columns import Columns
from emergency_stop.columnar.decoder import ColumnDecoder, key_hash
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.domain.reasons import Reject
from emergency_stop.wire.registry import UnknownSchemaError
from emergency_stop.wire.schemas import load_record_schema
from tests.oracle.columns import Refused, Row, decode_naively

NOW_MS: Final = 1_700_000_000_000
GUID: Final = "00112233445566778899aabbccddeeff"
WANTED: Final = {
    "HealthEvent": ("risk_score", "health_score", "source", "correlation_id"),
    "ProxyEvent": ("proxy_id", "outcome", "latency_ms", "error"),
    "PlatformEvent": ("kind", "status_code", "outcome", "endpoint"),
    "SystemEvent": ("cpu_percent",),
}
_LEAVES: Final = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
_PROMOTED: Final = {"double": ("double", "float", "long", "int"), "int": ("int",)}
_TEXTS: Final = ("", "a", "seven77", "eight888", "nine99999", "x" * 37, "ünïcode", "日本語テキスト", "😀 and ascii")


_ACCOUNTS: Final = ("a", "account-7", "account-12345678", "ünï", "x" * 100, "service@host", "a.b-c_d@häst")
_SPACES: Final = "".join(filter(str.isspace, map(chr, range(sys.maxunicode + 1))))
_CHARACTERS: Final = ("x", "é", "日", "😀", "@", "\0", "\x7f", "\u180e", "\u200b", "\ufeff", *_SPACES)


def random_id(rng: random.Random) -> str:
    """Around every limit that decides whether an id can be stopped: none, spaces in any place, just too long."""
    middle = rng.choice("xx-é日😀@") * rng.choice((0, 1, 2, 233, 234, 235, 246, 247, 248, 249, 300, 992, 993))
    ends = [rng.choice(_CHARACTERS) if rng.random() < 0.2 else "" for _ in range(3)]
    return ends[0] + middle + ends[1] + rng.choice(("", "", "@host")) + ends[2]


class Writers:
    """A registry of what the test has written with."""

    def __init__(self) -> None:
        self.schemas: dict[int | str, Any] = {}

    def schema_id(self, record: str, topic: str) -> int:
        return 1

    def writer_schema(self, schema_id: int | str) -> dict[str, Any]:
        if schema_id not in self.schemas:
            raise UnknownSchemaError(schema_id)
        schema: dict[str, Any] = self.schemas[schema_id]
        return schema


def random_type(rng: random.Random, names: list[str], depth: int = 0) -> Any:
    """Any Avro type, nested at most four deep."""
    choice = rng.randrange(10 if depth < 4 else 5)
    if choice < 5:
        return rng.choice(_LEAVES)
    names.append(f"T{len(names)}")
    name = names[-1]
    if choice == 5:
        return {"type": "array", "items": random_type(rng, names, depth + 1)}
    if choice == 6:
        return {"type": "map", "values": random_type(rng, names, depth + 1)}
    if choice == 7:
        return ["null", {"type": "enum", "name": name, "symbols": ["a", "b", "c"]}, "string", "double"]
    if choice == 8:
        return {"type": "fixed", "name": name, "size": rng.choice((0, 1, 16))}
    fields = [{"name": f"f{i}", "type": random_type(rng, names, depth + 1)} for i in range(rng.randrange(4))]
    return {"type": "record", "name": name, "fields": fields}


def random_writer(rng: random.Random, record: str) -> dict[str, Any]:
    """The committed schema as an earlier or later producer may have it."""
    writer = copy.deepcopy(load_record_schema(record))
    fields = [field for field in writer["fields"] if "default" not in field or rng.random() < 0.8]
    for field in fields:
        field.pop("default", None)  # a writer's defaults mean nothing to a reader
        if isinstance(field["type"], str) and field["name"] != "occurred_at":
            field["type"] = rng.choice(_PROMOTED.get(field["type"], (field["type"],)))
        if isinstance(field["type"], dict) and "symbols" in field["type"] and rng.random() < 0.5:
            symbols = [*field["type"]["symbols"], "future"]
            field["type"]["symbols"] = rng.sample(symbols, len(symbols))
            field["type"].pop("default", None)
        if field["type"] == ["null", "string"] and rng.random() < 0.5:
            field["type"] = rng.choice((["string", "null"], "string", "null"))
    names: list[str] = []
    extra = [{"name": f"extra{i}", "type": random_type(rng, names)} for i in range(rng.choice((0, 0, 1, 3)))]
    every = [*fields, *extra]
    writer["fields"] = rng.sample(every, len(every)) if rng.random() < 0.5 else every
    return writer


def random_value(rng: random.Random, schema: Any) -> Any:
    """A value that fastavro can write by ``schema``; NaN now and then."""
    if isinstance(schema, list):
        return random_value(rng, rng.choice([one for one in schema if not isinstance(one, dict)]))
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "array":
        count = 0 if schema["items"] == "null" else rng.choice((0, 1, 2, 70))
        return [random_value(rng, schema["items"]) for _ in range(count)]
    if kind == "map":
        return {f"k{i}": random_value(rng, schema["values"]) for i in range(rng.choice((0, 1, 3)))}
    if kind == "record":
        return {field["name"]: random_value(rng, field["type"]) for field in schema["fields"]}
    if kind == "enum":
        return rng.choice(schema["symbols"])
    if kind == "fixed":
        return rng.randbytes(schema["size"])
    return _random_leaf(rng, kind)


def _random_leaf(rng: random.Random, kind: str) -> Any:
    special = rng.random() < 0.01
    leaves: dict[str, Any] = {
        "null": None,
        "boolean": rng.random() < 0.5,
        "int": rng.choice((0, -1, 63, 64, -65, 2**31 - 1, -(2**31))),
        "long": rng.choice((0, 1, -1, 8191, 8192, 2**53 + 1, 2**63 - 1, -(2**63))),
        "float": math.inf if special else struct.unpack("<f", struct.pack("<f", rng.uniform(-9, 9)))[0],
        "double": math.nan if special else rng.uniform(0, 100),
        "bytes": rng.randbytes(rng.choice((0, 3, 90))),
        "string": rng.choice(_TEXTS),
    }
    return leaves[kind]


def damaged(rng: random.Random, value: bytes) -> bytes:
    """One of the ways in which bytes go wrong."""
    at = rng.randrange(len(value)) if value else 0
    return rng.choice(
        (
            value[:at],
            value + rng.randbytes(rng.randrange(1, 4)),
            value[:at] + rng.randbytes(1) + value[at + 1 :],
            value[:at] + b"\xff" * rng.choice((1, 4, 5, 9, 10, 11)) + value[at:],
            value[:at] + b"\x80" * 9 + b"\x02" + value[at + 1 :],
            value[:at] + bytes([rng.choice((1, 3, 127))]) + value[at + 1 :],
            rng.randbytes(rng.choice((0, 1, 4, 5, 16, 17, 40))),
            bytes([rng.choice((1, 2, 255))]) + value[1:],
            b"\x01" + bytes.fromhex(GUID) + value[5:],
            value[:at] + rng.choice((b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5", b"\xe6\x97")) + value[at + 2 :],
        )
    )


def random_batch(rng: random.Random, record: str, writers: Writers, count: int) -> FetchedBatch:
    """A fetch response of one to four batches in any codec, which may start in the middle of its first one."""
    schemas: dict[int | str, dict[str, Any]] = {schema_id: random_writer(rng, record) for schema_id in (7, 0x01020304)}
    writers.schemas = {**schemas, 9: load_record_schema("Hit"), GUID: schemas[7]}
    parsed = {number: fastavro.parse_schema(schema, named_schemas={}) for number, schema in schemas.items()}
    raws, offset = [], rng.choice((0, 5, 10**12))
    first = offset
    for _ in range(rng.randrange(1, 5)):
        builder = DefaultRecordBatchBuilder(2, rng.randrange(5), 0, -1, -1, -1, 1 << 24)
        size = rng.randrange(1, count)
        for delta in range(size):
            key, value = _random_record(rng, parsed)
            headers = [("h", b"v"), ("n", None)] if rng.random() < 0.1 else []
            builder.append(delta, NOW_MS + rng.randrange(-500, 500), key, value, headers)
        raw = bytearray(bytes(builder.build()))
        struct.pack_into(">q", raw, 0, offset)
        raws.append(bytes(raw))
        offset += size + rng.choice((0, 0, 3))
    start = rng.choice((first, first + 1, offset - 1))
    return FetchedBatch("telemetry.any", 3, start, offset, tuple(raws))


def _random_record(rng: random.Random, parsed: dict[int | str, Any]) -> tuple[bytes | None, bytes | None]:
    number = rng.choice((7, 7, 7, 0x01020304))
    schema = parsed[number]
    event = {field["name"]: random_value(rng, field["type"]) for field in schema["fields"]}
    event["account_id"] = rng.choice(_ACCOUNTS) if rng.random() < 0.8 else random_id(rng)
    event["occurred_at"] = NOW_MS + rng.choice((0, -5, 59_000, 61_000, -NOW_MS - 1) if rng.random() < 0.1 else (0, 3))
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, event)
    fate = rng.random()
    frame_id = number if fate > 0.03 else rng.choice((8, 9, 2**31))
    value: bytes | None = b"\0" + frame_id.to_bytes(4, "big") + out.getvalue()
    key: bytes | None = event["account_id"].encode()
    if rng.random() < 0.3:
        value = damaged(rng, value or b"")
    if rng.random() < 0.05:
        key, value = rng.choice(((None, value), (key, None), (b"other", value), (b"\xff\xfe", value), (b"", value)))
    return key, value


def twin_writers(writers: Writers, record: str) -> Any:
    """What the twin asks for a writer's schema."""
    reader = load_record_schema(record)
    strict = {
        field["name"]: field["type"]["symbols"]
        for field in reader["fields"]
        if isinstance(field["type"], dict) and "symbols" in field["type"] and "default" not in field["type"]
    }

    def find(schema_id: int | str) -> tuple[Any, dict[str, list[str]]]:
        if schema_id not in writers.schemas:
            raise Refused(Reject.UNKNOWN_SCHEMA)
        if writers.schemas[schema_id]["name"] != record:
            raise Refused(Reject.WRONG_RECORD)
        return writers.schemas[schema_id], strict

    return find


def compare(seed: int) -> tuple[int, int]:
    """Decode one random batch both ways; raises ``AssertionError``. Returns (accepted, refused)."""
    rng = random.Random(seed)
    record = rng.choice(tuple(WANTED))
    writers = Writers()
    batch = random_batch(rng, record, writers, 12)
    rows, refused = decode_naively(batch.batches, batch.fetch_offset, twin_writers(writers, record))
    decoder = ColumnDecoder(writers, record)
    for wanted in (WANTED[record], ()):
        columns = decoder.decode(batch, wanted)
        told = [(entry.offset, entry.reason) for entry in columns.rejected]
        assert told == refused, f"seed {seed}, wanted {wanted}"
        _same_rows(columns, rows, load_record_schema(record), wanted, seed)
    return len(rows), len(refused)


def _same_rows(columns: Columns, rows: list[Row], reader: dict[str, Any], wanted: tuple[str, ...], seed: int) -> None:
    assert columns.n == len(rows), f"seed {seed}"
    assert columns.offset.tolist() == [row.offset for row in rows]
    assert columns.record_timestamp.tolist() == [row.record_timestamp for row in rows]
    assert columns.occurred_at.tolist() == [row.fields["occurred_at"] for row in rows]
    assert columns.key_hash.tolist() == [key_hash(row.key) for row in rows]
    assert [columns.key(index) for index in range(columns.n)] == [row.key for row in rows]
    assert [columns.body(index) for index in range(columns.n)] == [row.body for row in rows]
    for name in wanted:
        (field,) = (field for field in reader["fields"] if field["name"] == name)
        expected = [_as_column(field, row.fields) for row in rows]
        found = columns.fields[name]
        assert np.array_equal(found, np.array(expected, found.dtype), equal_nan=found.dtype == np.float64), (
            f"seed {seed}, field {name}: {found.tolist()} is not {expected}"
        )


def _as_column(field: dict[str, Any], fields: dict[str, Any]) -> float | int:
    kind = field["type"]
    value = fields.get(field["name"], field.get("default"))
    if kind in ("string", ["null", "string"]):
        return 0 if value is None else key_hash(value.encode())
    if isinstance(kind, dict):
        symbols: list[str] = kind["symbols"]
        return float(symbols.index(value if value in symbols else kind["default"]))
    assert value is not None
    return float(value)


def main(seed: int, rounds: int) -> int:
    accepted = refused = 0
    for number in range(seed, seed + rounds):
        found = compare(number)
        accepted, refused = accepted + found[0], refused + found[1]
    print(f"{accepted} accepted, {refused} refused, as the twin says")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
