"""An Avro writer's schema, compiled to the small arrays that the projection kernel interprets.

A schema becomes a tree of nodes. The record's own fields come first, in writer order; nested types hang
below by child lists. A field that some reader wants carries the number of its output column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from emergency_stop.columnar.columns import I32

NULL, BOOLEAN, INT, LONG, FLOAT, DOUBLE, BYTES, STRING, FIXED, ENUM, UNION, ARRAY, MAP, RECORD = range(14)
_PRIMITIVES: Final = {
    "null": NULL,
    "boolean": BOOLEAN,
    "int": INT,
    "long": LONG,
    "float": FLOAT,
    "double": DOUBLE,
    "bytes": BYTES,
    "string": STRING,
}
#: What a reader's type may have been written as, beside itself (Avro 1.12, schema resolution).
_PROMOTED: Final = {"long": ("int",), "float": ("int", "long"), "double": ("int", "long", "float")}
_NUMBERS: Final = ("boolean", "int", "long", "float", "double")

#: Output roles of a top-level field; columns of numbers and of hashes are numbered separately.
NOT_WANTED, AS_NUMBER, AS_HASH, AS_OCCURRED_AT, AS_ACCOUNT, AS_PROCESS = range(6)
#: The record whose ``account_id`` is ``service@host``: a hit of it stops the service.
PROCESS_RECORD: Final = "SystemEvent"


class SchemaMismatchError(ValueError):
    """The writer's schema cannot be read as the committed record; the text says which field and why."""


@dataclass(frozen=True, slots=True)
class Program:
    """What the projection kernel interprets.

    ``ops[node] = (op, argument, first child, child count)``; ``children`` are node numbers.
    ``fields[i] = (node, role, column, enum_offset)`` in writer order. ``enum_map[enum_offset + writer
    index]`` is the reader's index. ``number_defaults`` and ``hash_defaults`` are (column, value) of what the
    writer lacks.
    """

    record: str
    ops: I32
    children: I32
    fields: I32
    enum_map: I32
    number_defaults: tuple[tuple[int, float], ...]
    hash_defaults: tuple[tuple[int, str], ...]


class _Compiler:
    def __init__(self) -> None:
        self.ops: list[list[int]] = []
        self.children: list[int] = []
        self.named: dict[str, int] = {}
        self.definitions: dict[str, dict[str, Any]] = {}

    def node(self, schema: Any) -> int:
        """Compile one schema; a named type is compiled once, so recursive types end."""
        if isinstance(schema, str):
            return self._by_name(schema)
        if isinstance(schema, list):
            return self._parent(UNION, 0, schema)
        kind = schema["type"]
        if kind in ("record", "error"):
            return self._record(schema)
        if kind == "enum":
            return self._named(schema, ENUM, len(schema["symbols"]))
        if kind == "fixed":
            return self._named(schema, FIXED, int(schema["size"]))
        if kind == "array":
            return self._parent(ARRAY, 0, [schema["items"]])
        if kind == "map":
            return self._parent(MAP, 0, [schema["values"]])
        return self.node(kind)

    def _by_name(self, name: str) -> int:
        if name in _PRIMITIVES:
            return self._add(_PRIMITIVES[name], 0)
        for known in (name, name.rpartition(".")[2]):
            if known in self.named:
                return self.named[known]
        raise SchemaMismatchError(f"the writer's schema uses type {name!r} before defining it")

    def _add(self, op: int, argument: int) -> int:
        self.ops.append([op, argument, 0, 0])
        return len(self.ops) - 1

    def _named(self, schema: dict[str, Any], op: int, argument: int) -> int:
        number = self._add(op, argument)
        self._remember(schema, number)
        return number

    def _remember(self, schema: dict[str, Any], number: int) -> None:
        name = str(schema["name"]).rpartition(".")[2]
        self.named[name] = number
        self.definitions[name] = schema

    def _record(self, schema: dict[str, Any]) -> int:
        number = self._add(RECORD, 0)
        self._remember(schema, number)
        self._adopt(number, [field["type"] for field in schema["fields"]])
        return number

    def _parent(self, op: int, argument: int, inner: list[Any]) -> int:
        number = self._add(op, argument)
        self._adopt(number, inner)
        return number

    def _adopt(self, number: int, inner: list[Any]) -> None:
        numbers = [self.node(schema) for schema in inner]
        self.ops[number][2:] = [len(self.children), len(numbers)]
        self.children.extend(numbers)


