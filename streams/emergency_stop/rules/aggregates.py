"""A call such as ``avg(health_score, "60s", rows)`` → ``AggregateCall``: subject, window, and conditions on rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import Final

from emergency_stop.domain.triggers import WINDOW_MS_MAX, WINDOW_MS_MIN
from emergency_stop.rules.checked_expr import Node, NodeKind
from emergency_stop.rules.environment import SIGNATURES
from emergency_stop.rules.fields import Catalogue, Field, Kind, short
from emergency_stop.rules.model import WHOLE_MAX, AggregateCall, Function, Predicate
from emergency_stop.rules.problems import Problems, name_at, nearest

_WINDOW: Final = re.compile(r"([0-9]{1,9})(ms|s|m|h)")
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_COMPARISONS: Final = {"_==_": "==", "_!=_": "!=", "_<_": "<", "_<=_": "<=", "_>_": ">", "_>=_": ">="}
_FLIPPED: Final = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_ROWS: Final = "a condition on rows compares fields with constants and joins them with &&"


class Refused(Exception):
    """A part that cannot be used: place and words. Caught within this package, where it becomes a problem."""

    def __init__(self, place: int, what: str) -> None:
        super().__init__(what)
        self.place, self.what = place, what


@dataclass(frozen=True, slots=True)
class AggregateReader:
    """Reads calls of the aggregate functions that CEL's checker has passed; what is wrong goes to ``problems``."""

    names: Catalogue
    problems: Problems

    def read(self, call: Node) -> AggregateCall | None:
        """Depth is left 0. ``None`` where something was refused; every argument is looked at."""
        function = Function(call.name)
        signature = SIGNATURES[function]
        topic, field, of = self._subject(function, call.args[0])
        window_ms = self._window_ms(call.args[1]) if signature.windowed else 0
        rest = call.args[2 if signature.windowed else 1 :]
        where = self._rows(rest[0], topic) if rest else ()
        if topic is None or of is None or window_ms is None or where is None:
            return None
        is_int = function in (Function.COUNT, Function.DISTINCT)
        return AggregateCall(function, topic, field, of, where, window_ms, 0, is_int)

    def _subject(self, function: Function, node: Node) -> tuple[str | None, str, tuple[Predicate, ...] | None]:
        """(topic, field, of what the ratio is) of the first argument."""
        if function is Function.RATIO:
            topic = next((self.names.names[name].topic for name in _names_in(node) if name in self.names.names), None)
            return topic, "", self._rows(node, topic)
        if node.kind is NodeKind.NAME and node.name in self.names.topics:
            return self.names.topics[node.name], "", ()
        field = self._field(node)
        if field is None:
            subject = "topic" if not SIGNATURES[function].kinds else "field"
            self.problems.add(
                self._start(node), f"{function} needs the name of a {subject} here: {SIGNATURES[function].usage}"
            )
            return None, "", ()
        return field.topic, field.name, ()

    def _start(self, node: Node) -> int:
        """Where a name or a function's name begins; an operator's own place."""
        is_named = node.kind is NodeKind.NAME or node.name[:1].isalpha()
        return name_at(self.problems.text, node.place)[0] if is_named else node.place

    def _field(self, node: Node) -> Field | None:
        return self.names.names.get(node.name.lstrip(".")) if node.kind is NodeKind.NAME else None

    def _window_ms(self, node: Node) -> int | None:
        found = _WINDOW.fullmatch(node.value) if isinstance(node.value, str) else None
        if found is None:
            what = f'"{node.value}" is no window' if isinstance(node.value, str) else "the window must be a constant"
            self.problems.add(node.place, f'{what}: write a number and ms, s, m or h in quotes, such as "60s" or "5m"')
            return None
        window_ms = int(found[1]) * _UNIT_MS[found[2]]
        if WINDOW_MS_MIN <= window_ms <= WINDOW_MS_MAX:
            return window_ms
        self.problems.add(node.place, f'the window "{node.value}" is out of range: allowed are "1s" to "24h"')
        return None

    # -------------------------------------------------------------------------------- conditions on rows

    def _rows(self, node: Node, topic: str | None) -> tuple[Predicate, ...] | None:
        """Sorted and without repeats. ``topic``: the one that all fields must be of."""
        found: set[Predicate] = set()
        is_good = True
        for part in _conjuncts(node):
            try:
                found |= set(self._predicates(part, topic))
            except Refused as refused:
                self.problems.add(refused.place, refused.what)
                is_good = False
        return tuple(sorted(found)) if is_good else None

    def _predicates(self, node: Node, topic: str | None) -> list[Predicate]:
        """One condition; an ``in`` becomes several that hold together."""
        if node.kind is NodeKind.NAME:
            return [self._flag(node, topic, 1.0)]
        if node.name == "!_" and node.args[0].kind is NodeKind.NAME:
            return [self._flag(node.args[0], topic, 0.0)]
        if node.name == "@in":
            return self._among(node, topic)
        if node.name not in _COMPARISONS or node.receiver:
            why = "; for ||, use two aggregates, or `in`" if node.name == "_||_" else ""
            raise Refused(node.place, _ROWS + why)
        left, right = node.args
        op = _COMPARISONS[node.name]
        if left.kind is NodeKind.CONST:
            left, right, op = right, left, _FLIPPED[op]
        field = self._row_field(left, topic)
        return [Predicate(field.name, op, constant_of(field, right))]

    def _flag(self, node: Node, topic: str | None, value: float) -> Predicate:
        return Predicate(self._row_field(node, topic).name, "==", value)

    def _among(self, node: Node, topic: str | None) -> list[Predicate]:
        """``field in ["a", "b"]`` of an enum: from its lowest to its highest symbol, without those between."""
        field = self._row_field(node.args[0], topic)
        listed = node.args[1]
        if field.kind is not Kind.ENUM or listed.kind is not NodeKind.LIST or not listed.args:
            raise Refused(node.place, 'on rows, `in` picks among the symbols of an enum: kind in ["api_call", "other"]')
        chosen = {int(constant_of(field, item)) for item in listed.args}
        low, high = min(chosen), max(chosen)
        holes = [Predicate(field.name, "!=", float(index)) for index in range(low, high) if index not in chosen]
        return [Predicate(field.name, ">=", float(low)), Predicate(field.name, "<=", float(high)), *holes]

    def _row_field(self, node: Node, topic: str | None) -> Field:
        field = self._field(node)
        if field is None:
            raise Refused(self._start(node), _ROWS)
        if topic is not None and field.topic != topic:
            other = f"{field.qualified} is of topic {short(field.topic)}, the aggregate is over {short(topic)}"
            raise Refused(self._start(node), f"{other}: a condition on rows sees the fields of its own topic only")
        return field


