"""Taking a trigger's fields out of a mapping: what every field has in common, and what is said where one is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final, TypeGuard

from emergency_stop.domain.triggers import NAME_LENGTH_MAX
from emergency_stop.domain.values import ACCOUNT_ID_LENGTH_MAX, is_account_id


@dataclass(frozen=True, slots=True)
class TriggerProblem:
    """One thing wrong with a definition."""

    field: str
    value: Any
    problem: str

    def __str__(self) -> str:
        return f"{self.field}={self.value!r}: {self.problem}"


class InvalidTriggerError(ValueError):
    """A definition was refused; ``problems`` lists everything that is wrong with it."""

    def __init__(self, problems: Sequence[TriggerProblem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


_ALIASES: Final = {
    "id": "trigger_id",
    "type": "trigger_type",
    "timeWindow": "time_window",
    "cooldownPeriod": "cooldown_period",
}
#: What a definition may say; the rest of a trigger is its system's own.
DEFINITION_FIELDS: Final = (
    "trigger_id", "version", "trigger_type", "account_id", "name", "description", "is_active", "mode", "thresholds",
    "options", "min_samples", "for_ms", "time_window", "cooldown_period", "stop_level", "target_services",
    "notification_channels", "priority", "clear_rule", "across", "rule", "overrides", "on_blind", "canary_percent",
)  # fmt: skip
_KNOWN: Final = frozenset(DEFINITION_FIELDS)
_MISSING: Final = object()


def snake_case(name: str) -> str:
    """``timeWindow`` → ``time_window``: the guide's JSON names are accepted as they stand."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: "_" + match.group(1).lower(), name)


def is_text(value: Any) -> TypeGuard[str]:
    """Whether it is a text that can be written: JSON can name halves of characters, which no encoding takes."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class DefinitionReader:
    """Takes fields out of a mapping, noting every problem instead of stopping at the first."""

    def __init__(self, definition: Mapping[str, Any]) -> None:
        self.problems: list[TriggerProblem] = []
        self._values: dict[str, Any] = {}
        for key, value in definition.items():
            name = key if key in _KNOWN else _ALIASES.get(key, snake_case(str(key)))
            if name not in _KNOWN:
                self.note(str(key), value, f"is not a field of a trigger{nearest(name, DEFINITION_FIELDS)}")
            elif name in self._values:
                self.note(str(key), value, "is given twice, under two spellings")
            self._values[name] = value

    @property
    def given(self) -> frozenset[str]:
        """The fields that the mapping has, by their own names."""
        return frozenset(self._values)

    def note(self, name: str, value: Any, problem: str) -> None:
        self.problems.append(TriggerProblem(name, value, problem))

    def raw(self, name: str, default: Any = _MISSING) -> Any:
        value = self._values.get(name, default)
        if value is _MISSING:
            self.note(name, None, "is missing")
        return value

    def whole(self, name: str, low: int, high: int, default: Any = _MISSING) -> int:
        value = self.raw(name, default)
        if value is _MISSING:
            return low
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.note(name, value, f"must be a whole number from {low} to {high}")
            return low
        return value

    def text(self, name: str, default: Any = _MISSING, length_max: int = NAME_LENGTH_MAX) -> str:
        value = self.raw(name, default)
        if value is _MISSING:
            return ""
        if not is_text(value) or len(value) > length_max or (default is _MISSING and not value.strip()):
            self.note(name, value, f"must be a text of 1 to {length_max} characters")
            return ""
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.raw(name, default)
        if not isinstance(value, bool):
            self.note(name, value, "must be true or false")
            return default
        return value

    def choice(self, name: str, kind: type[StrEnum], default: Any = _MISSING) -> Any:
        value = self.raw(name, default)
        known = _texts(kind)
        if value is _MISSING:
            return next(iter(kind))
        if not isinstance(value, str) or value not in known:
            self.note(name, value, f"is unknown{nearest(value, known)}; allowed: {', '.join(known)}")
            return next(iter(kind))
        return kind(value)

    def nullable(self, name: str, null_means: str) -> str | None:
        value = self.raw(name, None)
        if value is not None and (not is_text(value) or not value or len(value) > NAME_LENGTH_MAX):
            self.note(name, value, f"must be a text, or null for {null_means}")
            return None
        return value

    def account(self, name: str, null_means: str) -> str | None:
        """The id of an account that can be stopped."""
        value = self.raw(name, None)
        if value is not None and (not is_text(value) or not is_account_id(value)):
            allowed = f"a text of 1 to {ACCOUNT_ID_LENGTH_MAX} characters without white space at the ends"
            self.note(name, value, f"must be {allowed}, or null for {null_means}")
            return None
        return value

    def names(self, name: str, default: Any, allowed: tuple[str, ...] | None) -> tuple[str, ...]:
        value = self.raw(name, default)
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, (list, tuple)) or not all(is_text(entry) and entry for entry in value):
            self.note(name, value, "must be a list of names")
            return tuple(default)
        for entry in value:
            if allowed is not None and entry not in allowed:
                self.note(name, entry, f"is unknown{nearest(entry, allowed)}; allowed: {', '.join(allowed)}")
        return tuple(dict.fromkeys(value))


@cache
def _texts(kind: type[StrEnum]) -> tuple[str, ...]:
    return tuple(member.value for member in kind)


def nearest(name: Any, known: Sequence[str]) -> str:
    """`` (did you mean 'graceful'?)``, or nothing where no name is near."""
    found = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    return f" (did you mean {found[0]!r}?)" if found else ""