def _plain(schema: Any, named: dict[str, dict[str, Any]]) -> Any:
    """The type without its logical wrapper; a name becomes its definition."""
    if isinstance(schema, str) and schema not in _PRIMITIVES:
        return named.get(schema.rpartition(".")[2], schema)
    if isinstance(schema, dict) and isinstance(schema.get("type"), str) and schema["type"] in _PRIMITIVES:
        return schema["type"]
    return schema


def _role(schema: Any, named: dict[str, dict[str, Any]]) -> int:
    """How a field of this type is handed out: as a number or as the hash of a string."""
    plain = _plain(schema, named)
    if isinstance(plain, list):
        roles = {_role(branch, named) for branch in plain if branch != "null"}
        return roles.pop() if len(roles) == 1 else NOT_WANTED
    if plain == "string":
        return AS_HASH
    is_enum = isinstance(plain, dict) and plain.get("type") == "enum"
    return AS_NUMBER if is_enum or plain in _NUMBERS else NOT_WANTED


def _symbols(schema: Any, named: dict[str, dict[str, Any]]) -> list[str] | None:
    plain = _plain(schema, named)
    if isinstance(plain, list):
        found = [_symbols(branch, named) for branch in plain]
        return next((symbols for symbols in found if symbols), None)
    if isinstance(plain, dict) and plain.get("type") == "enum":
        return list(plain["symbols"])
    return None