def constant_of(field: Field, node: Node) -> float:
    """What ``field`` is compared with. Raises ``Refused`` for anything but a constant of its kind."""
    value = node.value
    if node.kind is not NodeKind.CONST or value is None:
        raise Refused(node.place, f"{field.qualified} can only be compared with a constant")
    if isinstance(value, str):
        if value in field.symbols:
            return float(field.symbols.index(value))
        known = f"{nearest(value, field.symbols)} (symbols: {', '.join(field.symbols)})"
        raise Refused(node.place, f'{field.qualified} has no symbol "{value}"{known}')
    return checked_number(node)


def checked_number(node: Node) -> float:
    """A constant as float64. Raises ``Refused`` where it would not be exact, or is infinite."""
    value = node.value
    if isinstance(value, int) and abs(value) > WHOLE_MAX:
        raise Refused(node.place, f"{value} is out of range: whole numbers are allowed up to 2^53, {WHOLE_MAX}")
    number = float(value)  # type: ignore[arg-type]  # a number or flag: callers took texts out
    if not isfinite(number):
        raise Refused(node.place, "the constant is too large for a double: allowed up to 1.797e308")
    return number


def _conjuncts(node: Node) -> list[Node]:
    if node.name == "_&&_":
        return [part for side in node.args for part in _conjuncts(side)]
    return [node]


def _names_in(node: Node) -> list[str]:
    own = [node.name.lstrip(".")] if node.kind is NodeKind.NAME else []
    return own + [name for part in node.args for name in _names_in(part)]
