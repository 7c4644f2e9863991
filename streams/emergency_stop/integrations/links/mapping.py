"""An event of a user's service → telemetry. The rules are data (``EventMap``); ``translate`` is pure.

A payload may be a mapping or an object; a name of a rule is found in snake_case and in camelCase, and
``metrics.health_score`` looks into ``metrics``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final, get_type_hints

from emergency_stop.domain.telemetry import Severity, TelemetryEvent

#: From here on a bare number is milliseconds since the epoch, below it seconds: 1973 in the one, 5138 in the other.
MILLISECONDS_FROM: Final = 1e11

#: Where the fields that all telemetry has may be found.
COMMON: Final[Mapping[str, tuple[str, ...]]] = {
    "account_id": ("account_id",),
    "event_id": ("event_id",),
    "occurred_at": ("occurred_at", "timestamp"),
    "correlation_id": ("correlation_id",),
}

#: How services say how grave something is.
SEVERITIES: Final[Mapping[str, Severity]] = {
    "info": Severity.LOW,
    "low": Severity.LOW,
    "minor": Severity.LOW,
    "warning": Severity.MEDIUM,
    "medium": Severity.MEDIUM,
    "moderate": Severity.MEDIUM,
    "high": Severity.HIGH,
    "major": Severity.HIGH,
    "severe": Severity.HIGH,
    "critical": Severity.CRITICAL,
    "emergency": Severity.CRITICAL,
}


class UnmappableError(ValueError):
    """A payload lacks a field, or has it in a form that is not understood; ``field`` is telemetry's name for it."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.field = name


@dataclass(frozen=True, slots=True)
class EventMap:
    """How one kind of event becomes a ``record``.

    ``fields``: for each field of it the names to look under, first come first served; ``fixed``: fields that
    the kind of event itself tells; ``words``: for a field, what the service's words mean. Fields that have a
    default may be missing from the payload.
    """

    record: type[TelemetryEvent]
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    words: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ByType:
    """Events that share a name and differ by a field, like ``event_type``; see ``type_word`` for its form."""

    field: str
    maps: Mapping[str, EventMap]


def type_word(value: object) -> str:
    """The form in which types are compared: an enum's member, its value and its name in any case are the same."""
    return str(value.value if isinstance(value, Enum) else value).upper()


def look_up(payload: object, path: str) -> object | None:
    """What ``payload`` has under ``path``; ``None`` where it has nothing."""
    found: object | None = payload
    for name in path.split("."):
        found = _member(found, name) if found is not None else None
    return found


def translate(rule: EventMap, payload: object, known: Mapping[str, Any] | None = None) -> TelemetryEvent:
    """The telemetry of ``payload``. ``known`` stands in for what it lacks. Raises ``UnmappableError``."""
    hints = get_type_hints(rule.record)
    values: dict[str, Any] = dict(rule.fixed)
    for declared in dataclasses.fields(rule.record):
        if declared.name in values:
            continue
        paths = rule.fields.get(declared.name) or COMMON.get(declared.name, ())
        raw = next((found for path in paths if (found := look_up(payload, path)) is not None), None)
        if raw is not None:
            values[declared.name] = _read(declared.name, hints[declared.name], raw, rule)
        elif known is not None and declared.name in known:
            values[declared.name] = known[declared.name]
        elif declared.default is dataclasses.MISSING:
            raise UnmappableError(declared.name, f"missing; looked under {', '.join(paths) or 'no name'}")
    return rule.record(**values)


def _member(holder: object, name: str) -> object | None:
    for spelled in (name, re.sub(r"_([a-z])", lambda match: match[1].upper(), name)):
        found: object | None = holder.get(spelled) if isinstance(holder, Mapping) else getattr(holder, spelled, None)
        if found is not None:
            return found
    return None


def _read(name: str, hint: Any, raw: object, rule: EventMap) -> Any:
    if name == "occurred_at":
        return _moment_ms(raw)
    if name in rule.words:
        word = str(raw.value if isinstance(raw, Enum) else raw).lower()
        if word not in rule.words[name]:
            raise UnmappableError(name, f"{word[:40]!r} is none of {', '.join(rule.words[name])}")
        return rule.words[name][word]
    if hint in (float, int):
        if isinstance(raw, bool) or not isinstance(raw, int | float):
            raise UnmappableError(name, f"{raw!r:.40} is no number")
        return hint(raw)
    return str(raw.value if isinstance(raw, Enum) else raw)


def _moment_ms(raw: object) -> int:
    """Milliseconds since the epoch, from a number, a datetime or its ISO form."""
    try:
        moment = datetime.fromisoformat(raw) if isinstance(raw, str) else raw
    except ValueError:
        moment = None
    if isinstance(moment, datetime):
        return int(moment.timestamp() * 1000)
    if isinstance(moment, int | float) and not isinstance(moment, bool):
        return int(moment if moment >= MILLISECONDS_FROM else moment * 1000)
    raise UnmappableError("occurred_at", f"{raw!r:.40} is no moment; give milliseconds, a datetime or its ISO form")
