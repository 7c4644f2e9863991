"""Compiled programs agree with CEL's own library, errors included."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from cel_expr_python import cel

from emergency_stop.detect.rule_kernels import BLOCK, run_program
from emergency_stop.rules.language import Rule, compile_rule
from tests.oracle.rules import SYMBOLS, RandomRule, true_or_false

SEED = int(os.environ.get("SEED", "20"))
RULES, ROWS = 800, 8
ANSWERS = {0: False, 1: True, 2: None}


def run(rule: Rule, rows: Sequence[Sequence[Any]]) -> list[bool | None]:
    """The program's answers; ``None`` among a row's values is no value, a text its enum index."""
    values = np.full((len(rule.aggregates), len(rows)), np.nan)
    known = np.zeros(values.shape, np.uint8)
    for row, given in enumerate(rows):
        for number, value in enumerate(given):
            if value is not None:
                values[number, row] = SYMBOLS.index(value) if isinstance(value, str) else value
                known[number, row] = 1
    out = np.full(len(rows), 9, np.uint8)
    program = rule.program
    run_program(program.ops, program.constants, program.stack_max, values, known, out)
    return [ANSWERS[int(answer)] for answer in out]


def test_random_rules_agree_with_cel_on_random_values() -> None:
    """True, false and error, over overflow, division by zero, NaN, infinities and missing values."""
    seen: Counter[bool | None] = Counter()
    for number in range(RULES):
        made = RandomRule(Random(f"{SEED}-{number}"))
        rule = compile_rule(made.text)
        rows = [[made.value(leaf) for leaf in range(len(made.leaves))] for _ in range(ROWS)]
        wanted = made.judged(rows)
        assert run(rule, rows) == wanted, f"seed {SEED}-{number}: {made.text} on {rows}"
        seen.update(wanted)
    assert min(seen[True], seen[False], seen[None]) > RULES, f"one-sided, so that little was compared: {seen}"


def test_an_error_of_the_library_is_truthy_and_must_not_count_as_true() -> None:
    """What a caller would run into that wrote ``if expression.eval(...)``."""
    missing = cel.NewEnv(variables={"x": cel.Type.DOUBLE}).compile("x < 40.0").eval(data={})
    assert missing.type() == cel.Type.ERROR
    assert bool(missing)
    assert bool(missing.value())
    assert true_or_false(missing) is None
    assert run(compile_rule('avg(health_score, "60s") < 40.0'), [[None]]) == [None]


@pytest.mark.parametrize("n", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
def test_every_row_has_its_own_answer_wherever_blocks_end(n: int) -> None:
    rule = compile_rule('count(detection, "5m") % 3 == 1')
    rows = [[None if row % 5 == 4 else row] for row in range(n)]
    assert run(rule, rows) == [None if row % 5 == 4 else row % 3 == 1 for row in range(n)]


@pytest.mark.parametrize(
    ("text", "a", "b", "wanted"),
    [
        # a missing side decides nothing, but does not stand in the way of a side that decides alone
        ("{a} && {b}", False, None, False),
        ("{a} && {b}", None, False, False),
        ("{a} && {b}", True, None, None),
        ("{a} && {b}", None, None, None),
        ("{a} || {b}", True, None, True),
        ("{a} || {b}", None, True, True),
        ("{a} || {b}", False, None, None),
        ("!{a} || {b}", None, False, None),
        # only the chosen branch counts
        ("{a} ? {b} : true", False, None, True),
        ("{a} ? {b} : true", True, None, None),
        ("{a} ? true : {b}", None, True, None),
    ],
)
def test_missing_values_are_three_valued_logic(text: str, a: bool | None, b: bool | None, wanted: bool | None) -> None:
    rule = compile_rule(text.format(a='absent(health, "30s")', b='absent(system, "30s")'))
    assert run(rule, [[a, b]]) == [wanted]


@pytest.mark.parametrize(
    ("text", "value", "wanted"),
    [
        ("{n} * 9007199254740992 > 0", 1023, True),
        ("{n} * 9007199254740992 > 0", 1024, None),  # 2^63
        ("-{n} * 9007199254740992 < 0", 1024, True),  # -2^63 is the lowest
        ("-(-{n} * 9007199254740992) > 0", 1024, None),  # and has no counterpart
        ("-{n} * 9007199254740992 / -1 > 0", 1024, None),
        ("-{n} * 9007199254740992 % -1 == 0", 1024, None),
        ("{n} * 9007199254740992 * 9007199254740992 > 0", 2**53, None),
        ("{n} * 9007199254740992 + {n} * 9007199254740992 > 0", 511, True),
        ("{n} * 9007199254740992 + {n} * 9007199254740992 > 0", 512, None),
        ("-{n} * 9007199254740992 - {n} * 9007199254740992 < 0", 512, True),
        ("-{n} * 9007199254740992 - {n} * 9007199254740992 < 0", 513, None),
        ("1 / {n} == 0", 0, None),
        ("1 % {n} == 0", 0, None),
        ("-7 / {n} == -3 && -7 % {n} == -1", 2, True),  # towards zero
        ("1.0 / double({n}) > 1e308", 0, True),  # doubles have infinities
        ("int(1e18 * double({n})) > 0", 9, True),
        ("int(1e18 * double({n})) > 0", 10, None),
        ("{n} * 9007199254740992 + 1 == {n} * 9007199254740992", 3, False),  # exact beyond 2^53
    ],
)
def test_whole_numbers_overflow_where_cels_do(text: str, value: int, wanted: bool | None) -> None:
    assert run(compile_rule(text.format(n='count(detection, "5m")')), [[value]]) == [wanted]
    plain = cel.NewEnv(variables={"n": cel.Type.INT}).compile(text.format(n="n"))
    assert true_or_false(plain.eval(data={"n": value})) is wanted
