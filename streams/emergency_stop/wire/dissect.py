"""An Avro body taken apart by its writer's schema, as far as it goes: every value with its bytes, and the first fault.

For people who look at one message. The decoders say whether a message is accepted; this says at which byte it is not.
Plain Python, and no length, count or index is believed before it is checked.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

DEPTH_MAX: Final = 32
#: Values of arrays and maps are listed up to here; a message for people needs no more.
PARTS_MAX: Final = 10_000
_VARINT_BYTES_MAX: Final = 10
_INT_MAX: Final = 2**31 - 1
_REALS: Final = {"float": struct.Struct("<f"), "double": struct.Struct("<d")}


@dataclass(frozen=True, slots=True)
class Part:
    """One value: ``path`` as in ``instances[0].service``; ``start`` and ``end`` are offsets in the body."""

    path: str
    kind: str
    start: int
    end: int
    value: Any


@dataclass(frozen=True, slots=True)
class Fault:
    """Where the body stops making sense. ``at`` is an offset in the body, ``expected`` what the schema wants there."""

    path: str
    kind: str
    at: int
    problem: str
    expected: str


@dataclass(frozen=True, slots=True)
class Dissection:
    """What could be read, in order, and why no more; ``fault`` is ``None`` where the whole body is one value."""

    parts: tuple[Part, ...]
    fault: Fault | None

    def part(self, path: str) -> Part | None:
        return next((part for part in self.parts if part.path == path), None)


class _FaultError(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.problem)
        self.fault = fault


def dissect(body: bytes, schema: Mapping[str, Any]) -> Dissection:
    """Take ``body`` apart by the writer's ``schema`` (plain JSON). Never raises for bad bytes."""
    walker = _Walker(body, _named_types(schema))
    try:
        walker.value(schema, "", 0)
        walker.demand_end()
    except _FaultError as error:
        return Dissection(tuple(walker.parts), error.fault)
    return Dissection(tuple(walker.parts), None)


