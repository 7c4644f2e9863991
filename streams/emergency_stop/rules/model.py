"""What a rule compiles to: the aggregates that it reads, and a program over their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum, auto
from typing import Final

import numpy as np
import numpy.typing as npt

#: Longest rule, most aggregates, and longest list of constants that one may have.
TEXT_LENGTH_MAX: Final = 4_000
AGGREGATES_MAX: Final = 32
LIST_LENGTH_MAX: Final = 64
#: Most rows or values that a count is told apart by; and what a distinct count in arithmetic ends at.
DEPTH_MAX: Final = 1_000
DISTINCT_DEPTH: Final = 100
#: Whole numbers up to here are exact as float64, which is how constants and values are handed over.
WHOLE_MAX: Final = 2**53


class Function(StrEnum):
    """What is taken of the rows in the window."""

    AVG = auto()
    MIN = auto()
    MAX = auto()
    SUM = auto()
    COUNT = auto()
    DISTINCT = auto()
    RATIO = auto()
    LAST = auto()
    ABSENT = auto()


@dataclass(frozen=True, slots=True, order=True)
class Predicate:
    """A row's ``field`` compared with a number, 0 or 1, or an enum symbol's index in the committed schema."""

    field: str
    op: str  # ==, !=, <, <=, >, >=
    value: float


@dataclass(frozen=True, slots=True)
class AggregateCall:
    """One aggregate per account. Its value is a float64: a number, 0 or 1, or an enum symbol's index.

    ``topic`` is the full name; ``field`` is empty for count, absent and ratio. ``of`` is what a ratio is the share
    of; ``where`` picks the rows that take part (all must hold; sorted, without repeats). ``window_ms`` is 0 for last.
    ``depth``: a count or distinct count must be exact up to here, and may stop growing there; 0 means that the
    count enters arithmetic, so that no limit is known. ``is_int``: CEL's type of the value is int.
    """

    function: Function
    topic: str
    field: str
    of: tuple[Predicate, ...]
    where: tuple[Predicate, ...]
    window_ms: int
    depth: int
    is_int: bool


class Op(IntEnum):
    """Instructions of a program, grouped by how many operands they take off the stack.

    ``_D`` works on doubles, ``_I`` on whole numbers, which booleans and enum indexes are too.
    """

    LOAD_D = 0  # operand: which aggregate
    LOAD_I = 1
    CONST_D = 2  # operand: which constant
    CONST_I = 3
    NOT = 10
    NEG_D = 11
    NEG_I = 12
    TO_DOUBLE = 13
    TO_INT = 14
    IN_D = 15  # operand: first constant * LIST_BASE + how many
    IN_I = 16
    ADD_D = 20
    SUB_D = 21
    MUL_D = 22
    DIV_D = 23
    ADD_I = 30
    SUB_I = 31
    MUL_I = 32
    DIV_I = 33
    MOD_I = 34
    LESS_D = 40
    LESS_EQUAL_D = 41
    GREATER_D = 42
    GREATER_EQUAL_D = 43
    EQUAL_D = 44
    LESS_I = 45
    LESS_EQUAL_I = 46
    GREATER_I = 47
    GREATER_EQUAL_I = 48
    EQUAL_I = 49
    AND = 50
    OR = 51
    CHOOSE = 60


#: The first instruction of each group.
UNARY, BINARY, TERNARY = Op.NOT, Op.ADD_D, Op.CHOOSE
LIST_BASE: Final = 1_000


@dataclass(frozen=True, eq=False)
class Program:
    """A stack program; equal where its content is.

    ``ops`` is (n, 2): ``Op`` and operand. The bottom of the stack is the result; ``stack_max`` cells suffice.
    """

    ops: npt.NDArray[np.int64]
    constants: npt.NDArray[np.float64]
    stack_max: int

    def _content(self) -> tuple[bytes, bytes, int]:
        return self.ops.tobytes(), self.constants.tobytes(), self.stack_max

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())


@dataclass(frozen=True, slots=True)
class Rule:
    """``aggregates`` are distinct and in order of first appearance; the program's loads are their places."""

    text: str
    aggregates: tuple[AggregateCall, ...]
    program: Program


class RuleError(ValueError):
    """The text is no rule. Every problem says where (line:column, with a caret), what, and what is allowed."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
