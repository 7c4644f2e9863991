"""Container rows of one range → the block that is inserted. What it asks of the registry, intake has asked before."""

from __future__ import annotations

import io
from typing import Any

import fastavro

from emergency_stop.columnar.block import Block, BlockForm, block_form, native_block
from emergency_stop.columnar.container import container, container_schema
from emergency_stop.wire.physical import physical
from emergency_stop.wire.registry import Registry
from emergency_stop.wire.schemas import load_record_schema


class BlockMaker:
    """Not thread-safe: for the thread that stores."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._fits: dict[tuple[str, int | str], bool] = {}
        self._forms: dict[int | str, tuple[dict[str, Any], BlockForm | None]] = {}

    def container_schema(self, schema: int | str) -> dict[str, Any]:
        return container_schema(self._registry.writer_schema(schema))

    def fits(self, name: str, schema: int | str) -> bool:
        """Whether ClickHouse takes rows of this writer's schema as they are: it fills in fields that a former schema
        lacks, but not within a nested record.
        """
        if (name, schema) not in self._fits:
            written, committed = self.container_schema(schema), container_schema(load_record_schema(name))
            former = {field["name"]: field["type"] for field in written["fields"]}
            self._fits[name, schema] = all(
                nested_names(former[field["name"]]) == nested_names(field["type"])
                for field in committed["fields"]
                if field["name"] in former
            )
        return self._fits[name, schema]

    def block(self, schema: int | str, count: int, rows: list[bytes]) -> Block:
        """``count`` rows of one writer's schema as a block."""
        if schema not in self._forms:
            written = self.container_schema(schema)
            self._forms[schema] = written, block_form(written)
        return _block(*self._forms[schema], count, rows)

    def uniform(self, name: str, count: int, rows: list[tuple[int | str, bytes]]) -> Block:
        """Rows of several writer's schemas, written anew by the committed one, so that one block takes them."""
        committed = container_schema(load_record_schema(name))
        target = fastavro.parse_schema(physical(committed), named_schemas={})
        written = [_rewritten(physical(self.container_schema(schema)), target, data) for schema, data in rows]
        return _block(committed, block_form(committed), count, written)


def _block(schema: dict[str, Any], form: BlockForm | None, count: int, rows: list[bytes]) -> Block:
    return native_block(form, count, rows) if form else Block("Avro", container(schema, count, rows))


def nested_names(kind: Any) -> list[Any]:
    """The names of the fields of all records within an Avro type, in order."""
    if isinstance(kind, list):
        return [name for branch in kind for name in nested_names(branch)]
    if not isinstance(kind, dict):
        return []
    if kind["type"] == "record":
        return [(field["name"], nested_names(field["type"])) for field in kind["fields"]]
    return nested_names(kind.get("items", kind.get("values", kind["type"])))


def _rewritten(source: dict[str, Any], target: Any, data: bytes) -> bytes:
    parsed = fastavro.parse_schema(source, named_schemas={})
    stream, out = io.BytesIO(data), io.BytesIO()
    while stream.tell() < len(data):
        fastavro.schemaless_writer(out, target, fastavro.schemaless_reader(stream, parsed, target))
    return out.getvalue()
