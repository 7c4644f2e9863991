"""Checked CEL → stack program over aggregates. What CEL allows and rules do not is refused here, at its place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from emergency_stop.rules.aggregates import AggregateReader, Refused, checked_number, constant_of
from emergency_stop.rules.checked_expr import Node, NodeKind
from emergency_stop.rules.fields import Catalogue, Field
from emergency_stop.rules.model import (
    AGGREGATES_MAX,
    BINARY,
    DEPTH_MAX,
    DISTINCT_DEPTH,
    LIST_BASE,
    LIST_LENGTH_MAX,
    TERNARY,
    UNARY,
    AggregateCall,
    Function,
    Op,
    Program,
)
from emergency_stop.rules.problems import Problems, name_at
from emergency_stop.rules.refusals import ALLOWED, EXAMPLES, TEXTS, enum_of, listing, refusal

_ARITHMETIC: Final = {
    ("_+_", "double"): Op.ADD_D,
    ("_-_", "double"): Op.SUB_D,
    ("_*_", "double"): Op.MUL_D,
    ("_/_", "double"): Op.DIV_D,
    ("_+_", "int"): Op.ADD_I,
    ("_-_", "int"): Op.SUB_I,
    ("_*_", "int"): Op.MUL_I,
    ("_/_", "int"): Op.DIV_I,
    ("_%_", "int"): Op.MOD_I,
}
_LOGIC: Final = {"_&&_": Op.AND, "_||_": Op.OR, "!_": Op.NOT, "_?_:_": Op.CHOOSE}
_NEGATIONS: Final = {"double": Op.NEG_D, "int": Op.NEG_I}
_CONVERSIONS: Final = {("double", "int"): Op.TO_DOUBLE, ("int", "double"): Op.TO_INT}
#: Instruction by comparison; ``!=`` is the negation of ``==``, NaN included.
_COMPARISONS: Final = {
    "_<_": "LESS",
    "_<=_": "LESS_EQUAL",
    "_>_": "GREATER",
    "_>=_": "GREATER_EQUAL",
    "_==_": "EQUAL",
    "_!=_": "EQUAL",
}
_LETTERS: Final = {"double": "D", "int": "I", "bool": "I"}


@dataclass(slots=True)
class _Use:
    """How an aggregate is used: the largest constant that it is compared with, and whether elsewhere too."""

    number: int
    place: int
    limit: int = 0
    is_free: bool = False


class Compiler:
    """One rule's compilation. Problems are collected; after ``Problems.check`` passed, the results are whole."""

    def __init__(self, names: Catalogue, problems: Problems) -> None:
        self._names, self._problems = names, problems
        self._reader = AggregateReader(names, problems)
        self._uses: dict[AggregateCall, _Use] = {}
        self._ops: list[tuple[int, int]] = []
        self._constants: list[float] = []
        self._height = self._height_max = 0

    def compile(self, tree: Node) -> None:
        self._value(tree)
        if self._problems.found:
            return
        start = len(self._problems.text) - len(self._problems.text.lstrip())
        if tree.type != "bool":
            example = EXAMPLES.get(tree.type, "... == ...")
            self._problems.add(start, f"a rule is true or false, but this is {tree.type}: compare it, as in {example}")
        elif not self._uses:
            self._problems.add(start, f"the rule reads no telemetry, so it would never change; {ALLOWED}")

    def aggregates(self) -> tuple[AggregateCall, ...]:
        """With their depths, in order of first appearance. Adds problems where there are too many, or too deep."""
        if len(self._uses) > AGGREGATES_MAX:
            place = list(self._uses.values())[AGGREGATES_MAX].place
            self._problems.add(place, f"{len(self._uses)} different aggregates; allowed are {AGGREGATES_MAX}")
        return tuple(replace(call, depth=self._depth(call, use)) for call, use in self._uses.items())

    def program(self) -> Program:
        ops = np.array(self._ops, np.int64).reshape(-1, 2)
        return Program(ops, np.array(self._constants, np.float64), self._height_max)

    def _depth(self, call: AggregateCall, use: _Use) -> int:
        depth = max(1, use.limit + 1)
        if call.function is Function.COUNT:
            return 0 if use.is_free or depth > DEPTH_MAX else depth
        if call.function is not Function.DISTINCT:
            return 0
        if depth > DEPTH_MAX:
            what = f"distinct tells at most {DEPTH_MAX - 1} values apart, and is compared with {use.limit}: lower that"
            self._problems.add(use.place, what)
        return max(depth, DISTINCT_DEPTH) if use.is_free else depth

    # ------------------------------------------------------------------------------------------- values

    def _value(self, node: Node, against: int | None = None) -> None:
        """Emit what leaves the node's value on the stack. ``against``: the constant that it is compared with."""
        try:
            self._checked_value(node, against)
        except Refused as refused:
            self._problems.add(refused.place, refused.what)

    def _checked_value(self, node: Node, against: int | None) -> None:
        if node.kind is NodeKind.CONST:
            self._constant(node)
        elif node.kind is NodeKind.CALL and not node.receiver:
            self._call(node, against)
        else:
            raise Refused(*self._refused(node))

    def _constant(self, node: Node) -> None:
        if node.type not in _LETTERS:
            raise Refused(*self._refused(node))
        self._emit(Op[f"CONST_{_LETTERS[node.type]}"], self._keep(checked_number(node)))

    def _call(self, node: Node, against: int | None) -> None:
        if node.name in list(Function):
            self._aggregate(node, against)
        elif node.name in _COMPARISONS:
            self._compare(node)
        elif node.name == "@in":
            self._among(node)
        elif node.name in _LOGIC:
            self._operands(node, _LOGIC[node.name])
        elif (node.name, node.type) in _ARITHMETIC:
            self._operands(node, _ARITHMETIC[node.name, node.type])
        elif node.name == "-_" and node.type in _NEGATIONS:
            self._operands(node, _NEGATIONS[node.type])
        elif node.name in ("double", "int"):
            self._convert(node)
        else:
            raise Refused(*self._refused(node))

    def _operands(self, node: Node, op: Op) -> None:
        for operand in node.args:
            self._value(operand)
        self._emit(op)

    def _convert(self, node: Node) -> None:
        (operand,) = node.args
        if operand.type not in ("int", "double"):
            start, _ = name_at(self._problems.text, node.place)
            raise Refused(start, f"{node.name}() converts numbers only, not {operand.type}")
        self._value(operand)
        if operand.type != node.name:
            self._emit(_CONVERSIONS[node.name, operand.type])

    def _aggregate(self, node: Node, against: int | None) -> None:
        call = self._reader.read(node)
        if call is None:
            return
        use = self._uses.setdefault(call, _Use(len(self._uses), name_at(self._problems.text, node.place)[0]))
        use.is_free |= against is None
        use.limit = max(use.limit, against or 0)
        if node.type == "string" and enum_of(self._names, node) is not None and against is None:
            raise Refused(*self._refused(node))
        self._emit(Op.LOAD_D if node.type == "double" else Op.LOAD_I, use.number)

    # -------------------------------------------------------------------------------------- comparisons

    def _compare(self, node: Node) -> None:
        left, right = node.args
        name = _COMPARISONS[node.name]
        if "string" in (left.type, right.type):
            self._compare_enum(node, name)
        elif left.type in _LETTERS:
            self._value(left, _whole(right))
            self._value(right, _whole(left))
            self._emit(Op[f"{name}_{_LETTERS[left.type]}"])
        else:
            raise Refused(node.place, f"numbers, booleans and enums can be compared; {ALLOWED}")
        if node.name == "_!=_":
            self._emit(Op.NOT)

    def _compare_enum(self, node: Node, name: str) -> None:
        left, right = node.args
        call, constant = (right, left) if left.kind is NodeKind.CONST else (left, right)
        field = enum_of(self._names, call)
        if field is None:
            raise Refused(node.place, TEXTS)
        if name != "EQUAL":
            raise Refused(node.place, f"{field.qualified} has no order here: {listing(field)}")
        self._value(call, 0)
        self._emit(Op.CONST_I, self._keep(constant_of(field, constant)))
        self._emit(Op.EQUAL_I)

    def _among(self, node: Node) -> None:
        """``value in [constants]``."""
        value, listed = node.args
        if listed.kind is not NodeKind.LIST or not 1 <= len(listed.args) <= LIST_LENGTH_MAX:
            raise Refused(node.place, f"right of `in` stands a list of 1 to {LIST_LENGTH_MAX} constants: [1, 2]")
        field = enum_of(self._names, value)
        if field is None and value.type == "string":
            raise Refused(node.place, TEXTS)
        if field is None and (value.type not in _LETTERS or any(item.type != value.type for item in listed.args)):
            raise Refused(node.place, "the constants right of `in` must be of the type of what is left of it")
        constants = [self._listed(field, item) for item in listed.args]
        self._value(value, int(max(constants)) if value.type != "double" else None)
        letter = "D" if value.type == "double" else "I"
        first = len(self._constants)
        self._constants += constants
        self._emit(Op[f"IN_{letter}"], first * LIST_BASE + len(constants))

    def _listed(self, field: Field | None, item: Node) -> float:
        if field is not None:
            return constant_of(field, item)
        if item.kind is not NodeKind.CONST:
            raise Refused(item.place, "right of `in` stand constants only")
        return checked_number(item)

    # ---------------------------------------------------------------------------------------- emission

    def _refused(self, node: Node) -> tuple[int, str]:
        return refusal(node, self._names, self._problems.text)

    def _keep(self, value: float) -> int:
        self._constants.append(value)
        return len(self._constants) - 1

    def _emit(self, op: Op, operand: int = 0) -> None:
        self._ops.append((int(op), operand))
        self._height += 1 if op < UNARY else 0 if op < BINARY else -1 if op < TERNARY else -2
        self._height_max = max(self._height_max, self._height)


def _whole(node: Node) -> int | None:
    """A literal that a count is compared with, or ``None``."""
    return node.value if node.kind is NodeKind.CONST and node.type == "int" and isinstance(node.value, int) else None
