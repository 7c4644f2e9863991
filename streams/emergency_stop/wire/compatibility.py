"""BACKWARD_TRANSITIVE: the committed schema of a record reads what every former version wrote.

Former versions are kept in ``schemas/avro/history/<Record>/v<N>.avsc``; the newest equals the committed
schema. ``python -m emergency_stop.wire.compatibility`` checks (``make check`` runs it), and with
``--keep`` first keeps each changed schema as its next version, under a new id. The rules are those of "Schema
Resolution" in the Avro specification, decided from the schemas alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from emergency_stop.wire.schema_ids import assign_ids, id_problems
from emergency_stop.wire.schemas import schemas_root

Schema = Any  # plain JSON: a name, a list (union) or an object

#: What the reader may ask for, by what the writer wrote.
_PROMOTIONS: Final[Mapping[str, frozenset[str]]] = {
    "int": frozenset({"long", "float", "double"}),
    "long": frozenset({"float", "double"}),
    "float": frozenset({"double"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}
_NAMED: Final = frozenset({"record", "enum", "fixed"})


def incompatibilities(reader: Schema, writer: Schema) -> list[str]:
    """Why ``reader`` cannot read all that ``writer`` wrote, one line each with its path; empty where it can."""
    return list(_Resolution(_names(reader), _names(writer)).problems(reader, writer, ""))


class _Resolution:
    def __init__(self, reader_names: dict[str, Schema], writer_names: dict[str, Schema]) -> None:
        self._reader_names = reader_names
        self._writer_names = writer_names
        self._under_way: set[tuple[str, str]] = set()

    def problems(self, reader: Schema, writer: Schema, path: str) -> Iterator[str]:
        reader = _resolved(reader, self._reader_names)
        writer = _resolved(writer, self._writer_names)
        if isinstance(writer, list):
            for branch in writer:
                yield from self.problems(reader, branch, path)
        elif isinstance(reader, list):
            if not any(not list(self.problems(branch, writer, path)) for branch in reader):
                yield f"{path or 'the record'}: no branch of the union reads {_kind(writer)}"
        elif _kind(reader) != _kind(writer):
            if _kind(reader) not in _PROMOTIONS.get(_kind(writer), frozenset()):
                yield f"{path or 'the record'}: {_kind(writer)} became {_kind(reader)}"
        else:
            yield from self._of_one_kind(reader, writer, path)

    def _of_one_kind(self, reader: Schema, writer: Schema, path: str) -> Iterator[str]:
        kind = _kind(reader)
        if kind in _NAMED and not _same_name(reader, writer):
            yield f"{path or 'the record'}: {kind} {writer['name']} became {reader['name']} without an alias"
        elif kind == "array":
            yield from self.problems(reader["items"], writer["items"], f"{path}[]")
        elif kind == "map":
            yield from self.problems(reader["values"], writer["values"], f"{path}{{}}")
        elif kind == "enum" and "default" not in reader:
            for symbol in writer["symbols"]:
                if symbol not in reader["symbols"]:
                    yield f"{path}: symbol {symbol} was removed, and the enum has no default"
        elif kind == "fixed" and reader["size"] != writer["size"]:
            yield f"{path}: fixed of {writer['size']} bytes became {reader['size']} bytes"
        elif kind == "record":
            yield from self._of_records(reader, writer, path)

    def _of_records(self, reader: Schema, writer: Schema, path: str) -> Iterator[str]:
        pair = (_full_name(reader), _full_name(writer))
        if pair in self._under_way:  # a recursive type: decided where it was first met
            return
        self._under_way.add(pair)
        written = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            at = f"{path}.{field['name']}".lstrip(".")
            names = (field["name"], *field.get("aliases", ()))
            match = next((written[name] for name in names if name in written), None)
            if match is not None:
                yield from self.problems(field["type"], match["type"], at)
            elif "default" not in field:
                yield f"{at}: added without a default"
        self._under_way.discard(pair)


def _kind(schema: Schema) -> str:
    kind: str = schema if isinstance(schema, str) else "union" if isinstance(schema, list) else schema["type"]
    return kind


def _resolved(schema: Schema, names: Mapping[str, Schema]) -> Schema:
    """A reference by name → its definition; ``{"type": <schema>}`` → what it wraps."""
    if isinstance(schema, str):
        return names.get(schema, schema)
    if isinstance(schema, dict) and (isinstance(schema["type"], (dict, list)) or schema["type"] in names):
        return _resolved(schema["type"], names)
    return schema


def _names(schema: Schema, namespace: str = "") -> dict[str, Schema]:
    """Every named type defined in ``schema``, by short and by full name."""
    if isinstance(schema, list):
        return {name: found for branch in schema for name, found in _names(branch, namespace).items()}
    if not isinstance(schema, dict):
        return {}
    namespace = schema.get("namespace", namespace)
    names: dict[str, Schema] = {}
    if isinstance(schema["type"], str) and schema["type"] in _NAMED:
        names |= {schema["name"]: schema, f"{namespace}.{schema['name']}": schema}
    inner = [field["type"] for field in schema.get("fields", ())]
    inner += [schema[key] for key in ("items", "values") if key in schema]
    inner += [schema["type"]] if isinstance(schema["type"], (dict, list)) else []
    for part in inner:
        names |= _names(part, namespace)
    return names


def _full_name(schema: Schema) -> str:
    return f"{schema.get('namespace', '')}.{schema['name']}"


def _same_name(reader: Schema, writer: Schema) -> bool:
    """Unqualified names match (as the specification says), or one of the reader's aliases does."""
    short = writer["name"].rpartition(".")[2]
    return any(name.rpartition(".")[2] == short for name in (reader["name"], *reader.get("aliases", ())))


def versions(record: str, root: Path) -> list[Path]:
    """The kept versions of ``record``, oldest first."""
    return sorted((root / "avro" / "history" / record).glob("v*.avsc"), key=lambda path: int(path.stem[1:]))


def check(root: Path) -> list[str]:
    """Every problem of the schemas in ``root``: a broken promise, or a version that was not kept."""
    problems: list[str] = []
    for path in sorted((root / "avro").glob("*.avsc")):
        current = json.loads(path.read_text())
        kept = versions(path.stem, root)
        if not kept or json.loads(kept[-1].read_text()) != current:
            problems.append(f"{path.stem}: the committed schema is not kept as a version; run with --keep")
        for former in kept:
            found = incompatibilities(current, json.loads(former.read_text()))
            problems += [f"{path.stem} cannot read {former.stem}: {problem}" for problem in found]
    return problems + id_problems(root)


def keep(root: Path) -> list[Path]:
    """Keep each committed schema that differs from its newest version as the next, under a new id; the new files."""
    written: list[Path] = []
    for path in sorted((root / "avro").glob("*.avsc")):
        kept = versions(path.stem, root)
        if kept and json.loads(kept[-1].read_text()) == json.loads(path.read_text()):
            continue
        target = root / "avro" / "history" / path.stem / f"v{len(kept) + 1}.avsc"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text())
        written.append(target)
    assign_ids(root, written)
    return written


def main(arguments: list[str]) -> int:
    """Print every problem; exit status 1 where there is one."""
    root = schemas_root()
    if "--keep" in arguments:
        for path in keep(root):
            print(f"kept {path.relative_to(root)}")
    problems = check(root)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print("schemas: every committed record reads all its former versions")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
