"""The words for what CEL allows and rules do not."""

from __future__ import annotations

from typing import Final

from emergency_stop.rules.checked_expr import Node, NodeKind
from emergency_stop.rules.fields import Catalogue, Field, Kind
from emergency_stop.rules.model import Function
from emergency_stop.rules.problems import name_at

ALLOWED: Final = f"allowed: {', '.join(Function)}; + - * / %, comparisons, && || !, ?:, in, double(), int()"
TEXTS: Final = 'a text stands beside the last symbol of an enum only, as in last(detection.severity) == "critical"'
#: How a value of a type becomes a condition.
EXAMPLES: Final = {"double": "... < 40.0", "int": "... > 2"}


def enum_of(names: Catalogue, node: Node) -> Field | None:
    """The enum field whose last value the node is, if it is one."""
    if node.name != Function.LAST or node.receiver or node.args[0].kind is not NodeKind.NAME:
        return None
    field = names.names.get(node.args[0].name.lstrip("."))
    return field if field is not None and field.kind is Kind.ENUM else None


def listing(field: Field) -> str:
    symbols = ", ".join(f'"{symbol}"' for symbol in field.symbols[-2:])
    return f"list the symbols that you mean, as in last({field.qualified}) in [{symbols}]"


def refusal(node: Node, names: Catalogue, text: str) -> tuple[int, str]:
    """Place and words for a node that no rule may have where it is."""
    start, spelled = name_at(text, node.place)
    name = node.name.lstrip(".")
    if name in names.names:
        field = names.names[name]
        return start, _needs_function(field, spelled if spelled in names.names else field.qualified)
    if name in names.topics:
        return start, f'{name} is a topic: write count({name}, "60s") or absent({name}, "60s")'
    if node.kind is NodeKind.CALL:
        if enum_of(names, node) is not None:
            return start, 'the last symbol of an enum can only be compared with a constant, as in == "..."'
        called = spelled or node.name.replace("_[_]", "[...]").strip("_@")
        return start, f"{called} is not available in rules; {ALLOWED}"
    if node.kind is NodeKind.CONST:
        return node.place, f"a constant of this type is not available here; {ALLOWED}"
    return node.place, f"macros, lists, maps, types and messages are not available in rules; {ALLOWED}"


def _needs_function(field: Field, spelled: str) -> str:
    """For a field that stands by itself."""
    if field.kind is Kind.TEXT:
        return f'{spelled} is a text field: count its values with distinct({spelled}, "10m")'
    average = "" if field.kind is Kind.ENUM else f' or avg({spelled}, "60s")'
    return f"{spelled} is a field, and a rule looks at windows: write last({spelled}){average}"
