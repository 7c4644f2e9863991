"""Compact series of a test case: ``80x5 20 _ 25`` is eight steps, one of them silent."""

from __future__ import annotations

import re
from typing import Final

STEPS_MAX: Final = 100_000
GAP: Final = "_"
_REPEATED: Final = re.compile(r"(?P<value>.+?)x(?P<times>\d+)")
_RISING: Final = re.compile(r"(?P<start>-?\d+(?:\.\d+)?)(?P<step>[+-]\d+(?:\.\d+)?)x(?P<times>\d+)")
_DURATION: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|h)")
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}


def parse_series(text: str) -> list[str | None]:
    """One entry per step, ``None`` where nothing happens.

    ``80x5`` is five steps of 80, ``80-10x5`` is 80 70 60 50 40, ``_`` a silent step, ``_x3`` three of them; anything
    else is a value as it stands. Raises ``ValueError`` for an empty series, and for more than ``STEPS_MAX`` steps.
    """
    steps: list[str | None] = []
    for token in text.split():
        steps += _steps(token)
        if len(steps) > STEPS_MAX:
            raise ValueError(f"has more than {STEPS_MAX} steps")
    if not steps:
        raise ValueError("is empty; write values, as in '80x5 20 _ 25'")
    return steps


def _steps(token: str) -> list[str | None]:
    rising = _RISING.fullmatch(token)
    if rising:
        start, step, times = float(rising["start"]), float(rising["step"]), min(int(rising["times"]), STEPS_MAX + 1)
        return [f"{start + step * number:g}" for number in range(times)]
    repeated = _REPEATED.fullmatch(token)
    value, times = (repeated["value"], int(repeated["times"])) if repeated else (token, 1)
    return [None if value == GAP else value] * min(times, STEPS_MAX + 1)


def parse_duration_ms(value: object) -> int:
    """``500ms``, ``5s``, ``2m``, ``1h``, or a whole number of milliseconds. Raises ``ValueError``."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("is no duration; write 500ms, 5s, 2m, 1h, or milliseconds")
    return round(float(found["number"]) * _UNIT_MS[found["unit"]])
