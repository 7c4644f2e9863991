"""The front door of the rule language: text in, ``Rule`` out, or every problem at once."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from cel_expr_python import cel

from emergency_stop.rules.checked_expr import Node, read_checked_expr
from emergency_stop.rules.compiler import Compiler
from emergency_stop.rules.complaints import translate
from emergency_stop.rules.environment import environment
from emergency_stop.rules.fields import Catalogue, catalogue
from emergency_stop.rules.model import (
    TEXT_LENGTH_MAX,
    AggregateCall,
    Function,
    Predicate,
    Program,
    Rule,
    RuleError,
)
from emergency_stop.rules.problems import Problems
from emergency_stop.rules.wording import describe

__all__ = ["AggregateCall", "Function", "Predicate", "Program", "Rule", "RuleError", "compile_rule", "describe"]

#: Who checks a rule compiles it next, and then once for every group.
_REMEMBERED: Final = 1_024
_SPACES: Final = "\n\r\t"


@lru_cache(maxsize=_REMEMBERED)
def compile_rule(text: str) -> Rule:
    """Parse, check and compile; deterministic, about half a millisecond.

    Raises ``RuleError`` with every problem: syntax first, then names and types, then what rules do not allow.
    """
    return compile_over(text, catalogue(), environment())


def compile_over(text: str, names: Catalogue, env: cel.Env) -> Rule:
    """``compile_rule`` over fields other than the committed schemas'; ``env`` is ``environment_of(names)``."""
    problems = Problems(text)
    compiler = Compiler(names, problems)
    compiler.compile(_checked(text, names, env, problems))
    aggregates = compiler.aggregates()
    problems.check()
    return Rule(text, aggregates, compiler.program())


def _checked(text: str, names: Catalogue, env: cel.Env, problems: Problems) -> Node:
    """What CEL makes of the text. Raises ``RuleError``."""
    if len(text) > TEXT_LENGTH_MAX:
        problems.add(TEXT_LENGTH_MAX, f"the rule has {len(text)} characters; allowed are {TEXT_LENGTH_MAX}")
    for place, character in enumerate(text[:TEXT_LENGTH_MAX]):
        if not (character.isprintable() or character in _SPACES):
            problems.add(place, f"{character!r} cannot be part of a rule: use printable characters")
    problems.check()
    try:
        checked = env.compile(text)
    except RuntimeError as error:  # the library's only one, for all that it refuses
        translate(str(error), names, problems)
        problems.check()
        raise
    return read_checked_expr(checked.serialize())