class _Walker:
    """A position in the body, and what was passed."""

    def __init__(self, body: bytes, named: dict[str, Any]) -> None:
        self._body = body
        self._at = 0
        self._named = named
        self.parts: list[Part] = []

    def demand_end(self) -> None:
        more = len(self._body) - self._at
        if more:
            raise self._failed("", "end", self._at, f"{more} bytes follow the last field", "the end of the value")

    def value(self, schema: Any, path: str, depth: int) -> None:
        """Pass one value of ``schema``."""
        if isinstance(schema, str):
            schema = self._named.get(schema.rpartition(".")[2], schema)
        if isinstance(schema, list):
            self._union(schema, path, depth)
            return
        kind = schema["type"] if isinstance(schema, Mapping) else schema
        if isinstance(kind, (list, Mapping)):  # {"type": {…}}, as some writers put it
            self.value(kind, path, depth)
            return
        if kind in {"record", "array", "map"} and depth >= DEPTH_MAX:
            raise self._failed(path, kind, self._at, f"nested deeper than {DEPTH_MAX} levels", "a flatter value")
        if kind == "record":
            for field in schema["fields"]:
                self.value(field["type"], f"{path}.{field['name']}" if path else field["name"], depth + 1)
        elif kind in {"array", "map"}:
            self._blocks(schema, kind, path, depth)
        else:
            self._leaf(schema, kind, path)

    def _leaf(self, schema: Any, kind: str, path: str) -> None:
        start = self._at
        if kind in {"int", "long"}:
            value: Any = self._varint(path, kind)
            if kind == "int" and not -_INT_MAX - 1 <= value <= _INT_MAX:
                raise self._failed(path, kind, start, f"{value} does not fit into 32 bits", "an int")
        elif kind in {"string", "bytes"}:
            value = self._sized(path, kind)
        elif kind in _REALS:
            (value,) = _REALS[kind].unpack(self._take(_REALS[kind].size, path, kind))
        elif kind == "boolean":
            byte = self._take(1, path, kind)[0]
            if byte > 1:
                raise self._failed(path, kind, start, f"the byte is {byte:#04x}", "0x00 (false) or 0x01 (true)")
            value = bool(byte)
        elif kind == "enum":
            value = self._enum(schema, path)
        elif kind == "fixed":
            value = self._take(int(schema["size"]), path, kind)
        elif kind == "null":
            value = None
        else:
            raise self._failed(path, kind, start, f"the schema has no type {kind!r}", "a type of Avro")
        self._keep(path, kind, start, value)

    def _keep(self, path: str, kind: str, start: int, value: Any) -> None:
        if len(self.parts) < PARTS_MAX:
            self.parts.append(Part(path, kind, start, self._at, value))

    def _enum(self, schema: Mapping[str, Any], path: str) -> str:
        start, symbols = self._at, schema["symbols"]
        index = self._varint(path, "enum")
        if not 0 <= index < len(symbols):
            allowed = ", ".join(f"{number} {symbol}" for number, symbol in enumerate(symbols))
            raise self._failed(path, "enum", start, f"the index is {index}", f"one of {allowed}")
        return str(symbols[index])

    def _union(self, branches: list[Any], path: str, depth: int) -> None:
        start = self._at
        branch = self._varint(path, "union")
        if not 0 <= branch < len(branches):
            allowed = ", ".join(f"{number} {_kind_of(one)}" for number, one in enumerate(branches))
            raise self._failed(path, "union", start, f"the branch is {branch}", f"one of {allowed}")
        self.value(branches[branch], path, depth)

    def _blocks(self, schema: Mapping[str, Any], kind: str, path: str, depth: int) -> None:
        index, items = 0, schema["items" if kind == "array" else "values"]
        while count := self._block(path, kind, index):
            for number in range(index, index + count):
                name = str(number) if kind == "array" else self._sized(f"{path} (a key)", "string")
                self.value(items, f"{path}[{name}]", depth + 1)
            index += count

    def _block(self, path: str, kind: str, before: int) -> int:
        start = self._at
        count = self._varint(path, kind)
        if count < 0:
            count, size = -count, self._varint(path, kind)
            if not 0 <= size <= len(self._body) - self._at:
                raise self._failed(path, kind, start, f"a block of {size} bytes", "no more bytes than follow")
        if count + before > len(self._body):
            raise self._failed(path, kind, start, f"{count} items are claimed", "no more items than bytes")
        return count

    def _sized(self, path: str, kind: str) -> Any:
        start = self._at
        length, left = self._varint(path, kind), len(self._body) - self._at
        if not 0 <= length <= left:
            raise self._failed(path, kind, start, f"the length is {length}, and {left} bytes follow", f"0 to {left}")
        data = self._take(length, path, kind)
        if kind == "bytes":
            return data
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            at = self._at - length + error.start
            raise self._failed(path, kind, at, f"the byte is {data[error.start]:#04x}", "UTF-8") from None

    def _varint(self, path: str, kind: str) -> int:
        """A zigzag varint of at most 64 bits."""
        start, raw = self._at, 0
        for number in range(_VARINT_BYTES_MAX):
            byte = self._take(1, path, kind)[0]
            raw |= (byte & 0x7F) << (7 * number)
            if byte < 0x80:  # noqa: PLR2004  (the bit that says that more follow)
                if raw >= 2**64:
                    break
                return (raw >> 1) ^ -(raw & 1)
        raise self._failed(path, kind, start, "a varint of more than 64 bits", "a zigzag varint of at most 10 bytes")

    def _take(self, size: int, path: str, kind: str) -> bytes:
        left = len(self._body) - self._at
        if size > left:
            raise self._failed(path, kind, self._at, f"the body ends: {left} bytes are left", f"{size} bytes of {kind}")
        self._at += size
        return self._body[self._at - size : self._at]

    def _failed(self, path: str, kind: str, at: int, problem: str, expected: str) -> _FaultError:
        return _FaultError(Fault(path, kind, at, problem, expected))


def _named_types(schema: Any) -> dict[str, Any]:
    """Every record, enum and fixed of ``schema`` by its name without namespace, wherever it is defined."""
    if isinstance(schema, list):
        inner = list(schema)
    elif isinstance(schema, Mapping):
        inner = [field["type"] for field in schema.get("fields", ())]
        inner += [schema[name] for name in ("items", "values", "type") if not isinstance(schema.get(name, ""), str)]
    else:
        return {}
    found = {name: one for part in inner for name, one in _named_types(part).items()}
    if isinstance(schema, Mapping) and "name" in schema:
        found[str(schema["name"]).rpartition(".")[2]] = schema
    return found


def _kind_of(schema: Any) -> str:
    return str(schema.get("name", schema["type"])) if isinstance(schema, Mapping) else str(schema)
