"""CEL's environment for rules: which names there are, and which arguments each function takes.

Topics and texts are types of their own, so that CEL's checker itself refuses ``avg(proxy_id, "5m")`` or a text
compared with a constant. Enums are strings to it; their symbols are checked where they are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from cel_expr_python import cel

from emergency_stop.rules.fields import Catalogue, Kind, catalogue
from emergency_stop.rules.model import Function

_TOPIC: Final = cel.Type.AbstractType("topic")
_TEXT: Final = cel.Type.AbstractType("text")
_TYPES: Final = {
    Kind.DOUBLE: cel.Type.DOUBLE,
    Kind.INT: cel.Type.INT,
    Kind.BOOL: cel.Type.BOOL,
    Kind.ENUM: cel.Type.STRING,
    Kind.TEXT: _TEXT,
}
_NUMBERS: Final = (Kind.DOUBLE, Kind.INT, Kind.BOOL)
_COMPARABLE: Final = (*_NUMBERS, Kind.ENUM)


@dataclass(frozen=True, slots=True)
class Signature:
    """How a function is called. ``kinds`` of its field; none where it takes a topic or a condition on rows instead."""

    usage: str
    meaning: str
    kinds: tuple[Kind, ...]
    result: cel.Type | None  # None: the field's
    windowed: bool = True


_FIELD_WINDOW: Final = "(field, window[, rows])"
SIGNATURES: Final[dict[Function, Signature]] = {
    Function.AVG: Signature(f"avg{_FIELD_WINDOW}", "the average", _NUMBERS, cel.Type.DOUBLE),
    Function.MIN: Signature(f"min{_FIELD_WINDOW}", "the lowest value", _NUMBERS, cel.Type.DOUBLE),
    Function.MAX: Signature(f"max{_FIELD_WINDOW}", "the highest value", _NUMBERS, cel.Type.DOUBLE),
    Function.SUM: Signature(f"sum{_FIELD_WINDOW}", "the sum", _NUMBERS, cel.Type.DOUBLE),
    Function.COUNT: Signature("count(topic, window[, rows])", "how many events", (), cel.Type.INT),
    Function.DISTINCT: Signature(
        f"distinct{_FIELD_WINDOW}", "how many different values", (*_COMPARABLE, Kind.TEXT), cel.Type.INT
    ),
    Function.RATIO: Signature("ratio(rows, window[, rows])", "the share of events, 0 to 1", (), cel.Type.DOUBLE),
    Function.LAST: Signature("last(field[, rows])", "the newest value", _COMPARABLE, None, windowed=False),
    Function.ABSENT: Signature("absent(topic, window[, rows])", "whether there is no event", (), cel.Type.BOOL),
}


@cache
def environment() -> cel.Env:
    """For the committed schemas; made once, used for every rule."""
    return environment_of(catalogue())


def environment_of(names: Catalogue) -> cel.Env:
    variables = {name: _TYPES[field.kind] for name, field in names.names.items()}
    variables |= dict.fromkeys(names.topics, _TOPIC)
    return cel.NewEnv(variables=variables, functions=[_declared(function) for function in Function])


def _declared(function: Function) -> cel.FunctionDecl:
    overloads = [
        cel.Overload(f"{function}_{number}", return_type=result, parameters=parameters)
        for number, (result, parameters) in enumerate(_overloads(function))
    ]
    return cel.FunctionDecl(str(function), overloads)


def _overloads(function: Function) -> Iterator[tuple[cel.Type, list[cel.Type]]]:
    """(result, parameters) with and without the condition on rows, for every kind of subject."""
    signature = SIGNATURES[function]
    window = [cel.Type.STRING] if signature.windowed else []
    for subject in _subjects(function):
        result = signature.result or (cel.Type.DOUBLE if subject == cel.Type.INT else subject)
        yield result, [subject, *window]
        yield result, [subject, *window, cel.Type.BOOL]


def _subjects(function: Function) -> list[cel.Type]:
    if function in (Function.COUNT, Function.ABSENT):
        return [_TOPIC]
    if function is Function.RATIO:
        return [cel.Type.BOOL]
    return [_TYPES[kind] for kind in SIGNATURES[function].kinds]
