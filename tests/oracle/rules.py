"""Random well-typed rules, and what CEL's own library makes of them: the oracle of compiled programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from cel_expr_python import cel

SYMBOLS: Final = ("low", "medium", "high", "critical")
_TYPES: Final = {"int": cel.Type.INT, "double": cel.Type.DOUBLE, "bool": cel.Type.BOOL, "string": cel.Type.STRING}
_DOUBLES: Final = (0.0, -0.0, 1.0, 0.5, -2.5, 3.0, 40.0, 1e300, -1e300, 5e-324, math.inf, -math.inf, math.nan, 2.0**63)
_INTS: Final = (0, 1, 2, 3, 7, 100, 2**31, 2**52 + 1, 2**53)
_LEAVES: Final = {
    "double": (
        'avg(health_score, "60s")',
        "last(risk_score)",
        'ratio(platform.outcome == "failed", "2m", kind == "api_call")',
        'max(confidence, "5m")',
    ),
    "int": (
        'count(detection, "5m")',
        'count(health, "1h", health_score < 50.0)',
        'count(platform, "10m", kind != "other")',
    ),
    "bool": ('absent(health, "30s")', 'absent(system, "1m")'),
    "string": ("last(detection.severity)",),
}


@dataclass(slots=True)
class RandomRule:
    """``text`` is the rule; ``plain`` the same with variables ``x0``, ``x1``, … where aggregates were."""

    random: Random
    leaves: list[str] = field(default_factory=list)  # in order of first appearance, as a rule's aggregates are
    types: list[str] = field(default_factory=list)
    plain: str = ""

    def __post_init__(self) -> None:
        while not self.leaves:
            self.plain = self._bool(self.random.randint(1, 5))

    @property
    def text(self) -> str:
        text = self.plain
        for number in reversed(range(len(self.leaves))):
            text = text.replace(f"x{number}", self.leaves[number])
        return text

    def value(self, number: int) -> Any:
        """A random value of a leaf, now and then ``None`` for none."""
        kind = self.types[number]
        if self.random.random() < 0.2:
            return None
        if kind == "double":
            return self.random.choice((*_DOUBLES, self.random.uniform(-100, 100)))
        if kind == "int":
            return self.random.choice(_INTS)
        return self.random.choice(SYMBOLS) if kind == "string" else self.random.random() < 0.5

    def judged(self, rows: Sequence[Sequence[Any]]) -> list[bool | None]:
        """What CEL says of every row of values, ``None`` for an error."""
        variables = {f"x{number}": _TYPES[kind] for number, kind in enumerate(self.types)}
        expression = cel.NewEnv(variables=variables).compile(self.plain)
        known = [{f"x{number}": value for number, value in enumerate(row) if value is not None} for row in rows]
        return [true_or_false(expression.eval(data=row)) for row in known]

    # ------------------------------------------------------------------------------------------ growing

    def _leaf(self, kind: str) -> str:
        leaf = self.random.choice(_LEAVES[kind])
        if leaf not in self.leaves:
            self.leaves.append(leaf)
            self.types.append(kind)
        return f"x{self.leaves.index(leaf)}"

    def _bool(self, depth: int) -> str:
        r = self.random
        if depth == 0:
            return self._leaf("bool") if r.random() < 0.7 else r.choice(("true", "false"))
        shape = r.choice(("compare", "compare", "and", "or", "not", "choose", "in", "same", "enum"))
        if shape == "compare":
            kind, sign = r.choice(("int", "double")), r.choice(("<", "<=", ">", ">=", "==", "!="))
            return f"({self._number(kind, depth - 1)} {sign} {self._number(kind, depth - 1)})"
        if shape in ("and", "or"):
            return f"({self._bool(depth - 1)} {'&&' if shape == 'and' else '||'} {self._bool(depth - 1)})"
        if shape == "not":
            return f"!{self._bool(depth - 1)}"
        if shape == "choose":
            return f"({self._bool(depth - 1)} ? {self._bool(depth - 1)} : {self._bool(depth - 1)})"
        if shape == "same":
            return f"({self._bool(depth - 1)} {r.choice(('==', '!=', '<', '>='))} {self._bool(depth - 1)})"
        if shape == "enum":
            return self._enum()
        kind = r.choice(("int", "double"))
        constants = ", ".join(self._constant(kind) for _ in range(r.randint(1, 4)))
        return f"({self._number(kind, depth - 1)} in [{constants}])"

    def _enum(self) -> str:
        some = self.random.sample(SYMBOLS, 2)
        form = self.random.choice(('({0} == "{1}")', '("{1}" == {0})', '({0} != "{1}")', '({0} in ["{1}", "{2}"])'))
        return form.format(self._leaf("string"), *some)

    def _number(self, kind: str, depth: int) -> str:
        r = self.random
        if depth == 0:
            return self._leaf(kind) if r.random() < 0.7 else self._constant(kind)
        shape = r.choice(("leaf", "arithmetic", "arithmetic", "negated", "choose", "converted"))
        if shape == "leaf":
            return self._leaf(kind)
        if shape == "negated":
            return f"-({self._number(kind, depth - 1)})"
        if shape == "choose":
            return f"({self._bool(depth - 1)} ? {self._number(kind, depth - 1)} : {self._number(kind, depth - 1)})"
        if shape == "converted":
            return f"{kind}({self._number(r.choice(('int', 'double')), depth - 1)})"
        sign = r.choice(("+", "-", "*", "/", "%") if kind == "int" else ("+", "-", "*", "/"))
        return f"({self._number(kind, depth - 1)} {sign} {self._number(kind, depth - 1)})"

    def _constant(self, kind: str) -> str:
        if kind == "int":
            return str(self.random.choice((*_INTS, -1, -3, -(2**53))))
        return repr(self.random.choice([one for one in _DOUBLES if math.isfinite(one)]))


def true_or_false(value: Any) -> bool | None:
    """The library's answer. Its errors are values, and truthy ones: only a BOOL that ``is True`` is true."""
    if value.type() != cel.Type.BOOL:
        return None
    return value.value() is True
