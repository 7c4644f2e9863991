"""A rule's aggregates and their values in words, for hits, explanations and logs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from emergency_stop.rules.fields import Catalogue, Kind, catalogue, short
from emergency_stop.rules.model import AggregateCall, Function, Predicate, Rule

_UNITS: Final = (("h", 3_600_000), ("m", 60_000), ("s", 1_000))


def describe(rule: Rule, values: Sequence[float | bool | None]) -> str:
    """``avg(health_score, "60s") = 31.2, count(detection, "5m") = 3``; one value per aggregate, ``None``: it has none.

    Raises ``ValueError`` where the numbers of aggregates and values differ.
    """
    names = catalogue()
    pairs = zip(rule.aggregates, values, strict=True)
    return ", ".join(f"{spell(call, names)} = {_value(call, value, names)}" for call, value in pairs)


def spell(call: AggregateCall, names: Catalogue) -> str:
    """The call as a rule would write it, with the shortest names."""
    subject = names.spelling(call.topic, call.field) if call.field else short(call.topic)
    parts = [_rows(call.topic, call.of, names) if call.function is Function.RATIO else subject]
    if call.window_ms:
        parts.append(f'"{_window(call.window_ms)}"')
    if call.where:
        parts.append(_rows(call.topic, call.where, names))
    return f"{call.function}({', '.join(parts)})"


def _rows(topic: str, predicates: tuple[Predicate, ...], names: Catalogue) -> str:
    return " && ".join(
        f"{names.spelling(topic, one.field)} {one.op} {_constant(topic, one.field, one.value, names)}"
        for one in predicates
    )


def _constant(topic: str, name: str, value: float, names: Catalogue) -> str:
    field = names.names[f"{short(topic)}.{name}"]
    if field.kind is Kind.ENUM:
        return f'"{field.symbols[int(value)]}"'
    if field.kind is Kind.BOOL:
        return "true" if value else "false"
    return str(int(value)) if field.kind is Kind.INT and value.is_integer() else repr(value)


def _value(call: AggregateCall, value: float | bool | None, names: Catalogue) -> str:
    if value is None:
        return "no value"
    if call.function is Function.ABSENT:
        return "true" if value else "false"
    if call.is_int:
        return str(int(value))
    kind = names.names[f"{short(call.topic)}.{call.field}"].kind if call.field else Kind.DOUBLE
    if call.function is Function.LAST and kind in (Kind.ENUM, Kind.BOOL):
        return _constant(call.topic, call.field, float(value), names)
    return f"{float(value):.6g}"


def _window(window_ms: int) -> str:
    """In the largest unit of which it is a multiple, and more than one: ``60s``, ``5m``."""
    for unit, unit_ms in _UNITS:
        if window_ms % unit_ms == 0 and (window_ms > unit_ms or unit == "s"):
            return f"{window_ms // unit_ms}{unit}"
    return f"{window_ms}ms"
