"""Whether a rule can be false, and whether it can be true: its program run on ranges instead of values.

Each aggregate stands for all values that it can have, so what the ranges exclude no telemetry brings about. What
they admit may still not happen: two aggregates of one field are taken to vary apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from emergency_stop.rules.fields import Kind, catalogue, short
from emergency_stop.rules.model import BINARY, LIST_BASE, TERNARY, UNARY, AggregateCall, Function, Op, Program, Rule

#: (lowest, highest) value.
Range = tuple[float, float]
ANYTHING: Final[Range] = (-math.inf, math.inf)
FALSE: Final[Range] = (0, 0)
TRUE: Final[Range] = (1, 1)
EITHER: Final[Range] = (0, 1)
_SCORE: Final[Range] = (0, 100)


def outcomes(rule: Rule, given: Sequence[Range] | None = None) -> Range:
    """``FALSE``, ``TRUE`` or ``EITHER``: what the rule can come to while its aggregates have values, or values within
    ``given`` ranges, one per aggregate.
    """
    ranges = [range_of(call) for call in rule.aggregates] if given is None else given
    stack: list[Range] = []
    for number, operand in rule.program.ops.tolist():
        op = Op(number)
        if op < UNARY:
            stack.append(_pushed(rule, ranges, op, operand))
            continue
        taken = 1 if op < BINARY else 2 if op < TERNARY else 3
        operands = [stack.pop() for _ in range(taken)][::-1]
        stack.append(_among(rule.program, operand, operands[0]) if op in (Op.IN_D, Op.IN_I) else _APPLY[op](*operands))
    return stack[0]


def _pushed(rule: Rule, ranges: Sequence[Range], op: Op, operand: int) -> Range:
    if op in (Op.LOAD_D, Op.LOAD_I):
        return ranges[operand]
    constant = float(rule.program.constants[operand])
    return constant, constant


def range_of(call: AggregateCall) -> Range:
    """The values that an aggregate can have."""
    if call.function in (Function.COUNT, Function.DISTINCT):
        return 0, math.inf
    if call.function in (Function.RATIO, Function.ABSENT):
        return EITHER
    field = catalogue().names[f"{short(call.topic)}.{call.field}"]
    low, high = _SCORE if call.field.endswith("_score") else ANYTHING
    if field.kind is Kind.BOOL:
        low, high = EITHER
    elif field.kind is Kind.ENUM:
        low, high = 0, len(field.symbols) - 1
    return (low, math.inf if low >= 0 else high) if call.function is Function.SUM else (low, high)


def _among(program: Program, operand: int, value: Range) -> Range:
    first, count = divmod(operand, LIST_BASE)
    listed = [float(one) for one in program.constants[first : first + count]]
    inside = [one for one in listed if value[0] <= one <= value[1]]
    return FALSE if not inside else TRUE if value[0] == value[1] else EITHER


def _decided(low: bool, high: bool) -> Range:
    """A comparison that holds at all values, at none, or at some."""
    return TRUE if low else EITHER if high else FALSE


def _less(a: Range, b: Range) -> Range:
    return _decided(a[1] < b[0], a[0] < b[1])


def _less_equal(a: Range, b: Range) -> Range:
    return _decided(a[1] <= b[0] and math.isfinite(a[1]), a[0] <= b[1])


def _equal(a: Range, b: Range) -> Range:
    return _decided(a == b and a[0] == a[1], a[0] <= b[1] and b[0] <= a[1])


def _added(a: Range, b: Range) -> Range:
    return _numbers(a[0] + b[0], a[1] + b[1])


def _times(a: Range, b: Range) -> Range:
    return _numbers(*(one * other for one in a for other in b))


def _numbers(*values: float) -> Range:
    """From the least to the greatest; anything where infinities met and left no number."""
    return ANYTHING if any(map(math.isnan, values)) else (min(values), max(values))


def _unknown(*_: Range) -> Range:
    """Of a division: by next to nothing, by nothing, or what is left over."""
    return ANYTHING


def _negated(a: Range) -> Range:
    return -a[1], -a[0]


def _whole(a: Range) -> Range:
    low, high = (math.trunc(one) if math.isfinite(one) else one for one in a)
    return low, high


def _chosen(condition: Range, yes: Range, no: Range) -> Range:
    if condition[0] == condition[1]:
        return yes if condition == TRUE else no
    return min(yes[0], no[0]), max(yes[1], no[1])


_APPLY: Final[dict[Op, Callable[..., Range]]] = {
    Op.NOT: lambda a: (1 - a[1], 1 - a[0]),
    Op.NEG_D: _negated,
    Op.NEG_I: _negated,
    Op.TO_DOUBLE: lambda a: a,
    Op.TO_INT: _whole,
    Op.ADD_D: _added,
    Op.ADD_I: _added,
    Op.SUB_D: lambda a, b: _added(a, _negated(b)),
    Op.SUB_I: lambda a, b: _added(a, _negated(b)),
    Op.MUL_D: _times,
    Op.MUL_I: _times,
    Op.DIV_D: _unknown,
    Op.DIV_I: _unknown,
    Op.MOD_I: _unknown,
    Op.LESS_D: _less,
    Op.LESS_I: _less,
    Op.LESS_EQUAL_D: _less_equal,
    Op.LESS_EQUAL_I: _less_equal,
    Op.GREATER_D: lambda a, b: _less(b, a),
    Op.GREATER_I: lambda a, b: _less(b, a),
    Op.GREATER_EQUAL_D: lambda a, b: _less_equal(b, a),
    Op.GREATER_EQUAL_I: lambda a, b: _less_equal(b, a),
    Op.EQUAL_D: _equal,
    Op.EQUAL_I: _equal,
    Op.AND: lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    Op.OR: lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    Op.CHOOSE: _chosen,
}
