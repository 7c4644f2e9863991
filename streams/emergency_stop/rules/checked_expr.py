"""What CEL's library checked: ``cel.expr.CheckedExpr`` on the wire → a tree of nodes with types and places.

No package brings these messages without much else, and a rule needs a tenth of them. Field numbers are those of
``cel/expr/checked.proto`` and ``syntax.proto``, which are stable. Whatever a rule cannot use becomes a node of kind
``other``, to be refused at its place. The library's parser bounds the depth (32), so reading may recurse.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Final

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_Value = int | bytes
#: Field numbers: of CheckedExpr, SourceInfo, Expr, its Call, and Constant.
_REFERENCES, _TYPES, _TREE, _SOURCE = 2, 3, 4, 5
_POSITIONS: Final = 4
_ID, _CONST, _IDENT, _CALL, _LIST = 2, 3, 4, 6, 7
_TARGET, _FUNCTION, _ARGS = 1, 2, 3
_BOOL, _INT64, _DOUBLE, _STRING = 2, 3, 5, 6
_MORE: Final = 0x80  # in a varint's byte: another one follows
#: ``Type.primitive``; every other type is a rule's ``other``.
_PRIMITIVES: Final = {1: "bool", 2: "int", 3: "uint", 4: "double", 5: "string"}
_TYPE_PRIMITIVE: Final = 3


class MalformedMessageError(ValueError):
    """Not the message that this reader knows: a version of cel-expr-python that is not supported."""


class NodeKind(StrEnum):
    CONST = auto()
    NAME = auto()
    CALL = auto()
    LIST = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Node:
    """``place`` is an offset into the rule in characters: an operator's sign, a call's bracket, a name's start.

    ``name`` of a call is CEL's (``_<_``), of a name what it was resolved to. ``args`` of a call on a receiver do
    not begin with it: ``receiver`` says that there is one. ``value`` is a constant's.
    """

    kind: NodeKind
    type: str
    place: int
    name: str = ""
    value: float | bool | str | None = None
    args: tuple[Node, ...] = ()
    receiver: bool = False


def read_checked_expr(message: bytes) -> Node:
    """The tree in a serialised ``google.protobuf.Any`` of a ``CheckedExpr``. Raises ``MalformedMessageError``."""
    try:
        outer = dict(_fields(message))
        if outer.get(1) != b"type.googleapis.com/cel.expr.CheckedExpr":
            raise MalformedMessageError(f"this is no CheckedExpr, but {outer.get(1)!r}")
        return _Reader(_bytes(outer[2])).tree
    except (LookupError, ValueError, OverflowError) as error:
        what = f"this version of cel-expr-python writes what rules cannot read ({error}): install the locked one"
        raise MalformedMessageError(what) from error


class _Reader:
    def __init__(self, message: bytes) -> None:
        self.types: dict[int, str] = {}
        self.places: dict[int, int] = {}
        self.names: dict[int, str] = {}
        tree = b""
        for number, value in _fields(message):
            if number == _REFERENCES:
                key, reference = _entry(value)
                self.names[key] = _text(dict(_fields(reference)).get(1, b""))
            elif number == _TYPES:
                key, kind = _entry(value)
                self.types[key] = _PRIMITIVES.get(_int(dict(_fields(kind)).get(_TYPE_PRIMITIVE, 0)), "other")
            elif number == _TREE:
                tree = _bytes(value)
            elif number == _SOURCE:
                self._source(_bytes(value))
        self.tree = self._node(tree)

    def _source(self, message: bytes) -> None:
        for number, value in _fields(message):
            if number == _POSITIONS:  # zeros are left out of an entry
                entry = dict(_fields(_bytes(value)))
                self.places[_int(entry.get(1, 0))] = _int(entry.get(2, 0))

    def _node(self, message: bytes) -> Node:
        fields = dict(_fields(message))
        key = _int(fields.get(_ID, 0))
        kind, place = self.types.get(key, "other"), self.places.get(key, 0)
        if _CONST in fields:
            return Node(NodeKind.CONST, kind, place, value=_constant(_bytes(fields[_CONST])))
        if _IDENT in fields:
            spelled = _text(dict(_fields(_bytes(fields[_IDENT]))).get(1, b""))
            return Node(NodeKind.NAME, kind, place, self.names.get(key, "") or spelled)
        if _CALL in fields:
            return self._call(kind, place, _bytes(fields[_CALL]))
        if _LIST in fields:
            return Node(NodeKind.LIST, kind, place, args=self._all(_bytes(fields[_LIST]), 1))
        return Node(NodeKind.OTHER, kind, place)

    def _call(self, kind: str, place: int, message: bytes) -> Node:
        fields = dict(_fields(message))
        return Node(
            NodeKind.CALL,
            kind,
            place,
            _text(fields[_FUNCTION]),
            args=self._all(message, _ARGS),
            receiver=_TARGET in fields,
        )

    def _all(self, message: bytes, wanted: int) -> tuple[Node, ...]:
        return tuple(self._node(_bytes(value)) for number, value in _fields(message) if number == wanted)


def _constant(message: bytes) -> float | bool | str | None:
    """Value of a ``Constant``; ``None`` for null, unsigned, bytes and times, which no rule uses."""
    ((number, value),) = _fields(message)
    if number == _BOOL:
        return bool(value)
    if number == _INT64:
        whole = _int(value)
        return whole - 2**64 if whole >= 2**63 else whole
    if number == _DOUBLE:
        return float(struct.unpack("<d", _int(value).to_bytes(8, "little"))[0])
    return _text(value) if number == _STRING else None


def _fields(message: _Value) -> Iterator[tuple[int, _Value]]:
    """(field number, varint or fixed as unsigned int, or bytes) in order. Raises ``MalformedMessageError``."""
    data, at = _bytes(message), 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise MalformedMessageError(f"wire type {wire} at byte {at} of a protobuf message")
        if at + size > len(data):
            raise MalformedMessageError(f"a protobuf message ends inside field {tag >> 3}")
        piece, at = data[at : at + size], at + size
        yield tag >> 3, piece if wire == _BYTES else int.from_bytes(piece, "little")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < _MORE:
            return value, at
    raise MalformedMessageError("a protobuf message ends inside a number")


def _entry(message: _Value) -> tuple[int, _Value]:
    entry = dict(_fields(message))
    return _int(entry.get(1, 0)), entry.get(2, b"")


def _bytes(value: _Value) -> bytes:
    if isinstance(value, int):
        raise MalformedMessageError(f"number {value} where a protobuf message was expected")
    return value


def _int(value: _Value) -> int:
    if isinstance(value, bytes):
        raise MalformedMessageError(f"bytes {value!r} where a number was expected in a protobuf message")
    return value


def _text(value: _Value) -> str:
    return _bytes(value).decode()
