"""Rules that are always or never true, and that no rule is called so which the compiled program contradicts."""

from __future__ import annotations

import random

import numpy as np
import pytest

from emergency_stop.detect.rule_kernels import run_program
from emergency_stop.rules.language import AggregateCall, Function, compile_rule
from emergency_stop.rules.reach import EITHER, FALSE, TRUE, Range, outcomes

AVG, COUNT = 'avg(health_score, "60s")', 'count(detection, "5m")'


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (f"{AVG} < 40.0", EITHER),
        (f"{AVG} < 0.0", FALSE),
        (f"{AVG} < 100.5", TRUE),
        (f"{AVG} > 100.0", FALSE),
        (f"{AVG} <= 100.0", TRUE),
        (f"{COUNT} >= 0", TRUE),
        (f"{COUNT} < 0", FALSE),
        (f"{COUNT} >= 1", EITHER),
        (f"{AVG} < 40.0 || true", TRUE),
        (f"{AVG} < 40.0 && false", FALSE),
        (f"!({COUNT} >= 0)", FALSE),
        (f"{COUNT} + 1 > 0", TRUE),
        (f"{COUNT} - 1 > 0", EITHER),
        (f"-{AVG} > 1.0", FALSE),
        (f"{AVG} * 2.0 > 200.0", FALSE),
        (f"{AVG} / 2.0 > 200.0", EITHER),  # not decided: a division may give anything
        ('ratio(platform.outcome == "failed", "2m") > 1.0', FALSE),
        (f"{COUNT} > 2 ? {AVG} < 0.0 : {AVG} > 100.0", FALSE),
        (f"int({AVG}) > 100", FALSE),
        (f"{COUNT} in [-1, -2]", FALSE),
        (f"{COUNT} in [1, 2]", EITHER),
        (f"{AVG} < 40.0 && {AVG} > 60.0", EITHER),  # not decided: both are taken to vary apart
        ('sum(cpu_percent, "60s") < 0.0', EITHER),
    ],
)
def test_what_a_rule_can_come_to(rule: str, expected: Range) -> None:
    assert outcomes(compile_rule(rule)) == expected


def _comparison(rng: random.Random) -> str:
    left, right = (
        (AVG, f"{rng.choice((-5, 0, 40, 100, 105))}.0")
        if rng.random() < 0.5
        else (COUNT, str(rng.choice((-1, 0, 1, 5))))
    )
    return f"{left} {rng.choice(('<', '<=', '>', '>=', '==', '!='))} {right}"


def _rule(rng: random.Random, depth: int) -> str:
    if not depth:
        return _comparison(rng)
    a, b, c = (_rule(rng, depth - 1) for _ in range(3))
    return rng.choice((f"!({a})", f"({a}) && ({b})", f"({a}) || ({b})", f"(({a}) ? ({b}) : ({c}))"))


def _values(rng: random.Random, call: AggregateCall, rows: int) -> list[float]:
    if call.function is Function.COUNT:
        return [float(rng.choice((0, 1, 5, 6))) for _ in range(rows)]
    return [rng.choice((0.0, 40.0, 100.0, rng.uniform(0, 100))) for _ in range(rows)]


def test_what_is_decided_is_what_the_compiled_program_says() -> None:
    """1,500 random rules on 40 rows of values each; seed 3."""
    rng, decided = random.Random(3), 0
    for _ in range(1_500):
        text = _rule(rng, rng.randint(0, 2))
        rule = compile_rule(text)
        expected = outcomes(rule)
        values = np.array([_values(rng, call, 40) for call in rule.aggregates])
        out = np.empty(40, np.uint8)
        run_program(rule.program.ops, rule.program.constants, rule.program.stack_max, values,
                    np.ones_like(values, np.uint8), out)  # fmt: skip
        assert expected[0] <= out.min() <= out.max() <= expected[1], text
        decided += expected != EITHER
    assert decided >= 200
