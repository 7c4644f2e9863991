"""BACKWARD_TRANSITIVE, as Avro's schema resolution decides it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import pytest

from emergency_stop.wire.compatibility import check, incompatibilities, keep
from emergency_stop.wire.schemas import schemas_root


def record(*fields: dict[str, Any], name: str = "R", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields), **more}


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "E", "symbols": list(symbols), **more}


BROKEN = [
    # what was done             writer's schema                       reader's schema                          said
    ("field without default", record(), record(field("a", "int")), "a: added without a default"),
    ("type changed", record(field("a", "string")), record(field("a", "int")), "a: string became int"),
    ("type narrowed", record(field("a", "long")), record(field("a", "int")), "a: long became int"),
    ("field renamed", record(field("a", "int")), record(field("b", "int")), "b: added without a default"),
    ("record renamed", record(), record(name="S"), "record R became S"),
    ("symbol removed", enum("A", "B"), enum("A"), "symbol B was removed"),
    (
        "null no longer read",
        record(field("a", ["null", "int"])),
        record(field("a", "int")),
        "a: null became int",
    ),
    (
        "branch removed",
        record(field("a", ["null", "int", "string"])),
        record(field("a", ["null", "int"])),
        "a: no branch of the union reads string",
    ),
    (
        "items changed",
        record(field("a", {"type": "array", "items": "string"})),
        record(field("a", {"type": "array", "items": "long"})),
        "a[]: string became long",
    ),
    (
        "inner record",
        record(field("a", record(field("x", "int"), name="I"))),
        record(field("a", record(field("x", "int"), field("y", "int"), name="I"))),
        "a.y: added without a default",
    ),
    (
        "fixed grew",
        record(field("a", {"type": "fixed", "name": "F", "size": 4})),
        record(field("a", {"type": "fixed", "name": "F", "size": 8})),
        "a: fixed of 4 bytes became 8 bytes",
    ),
]

ALLOWED = [
    ("field with default", record(), record(field("a", "int", default=1))),
    ("field removed", record(field("a", "int")), record()),
    ("widened", record(field("a", "int")), record(field("a", "double"))),
    ("bytes from string", record(field("a", "string")), record(field("a", "bytes"))),
    ("made optional", record(field("a", "int")), record(field("a", ["null", "int"]))),
    ("field renamed with alias", record(field("a", "int")), record(field("b", "int", aliases=["a"]))),
    ("record renamed with alias", record(), record(name="S", aliases=["R"])),
    ("symbol added", enum("A"), enum("A", "B")),
    ("symbol removed with default", enum("A", "B"), enum("A", default="A")),
    ("docs changed", record(field("a", "int", doc="one")), record(field("a", "int", doc="two"), doc="three")),
    (
        "named type used twice",
        record(field("a", enum("X")), field("b", "E")),
        record(field("a", enum("X")), field("b", "E")),
    ),
    (
        "recursive",
        record(field("next", ["null", "R"], default=None)),
        record(field("next", ["null", "R"], default=None), field("n", "int", default=0)),
    ),
]


@pytest.mark.parametrize(("writer", "reader", "said"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_breaking_change_is_found_and_named(writer: Any, reader: Any, said: str) -> None:
    problems = incompatibilities(reader, writer)
    assert len(problems) == 1
    assert said in problems[0]


@pytest.mark.parametrize(("writer", "reader"), [case[1:] for case in ALLOWED], ids=[case[0] for case in ALLOWED])
def test_an_allowed_change_passes(writer: Any, reader: Any) -> None:
    assert incompatibilities(reader, writer) == []


VALUES: dict[str, Any] = {"field with default": {}, "widened": {"a": 1}, "made optional": {"a": 1}, "symbol added": "A"}


@pytest.mark.parametrize("what", VALUES)
def test_what_passes_is_read_by_a_real_reader(what: str) -> None:
    """The rules are checked against fastavro's resolution, which reads the bytes."""
    writer, reader = next(case[1:] for case in ALLOWED if case[0] == what)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(writer, named_schemas={}), VALUES[what])
    out.seek(0)
    fastavro.schemaless_reader(
        out, fastavro.parse_schema(writer, named_schemas={}), fastavro.parse_schema(reader, named_schemas={})
    )


def _root_with(folder: Path, schema: dict[str, Any]) -> Path:
    (folder / "avro").mkdir(exist_ok=True)
    (folder / "avro" / "R.avsc").write_text(json.dumps(schema))
    return folder


def test_every_former_version_counts_not_only_the_last(tmp_path: Path) -> None:
    """v1 had no a; v2 added it with a default; v3 drops the default: v2 can be read, v1 cannot."""
    for schema in (record(), record(field("a", "int", default=1))):
        keep(_root_with(tmp_path, schema))
    _root_with(tmp_path, record(field("a", "int")))
    keep(tmp_path)
    assert check(tmp_path) == ["R cannot read v1: a: added without a default"]


def test_a_changed_schema_must_be_kept(tmp_path: Path) -> None:
    keep(_root_with(tmp_path, record()))
    _root_with(tmp_path, record(field("a", "int", default=1)))
    assert check(tmp_path) == ["R: the committed schema is not kept as a version; run with --keep"]
    assert [path.name for path in keep(tmp_path)] == ["v2.avsc"]
    assert check(tmp_path) == []


def test_the_committed_schemas_keep_the_promise() -> None:
    assert check(schemas_root()) == []
