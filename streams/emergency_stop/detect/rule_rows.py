"""A rule in CEL on rows: what its program reads of the series, and what it comes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from emergency_stop.columnar.columns import F64, U8
from emergency_stop.detect.rule_kernels import run_program
from emergency_stop.detect.window_kernels import NEVER_SEEN
from emergency_stop.detect.windows import Folded
from emergency_stop.rules.language import AggregateCall, Function, Program, Rule

#: Aggregates that have a value where the window is empty: nothing was counted.
_COUNTING: Final = (Function.COUNT, Function.DISTINCT)


def run_rule(rule: Rule, seen: Sequence[Folded]) -> U8:
    """Per row: 0 false, 1 true, 2 no value."""
    return run_on_inputs(rule.program, *rule_inputs(rule.aggregates, seen))


def run_on_inputs(program: Program, values: F64, known: U8) -> U8:
    """As ``run_rule``, from what ``rule_inputs`` gives."""
    holds = np.empty(values.shape[1], np.uint8)
    run_program(program.ops, program.constants, program.stack_max, values, known, holds)
    return holds


def best_order(seen: Sequence[Folded]) -> U8:
    """How a row stands to the window that it stands to best."""
    order = seen[0].order
    for one in seen[1:]:
        order = np.minimum(order, one.order)
    return order


def rule_inputs(aggregates: Sequence[AggregateCall], seen: Sequence[Folded]) -> tuple[F64, U8]:
    """What a rule's program reads: (value, whether there is one) per aggregate and row."""
    n = len(seen[0].value) if seen else 0
    values, known = np.empty((len(seen), n), np.float64), np.ones((len(seen), n), np.uint8)
    for index, (call, one) in enumerate(zip(aggregates, seen, strict=True)):
        if call.function is Function.ABSENT:
            values[index] = one.value == 0
            known[index] = one.order != NEVER_SEEN
            continue
        values[index] = one.value
        if call.function not in _COUNTING:
            known[index] = one.samples > 0
    return values, known