def _definitions(schema: Any, found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    if isinstance(schema, dict):
        if "name" in schema and schema.get("type") in ("record", "enum", "fixed"):
            found[str(schema["name"]).rpartition(".")[2]] = schema
        for key in ("type", "items", "values"):
            _definitions(schema.get(key), found)
        for field in schema.get("fields", ()):
            _definitions(field["type"], found)
    elif isinstance(schema, list):
        for branch in schema:
            _definitions(branch, found)
    return found


def wanted_roles(reader: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, int]:
    """Role by field name. Raises ``SchemaMismatchError`` for a field that cannot be a column."""
    named = _definitions(reader, {})
    types = {field["name"]: field["type"] for field in reader["fields"]}
    roles = {}
    for name in wanted:
        role = _role(types[name], named) if name in types else NOT_WANTED
        if role == NOT_WANTED:
            raise SchemaMismatchError(f"field {name!r} of {reader['name']} is absent or not a number, enum or string")
        roles[name] = role
    return roles


def enum_of(reader: dict[str, Any], field: str) -> tuple[tuple[str, ...], int] | None:
    """An enum field's symbols, and the index that stands for any other symbol (-1: none does); else ``None``."""
    named = _definitions(reader, {})
    kind = next(one["type"] for one in reader["fields"] if one["name"] == field)
    symbols = _symbols(kind, named)
    if symbols is None:
        return None
    branches = [branch for branch in _branches(kind, named) if isinstance(branch, dict)]
    default = next((branch.get("default") for branch in branches), None)
    return tuple(symbols), symbols.index(default) if default in symbols else -1


def compile_program(writer: dict[str, Any], reader: dict[str, Any], wanted: tuple[str, ...]) -> Program:
    """Writer's schema + committed reader schema + wanted fields → program.

    Number and hash columns are numbered in the order of ``wanted``. Raises ``SchemaMismatchError``.
    """
    if writer.get("type") != "record" or str(writer["name"]).rpartition(".")[2] != reader["name"]:
        raise SchemaMismatchError(f"the writer's schema is {writer.get('name')!r}, the topic's is {reader['name']!r}")
    compiler = _Compiler()
    compiler.node(writer)
    writer_named, reader_named = _definitions(writer, {}), _definitions(reader, {})
    key_role = AS_PROCESS if reader["name"] == PROCESS_RECORD else AS_ACCOUNT
    columns = _column_numbers(wanted_roles(reader, wanted))
    reader_types = {field["name"]: field["type"] for field in reader["fields"]}
    enum_map: list[int] = [0]
    rows = []
    _, _, first, _ = compiler.ops[0]
    for position, field in enumerate(writer["fields"]):
        name = field["name"]
        role, column = _place(name, columns, key_role)
        if name in reader_types:
            _check_readable(name, field["type"], writer_named, reader_types[name], reader_named)
        offset = 0
        ours, theirs = _symbols(reader_types.get(name), reader_named), _symbols(field["type"], writer_named)
        if ours and theirs:
            offset = len(enum_map)
            enum_map += _placed(theirs, ours, _plain(reader_types[name], reader_named))
        rows.append([compiler.children[first + position], role, column, offset])
    present = {field["name"] for field in writer["fields"]}
    _check_required(reader, present)
    return Program(
        record=reader["name"],
        ops=np.array(compiler.ops, np.int32).reshape(-1, 4),
        children=np.array([*compiler.children, 0], np.int32),
        fields=np.array(rows, np.int32).reshape(-1, 4),
        enum_map=np.array(enum_map, np.int32),
        number_defaults=_number_defaults(reader, columns, present, reader_named),
        hash_defaults=_hash_defaults(reader, columns, present),
    )


def _column_numbers(roles: dict[str, int]) -> dict[str, tuple[int, int]]:
    counters = {AS_NUMBER: 0, AS_HASH: 0}
    columns = {}
    for name, role in roles.items():
        columns[name] = (role, counters[role])
        counters[role] += 1
    return columns


def _place(name: str, columns: dict[str, tuple[int, int]], key_role: int) -> tuple[int, int]:
    if name == "occurred_at":
        return AS_OCCURRED_AT, 0
    if name == "account_id":
        return key_role, 0
    return columns.get(name, (NOT_WANTED, 0))


def _placed(theirs: list[str], ours: list[str], reader: Any) -> list[int]:
    """The reader's index of every symbol of the writer; the default's where it has none, else -1."""
    default = reader.get("default") if isinstance(reader, dict) else None
    instead = ours.index(default) if default in ours else -1
    return [ours.index(symbol) if symbol in ours else instead for symbol in theirs]


def _check_readable(name: str, writer: Any, writer_named: Any, reader: Any, reader_named: Any) -> None:
    """Avro's resolution for the types that telemetry has; every field the record knows, wanted or not."""
    ours = _branches(reader, reader_named)
    for theirs in _branches(writer, writer_named):
        if not any(_reads(one, theirs) for one in ours):
            raise SchemaMismatchError(f"field {name!r} has type {writer!r}, which cannot be read as {reader!r}")


def _branches(schema: Any, named: Any) -> list[Any]:
    plain = _plain(schema, named)
    return [_plain(branch, named) for branch in plain] if isinstance(plain, list) else [plain]


def _reads(reader: Any, writer: Any) -> bool:
    if isinstance(reader, str) or isinstance(writer, str):
        return writer == reader or writer in _PROMOTED.get(reader if isinstance(reader, str) else "", ())
    kinds = reader.get("type"), writer.get("type")
    return bool(kinds[0] == kinds[1])  # whatever is nested is only skipped


def _check_required(reader: dict[str, Any], present: set[str]) -> None:
    missing = [field["name"] for field in reader["fields"] if "default" not in field and field["name"] not in present]
    if missing:
        raise SchemaMismatchError(f"the writer's schema lacks {', '.join(missing)}")


def _number_defaults(
    reader: Any, columns: dict[str, tuple[int, int]], present: set[str], named: Any
) -> tuple[tuple[int, float], ...]:
    found = []
    for field, column in _absent(reader, columns, present, AS_NUMBER):
        default = field.get("default")
        symbols = _symbols(field["type"], named)
        found.append((column, np.nan if default is None else float(symbols.index(default) if symbols else default)))
    return tuple(found)


def _hash_defaults(reader: Any, columns: dict[str, tuple[int, int]], present: set[str]) -> tuple[tuple[int, str], ...]:
    return tuple((column, field.get("default") or "") for field, column in _absent(reader, columns, present, AS_HASH))


def _absent(
    reader: Any, columns: dict[str, tuple[int, int]], present: set[str], wanted_role: int
) -> list[tuple[dict[str, Any], int]]:
    """(reader's field, column) of the wanted fields of a role that the writer lacks."""
    placed = [(field, *columns.get(field["name"], (NOT_WANTED, 0))) for field in reader["fields"]]
    return [(field, column) for field, role, column in placed if role == wanted_role and field["name"] not in present]
