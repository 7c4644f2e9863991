"""BACKWARD_TRANSITIVE, as Avro's schema resolution decides it."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any, get_args

import fastavro
import pytest
from fastavro.utils import generate_many

from emergency_stop.domain.default_triggers import default_pack
from emergency_stop.domain.messages import ControlMessage
from emergency_stop.domain.telemetry import TelemetryEvent
from emergency_stop.domain.triggers import Trigger
from emergency_stop.wire.codec import Codec, frame, to_plain
from emergency_stop.wire.compatibility import check, incompatibilities, keep
from emergency_stop.wire.registry import LocalRegistry
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


def _ids(root: Path) -> tuple[dict[str, int], dict[str, str]]:
    current, history = root / "avro" / "ids.json", root / "avro" / "history" / "ids.json"
    return json.loads(current.read_text()), json.loads(history.read_text()) if history.is_file() else {}


def test_a_kept_version_gets_a_new_id_and_the_former_one_keeps_its_own(tmp_path: Path) -> None:
    keep(_root_with(tmp_path, record()))
    first = _ids(tmp_path)[0]["R"]
    keep(_root_with(tmp_path, record(field("a", "int", default=1))))
    assert _ids(tmp_path) == ({"R": first + 1}, {str(first): "R/v1"})
    keep(tmp_path)
    assert _ids(tmp_path) == ({"R": first + 1}, {str(first): "R/v1"}), "nothing changed"
    keep(_root_with(tmp_path, record(field("a", "long", default=1))))
    assert _ids(tmp_path) == ({"R": first + 2}, {str(first): "R/v1", str(first + 1): "R/v2"})
    assert check(tmp_path) == []


def test_ids_that_were_given_by_hand_stand_and_the_layout_of_their_file_too(tmp_path: Path) -> None:
    keep(_root_with(tmp_path, record()))
    (tmp_path / "avro" / "ids.json").write_text('{\n  "Q": 7, "R": 300,\n  "S": 8\n}\n')
    (tmp_path / "avro" / "history" / "ids.json").write_text('{"9": "R/v1"}')
    keep(_root_with(tmp_path, record(field("a", "int", default=1))))
    assert _ids(tmp_path) == ({"Q": 7, "R": 300, "S": 8}, {"9": "R/v1"})
    keep(_root_with(tmp_path, record(field("a", "long", default=1))))
    assert (tmp_path / "avro" / "ids.json").read_text() == '{\n  "Q": 7, "R": 301,\n  "S": 8\n}\n'
    assert _ids(tmp_path)[1] == {"9": "R/v1", "300": "R/v2"}


def test_a_version_without_an_id_and_an_id_used_twice_are_found(tmp_path: Path) -> None:
    keep(_root_with(tmp_path, record()))
    keep(_root_with(tmp_path, record(field("a", "int", default=1))))
    history = tmp_path / "avro" / "history" / "ids.json"
    for ids, problems in (
        ({}, ["R/v1: has no id in history/ids.json"]),
        ({"102": "R/v1"}, ["id 102: is used 2 times"]),
        ({"101": "R/v1", "99": "R/v7"}, ["id 99: names R/v7, which is not kept"]),
    ):
        history.write_text(json.dumps(ids))
        assert check(tmp_path) == problems
    history.write_text('{"101": "R/v1"}')
    (tmp_path / "avro" / "ids.json").write_text("{}")
    assert check(tmp_path) == ["R: has no id in ids.json; run with --keep"]


def as_json(value: Any) -> str:
    return json.dumps(value, default=bytes.hex, sort_keys=True)


def as_far_as(told: Any, written: Any) -> Any:
    """What is ``told``, without the fields that ``written`` does not know, however deep they lie."""
    if isinstance(written, dict):
        return {name: as_far_as(told[name], inner) for name, inner in written.items()}
    if isinstance(written, list):
        assert len(told) == len(written)
        return [as_far_as(*pair) for pair in zip(told, written, strict=True)]
    return told


FORMER = json.loads((schemas_root() / "avro" / "history" / "ids.json").read_text())


@pytest.mark.parametrize(("schema_id", "version"), FORMER.items(), ids=FORMER.values())
def test_what_was_written_under_a_former_id_is_still_read(schema_id: str, version: str) -> None:
    """A random record of the former schema, framed as its writer did, is decoded as a message of today."""
    record_name = version.partition("/")[0]
    schema = json.loads((schemas_root() / "avro" / "history" / f"{version}.avsc").read_text())
    parsed = fastavro.parse_schema(schema, named_schemas={})
    for seed in range(20):
        random.seed(seed)
        written = next(iter(generate_many(parsed, 1)))
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, written)
        kind = next(
            kind
            for kind in (*get_args(ControlMessage), Trigger, *TelemetryEvent.__subclasses__())
            if kind.__name__ == record_name
        )
        message = Codec(LocalRegistry()).decode(kind, frame(int(schema_id), out.getvalue()))
        assert as_json(as_far_as(to_plain(message), written)) == as_json(written), seed


def test_a_trigger_of_the_first_schema_is_read_with_todays_defaults() -> None:
    """Id 201 has neither across nor canary: it watches every account, each on its own."""
    schema = json.loads((schemas_root() / "avro" / "history" / "Trigger" / "v1.avsc").read_text())
    trigger = default_pack(7)[0]
    plain = {entry["name"]: to_plain(trigger)[entry["name"]] for entry in schema["fields"]}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema, named_schemas={}), plain)
    assert Codec(LocalRegistry()).decode(Trigger, frame(201, out.getvalue())) == trigger


def test_the_committed_schemas_keep_the_promise() -> None:
    assert check(schemas_root()) == []
