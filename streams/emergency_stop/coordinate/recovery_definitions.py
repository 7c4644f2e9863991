"""Procedures of recovery as people write them: what a file may say, and everything that is wrong with it at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from enum import StrEnum
from typing import Any, Final, TypeVar

from emergency_stop.config import did_you_mean
from emergency_stop.coordinate.recovery_procedures import PERCENT_ALL, Gate, Procedure, When
from emergency_stop.domain.values import ScopeKind, StopLevel, TriggerType

E = TypeVar("E", bound=StrEnum)

PROCEDURES_MAX: Final = 100
SHARES_MAX: Final = 20
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DAY_MS: Final = 86_400_000
#: Lowest and highest value of every number; times in milliseconds.
_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "checks": (1, 100),
    "check_interval_ms": (100, 600_000),
    "validation_timeout_ms": (1_000, 3_600_000),
    "preparation_timeout_ms": (100, 600_000),
    "probe_timeout_ms": (100, 600_000),
    "soak_ms": (1_000, 3_600_000),
    "full_restore_timeout_ms": (100, 600_000),
    "monitoring_ms": (1_000, _DAY_MS),
    "failed_actions_percent_max": (0, PERCENT_ALL),
    "failed_actions_min": (1, 1_000_000),
}
_FIELDS: Final = tuple(field.name for field in fields(Procedure))
_WHEN_FIELDS: Final = tuple(field.name for field in fields(When))
_WHEN_RANGES: Final[Mapping[str, tuple[int, int]]] = {"priority_min": (1, 4), "failed_recoveries_min": (1, 100)}
_WHEN_NAMES: Final[Mapping[str, type[StrEnum]]] = {
    "levels": StopLevel,
    "trigger_types": TriggerType,
    "scope_kinds": ScopeKind,
}


class InvalidProceduresError(ValueError):
    """Definitions were refused; ``problems`` has a line for everything that is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def read_procedures(document: Any, defaults: Sequence[Procedure]) -> tuple[Procedure, ...]:
    """``{"procedures": […]}`` → the procedures in the order in which they are asked: the file's, then ``defaults``.

    One under a default's name takes its place; what it does not say stays as it was there. What any other does not say
    is as in the last default. Raises ``InvalidProceduresError``.
    """
    entries = document.get("procedures") if isinstance(document, Mapping) else None
    if not isinstance(entries, list) or not entries or set(document) != {"procedures"}:
        raise InvalidProceduresError(["must have one entry 'procedures' with a list of one procedure or more"])
    if len(entries) > PROCEDURES_MAX:
        raise InvalidProceduresError([f"has {len(entries)} procedures; allowed: 1 to {PROCEDURES_MAX}"])
    problems: list[str] = []
    bases = {procedure.name: procedure for procedure in defaults}
    found: dict[str, Procedure] = {}
    for number, entry in enumerate(entries, start=1):
        reader = _Reader(f"procedure {number}", problems)
        procedure = reader.procedure(entry, bases, replace(defaults[-1], when=()))
        if procedure.name in found:
            reader.note("name", procedure.name, "is given twice")
        found[procedure.name] = procedure
    if problems:
        raise InvalidProceduresError(problems)
    own = [procedure for name, procedure in found.items() if name not in bases]
    return (*own, *(found.get(procedure.name, procedure) for procedure in defaults))


class _Reader:
    """Reads one procedure and notes every problem. ``where`` leads every line."""

    def __init__(self, where: str, problems: list[str]) -> None:
        self._where = where
        self._problems = problems

    def note(self, name: str, value: Any, problem: str) -> None:
        self._problems.append(f"{self._where}: {name}={value!r} {problem}")

    def procedure(self, entry: Any, bases: Mapping[str, Procedure], other: Procedure) -> Procedure:
        if not isinstance(entry, Mapping):
            self.note("entry", entry, "is not a mapping of fields")
            return other
        name = entry.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self.note("name", name, "must be 1 to 64 letters, digits, '-' and '_'")
            name = "?"
        else:
            self._where = f"procedure {name!r}"
        self._unknown(entry, _FIELDS)
        changes: dict[str, Any] = self._numbers(entry, _RANGES)
        if "shares" in entry:
            changes["shares"] = self._shares(entry["shares"])
        if "gates" in entry:
            changes["gates"] = self._names("gates", entry["gates"], Gate)
        if "when" in entry:
            changes["when"] = self._whens(entry["when"])
        return replace(bases.get(name, other), name=name, **changes)

    def _unknown(self, entry: Mapping[Any, Any], known: tuple[str, ...]) -> None:
        for key in entry:
            if key not in known:
                self.note(
                    str(key), entry[key], f"is no field{did_you_mean(str(key), known)}; allowed: {', '.join(known)}"
                )

    def _numbers(self, entry: Mapping[str, Any], ranges: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        found = {}
        for name, (low, high) in ranges.items():
            value = entry.get(name, low)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                self.note(name, value, f"must be a whole number from {low} to {high}")
            elif name in entry:
                found[name] = value
        return found

    def _shares(self, value: Any) -> tuple[int, ...]:
        whole = isinstance(value, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in value)
        rising = whole and 0 < len(value) <= SHARES_MAX and value == sorted(set(value))
        if not rising or value[0] < 1 or value[-1] != PERCENT_ALL:
            allowed = f"1 to {SHARES_MAX} rising whole numbers of percent, from 1, the last of them {PERCENT_ALL}"
            self.note("shares", value, f"must be {allowed}")
            return (PERCENT_ALL,)
        return tuple(value)

    def _names(self, name: str, value: Any, kind: type[E]) -> tuple[E, ...]:
        known = tuple(member.value for member in kind)
        if not isinstance(value, list):
            self.note(name, value, f"must be a list of: {', '.join(known)}")
            return ()
        for one in value:
            if one not in known:
                self.note(name, one, f"is unknown{did_you_mean(str(one), known)}; allowed: {', '.join(known)}")
        return tuple(kind(one) for one in value if one in known)

    def _whens(self, value: Any) -> tuple[When, ...]:
        if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
            self.note("when", value, f"must be a list of mappings with: {', '.join(_WHEN_FIELDS)}")
            return ()
        return tuple(self._when(one) for one in value)

    def _when(self, entry: Mapping[str, Any]) -> When:
        self._unknown(entry, _WHEN_FIELDS)
        names = {name: self._names(name, entry[name], kind) for name, kind in _WHEN_NAMES.items() if name in entry}
        for name, value in names.items():
            if not value and entry[name] == []:
                self.note(name, [], "is empty, so it would never apply; leave it out, or name one")
        return When(**names, **self._numbers(entry, _WHEN_RANGES))  # type: ignore[arg-type]  # by the tables above
