"""A block has the rows that it was made of, by key; its naive twin writes it value by value.

Also a program: ``NUMBA_DISABLE_JIT=1 python -m tests.unit.columnar.test_block SEED ROUNDS`` runs the kernels as plain
Python over a buffer that refuses every read outside of itself.
"""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
from typing import Any, Final

import fastavro
import pytest

from emergency_stop.columnar.block import RowsMismatchError, block_form, native_block
from emergency_stop.columnar.container import container_schema
from tests.oracle.native import block

SEED: Final = int(os.environ.get("SEED", "1"))
ROUNDS: Final = 60
_NULLABLE: Final = ("null", "string")
_TYPES: Final[dict[str, str]] = {"string": "String", "int": "Int32", "long": "Int64", "double": "Float64"}
_SYMBOLS: Final = ("low", "medium", "a" * 200, "critical")
_ENDS: Final = ("", "\0", "a", "ab", "b", "é", "😀", "x" * 41)


def random_schema(rng: random.Random) -> dict[str, Any]:
    """A flat record; nearly always with the key, in any place."""
    kinds: list[Any] = ["string", "int", "long", "double", list(_NULLABLE), list(reversed(_NULLABLE))]
    fields = [{"name": f"f{number}", "type": rng.choice(kinds)} for number in range(rng.randrange(6))]
    fields.append({"name": "moment_at", "type": "long"})
    for number in range(rng.randrange(3)):
        symbols = list(_SYMBOLS[: rng.randrange(1, 5)])
        fields.append({"name": f"e{number}", "type": {"type": "enum", "name": f"E{number}", "symbols": symbols}})
    if rng.random() < 0.9:
        fields.append({"name": "account_id", "type": "string"})
    rng.shuffle(fields)
    return container_schema({"type": "record", "name": "Any", "fields": fields})


def random_rows(rng: random.Random, schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Keys of few accounts or of many, alike in any number of first bytes."""
    start = rng.choice(("", "acc-", "x" * 39))
    many = rng.choice((1, 3, 1_000_000))
    keys = [start + rng.choice(_ENDS) + str(rng.randrange(many)) + rng.choice(_ENDS) for _ in range(30)]
    return [
        {field["name"]: _value(rng, field["name"], field["type"], keys) for field in schema["fields"]}
        for _ in range(rng.choice((1, 2, 60)))
    ]


def _value(rng: random.Random, name: str, kind: Any, keys: list[str]) -> Any:
    if name == "account_id":
        return rng.choice(keys)
    if isinstance(kind, list):
        return rng.choice((None, _text(rng)))
    if isinstance(kind, dict):
        return rng.choice(kind["symbols"]) if kind["type"] == "enum" else rng.randrange(-(2**63), 2**63)
    bits = {"int": 31, "long": 63}
    if kind in bits:
        return rng.choice((0, -1, rng.randrange(-(2 ** bits[kind]), 2 ** bits[kind])))
    return _text(rng) if kind == "string" else rng.uniform(-1e9, 1e9)


def _text(rng: random.Random) -> str:
    return rng.choice("aé😀") * rng.choice((0, 1, 7, 63, 64, 127, 128, 300))


def encoded(schema: dict[str, Any], rows: list[dict[str, Any]]) -> list[bytes]:
    parsed = fastavro.parse_schema(schema, named_schemas={})
    out = []
    for row in rows:
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, parsed, row)
        out.append(stream.getvalue())
    return out


def naively(schema: dict[str, Any], rows: list[dict[str, Any]]) -> bytes:
    if any(field["name"] == "account_id" for field in schema["fields"]):
        keys = [row["account_id"].encode() for row in rows]
        shared = max(at for at in range(len(keys[0]) + 1) if all(key.startswith(keys[0][:at]) for key in keys))
        rows = sorted(rows, key=lambda row: row["account_id"].encode()[shared : shared + 40].ljust(40, b"\0"))
    columns = []
    for field in schema["fields"]:
        values = [row[field["name"]] for row in rows]
        columns.append((field["name"], _kind(field["type"]), [_bytes(value) for value in values]))
    return block(columns)


def _kind(kind: Any) -> str:
    if isinstance(kind, list):
        return "Nullable(String)"
    if isinstance(kind, dict):
        return "String" if kind["type"] == "enum" else "DateTime64(3, 'UTC')"
    return _TYPES[kind]


def _bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def compare(seed: int) -> None:
    rng = random.Random(seed)
    schema = random_schema(rng)
    rows = random_rows(rng, schema)
    form = block_form(schema)
    assert form is not None
    made = native_block(form, len(rows), encoded(schema, rows))
    assert made.form == "Native"
    assert made.data == naively(schema, rows), f"seed {seed}"


def test_blocks_are_the_naive_twins() -> None:
    """A failing seed is named; ``python -m tests.unit.columnar.test_block SEED 1`` repeats it alone."""
    for seed in range(SEED * 1_000_000, SEED * 1_000_000 + ROUNDS):
        compare(seed)


def test_keys_that_are_alike_for_long_keep_their_order() -> None:
    """ClickHouse sorts what is left; no row may be lost or doubled by it."""
    schema = {"type": "record", "name": "Any", "fields": [{"name": "account_id", "type": "string"}]}
    form = block_form(schema)
    assert form is not None
    keys = ["a", *("b" * 50 + end for end in "zayx"), "c"]
    made = native_block(form, len(keys), encoded(schema, [{"account_id": key} for key in keys]))
    columns = ("account_id", "String", [key.encode() for key in keys])
    assert made.data == block([columns])


@pytest.mark.parametrize(
    "kind",
    ["boolean", "float", "bytes", ["null", "long"], ["null", "string", "long"], {"type": "array", "items": "string"}],
)
def test_what_has_no_column_makes_no_block(kind: Any) -> None:
    assert block_form({"type": "record", "name": "Any", "fields": [{"name": "f", "type": kind}]}) is None


@pytest.mark.parametrize("kind", ["string", "int", "long", "double", ["null", "string"]])
def test_rows_that_are_cut_off_or_too_long_are_refused(kind: Any) -> None:
    schema = {"type": "record", "name": "Any", "fields": [{"name": "f", "type": kind}]}
    form = block_form(schema)
    assert form is not None
    values = {"string": "text", "int": 300, "long": 300, "double": 1.5}
    (row,) = encoded(schema, [{"f": "text" if isinstance(kind, list) else values[kind]}])
    assert native_block(form, 1, [row]).data
    for wrong in (row[:-1], row + b"\0", b""):
        with pytest.raises(RowsMismatchError, match="1 rows of f end at"):
            native_block(form, 1, [wrong])


def test_a_symbol_that_the_writer_has_not_is_refused() -> None:
    kind = {"type": "enum", "name": "E", "symbols": ["low", "high"]}
    form = block_form({"type": "record", "name": "Any", "fields": [{"name": "f", "type": kind}]})
    assert form is not None
    for wrong in (b"\x04", b"\x01"):  # the third symbol, and the one before the first
        with pytest.raises(RowsMismatchError):
            native_block(form, 1, [wrong])


def test_no_kernel_reads_outside_of_its_rows() -> None:
    """As plain Python over NumPy, where an index out of bounds raises instead of reading on."""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-m", "tests.unit.columnar.test_block", str(SEED * 1_000_000), "12"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]


if __name__ == "__main__":
    first, rounds = map(int, sys.argv[1:])
    for number in range(first, first + rounds):
        compare(number)
