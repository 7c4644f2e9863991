"""The committed schemas are the wire contract: documented, complete, and what the code writes."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import fastavro
import pytest

from emergency_stop.domain.messages import ControlMessage
from emergency_stop.domain.topics import all_topics
from emergency_stop.wire.schemas import committed_ids, load_record_schema, schemas_root

FILES = sorted((schemas_root() / "avro").glob("*.avsc"))
RECORDS = [path.stem for path in FILES]

#: A field whose name says that it has a unit, and what its documentation must then mention.
UNITS = [
    (re.compile(r"_ms$"), re.compile(r"millisecond", re.IGNORECASE)),
    (re.compile(r"_at$"), re.compile(r"millisecond|epoch", re.IGNORECASE)),
    (re.compile(r"_bytes$"), re.compile(r"byte", re.IGNORECASE)),
    (re.compile(r"_percent$"), re.compile(r"percent|%", re.IGNORECASE)),
    (re.compile(r"_score$"), re.compile(r"\d", re.IGNORECASE)),
]


def records_in(schema: Any) -> Iterator[dict[str, Any]]:
    """Every record defined in ``schema``, nested ones too."""
    if isinstance(schema, list):
        for branch in schema:
            yield from records_in(branch)
    elif isinstance(schema, dict):
        if schema.get("type") == "record":
            yield schema
            for field in schema["fields"]:
                yield from records_in(field["type"])
        else:
            yield from records_in(schema.get("items"))
            yield from records_in(schema.get("type") if isinstance(schema.get("type"), (dict, list)) else None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_file_is_valid_avro_and_named_after_its_record(path: Path) -> None:
    schema = json.loads(path.read_text())
    fastavro.parse_schema(schema, named_schemas={})
    assert schema["name"] == path.stem


@pytest.mark.parametrize("name", RECORDS)
def test_every_record_and_field_says_what_it_is(name: str) -> None:
    for record in records_in(load_record_schema(name)):
        assert record.get("doc", "").strip(), f"{record['name']} has no doc"
        for field in record["fields"]:
            assert field.get("doc", "").strip(), f"{record['name']}.{field['name']} has no doc"


@pytest.mark.parametrize("name", RECORDS)
def test_a_field_with_a_unit_says_its_unit(name: str) -> None:
    for record in records_in(load_record_schema(name)):
        for field in record["fields"]:
            for named, said in UNITS:
                if named.search(field["name"]):
                    assert said.search(field["doc"]), f"{record['name']}.{field['name']}: its doc names no unit"


def test_every_topic_with_a_record_has_its_schema_and_id() -> None:
    wanted = {spec.record for spec in all_topics(("any",)) if spec.record}
    assert wanted <= set(RECORDS)
    assert sorted(committed_ids()) == RECORDS


def test_ids_are_unique() -> None:
    ids = list(committed_ids().values())
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("message", get_args(ControlMessage), ids=lambda kind: kind.__name__)
def test_a_message_and_its_schema_have_the_same_fields_in_the_same_order(message: Any) -> None:
    schema = load_record_schema(message.__name__)
    assert [field.name for field in dataclasses.fields(message)] == [field["name"] for field in schema["fields"]]


@pytest.mark.parametrize("message", get_args(ControlMessage), ids=lambda kind: kind.__name__)
def test_a_field_with_a_default_in_the_code_has_one_in_the_schema(message: Any) -> None:
    """What a writer may leave out, a reader of the schema alone may leave out too."""
    schema = {field["name"]: field for field in load_record_schema(message.__name__)["fields"]}
    for field in dataclasses.fields(message):
        if field.default is not dataclasses.MISSING:
            assert "default" in schema[field.name], f"{message.__name__}.{field.name}"
