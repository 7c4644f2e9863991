"""What a file of test cases says: series of telemetry in, hits and silences out. Every problem is named at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from emergency_stop.config import did_you_mean
from emergency_stop.control.cases.series import parse_duration_ms, parse_series
from emergency_stop.domain import topics
from emergency_stop.domain.trigger_definitions import InvalidTriggerError
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.definitions import read_trigger
from emergency_stop.wire.schemas import load_record_schema

INTERVAL_MS: Final = 5_000
#: A case's telemetry starts at midnight, so that a moment of it is easy to read.
START_MS: Final = 1_700_006_400_000
_TOPICS: Final = {spec.name.removeprefix("telemetry."): spec for spec in topics.TELEMETRY}
_OWN_FIELDS: Final = ("event_id", "account_id", "occurred_at")
#: What a field holds that a series does not name, where nothing (0, "", the first symbol) would mean something bad.
_NEUTRAL: Final[dict[str, Any]] = {"health_score": 100.0}


class CaseError(ValueError):
    """A file of cases is wrong; the text has a line per problem."""


@dataclass(frozen=True, slots=True)
class CaseEvent:
    """One event of a case; ``at_ms`` counts from the case's start."""

    topic: str
    at_ms: int
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class ExpectedHit:
    at_ms: int
    trigger_id: str
    account: str


@dataclass(frozen=True, slots=True)
class Case:
    """``silent`` triggers must be asked (their topic has events) and must not fire. ``end_ms`` is its last step."""

    name: str
    events: tuple[CaseEvent, ...]
    end_ms: int
    expected: tuple[ExpectedHit, ...]
    silent: tuple[str, ...]


@dataclass(slots=True)
class _Reader:
    """Notes problems instead of stopping at the first one."""

    triggers: tuple[str, ...]
    problems: list[str] = field(default_factory=list)

    def tried(self, where: str, value: Any, parse: Callable[[Any], Any], fallback: Any) -> Any:
        try:
            return parse(value)
        except (ValueError, TypeError) as error:
            self.problems.append(f"{where}={value!r}: {error}")
            return fallback

    def only(self, where: str, given: Any, allowed: tuple[str, ...]) -> Mapping[str, Any]:
        """``given`` as an object, with nothing but ``allowed`` names."""
        if not isinstance(given, Mapping):
            self.problems.append(f"{where}={given!r}: must be an object with {', '.join(allowed)}")
            return {}
        for name in given:
            if name not in allowed:
                hint = did_you_mean(str(name), allowed)
                self.problems.append(f"{where}.{name}: is unknown{hint}; allowed: {', '.join(allowed)}")
        return given

    def listed(self, where: str, given: Any) -> list[Any]:
        if isinstance(given, list):
            return given
        self.problems.append(f"{where}={given!r}: must be a list")
        return []

    def trigger(self, where: str, name: Any) -> str:
        if name not in self.triggers:
            hint = did_you_mean(str(name), self.triggers)
            self.problems.append(f"{where}={name!r}: is no trigger of this file{hint}")
        return str(name)


def read_triggers(definitions: Any, services: Sequence[str]) -> tuple[Trigger, ...]:
    """The triggers that a file's ``triggers`` lists. Raises ``CaseError``."""
    triggers, problems = [], []
    for number, definition in enumerate(definitions if isinstance(definitions, list) else [definitions]):
        if not isinstance(definition, Mapping):
            problems.append(f"triggers[{number}]={definition!r}: must be a definition, or write 'triggers: default'")
            continue
        try:
            triggers.append(read_trigger(definition, services=services))
        except InvalidTriggerError as error:
            problems += [f"triggers[{number}].{problem}" for problem in error.problems]
    if problems:
        raise CaseError("\n".join(problems))
    return tuple(triggers)


def read_cases(tests: Any, trigger_ids: Sequence[str]) -> list[Case]:
    """The cases that a file's ``tests`` lists. Raises ``CaseError`` with every problem."""
    reader = _Reader(tuple(trigger_ids))
    cases = [_case(reader, f"tests[{number}]", given) for number, given in enumerate(reader.listed("tests", tests))]
    if not cases:
        reader.problems.append("tests: has none")
    if reader.problems:
        raise CaseError("\n".join(reader.problems))
    return cases


def _case(reader: _Reader, where: str, given: Any) -> Case:
    case = reader.only(where, given, ("name", "interval", "series", "expect", "silent"))
    interval_ms = reader.tried(f"{where}.interval", case.get("interval", INTERVAL_MS), parse_duration_ms, INTERVAL_MS)
    events: list[CaseEvent] = []
    steps = 1
    for number, given_series in enumerate(reader.listed(f"{where}.series", case.get("series"))):
        found, length = _events(reader, f"{where}.series[{number}]", given_series, interval_ms)
        events, steps = events + found, max(steps, length)
    expected = [
        _expected(reader, f"{where}.expect[{number}]", entry)
        for number, entry in enumerate(reader.listed(f"{where}.expect", case.get("expect", [])))
    ]
    silent = [
        reader.trigger(f"{where}.silent", name) for name in reader.listed(f"{where}.silent", case.get("silent", []))
    ]
    if not expected and not silent:
        reader.problems.append(f"{where}: expects neither hits nor silence; add 'expect' or 'silent'")
    events.sort(key=lambda event: event.at_ms)
    end_ms = (steps - 1) * interval_ms
    return Case(str(case.get("name", where)), tuple(events), end_ms, tuple(sorted(expected)), tuple(silent))


def _expected(reader: _Reader, where: str, given: Any) -> ExpectedHit:
    entry = reader.only(where, given, ("trigger", "account", "at"))
    at_ms = reader.tried(f"{where}.at", entry.get("at"), parse_duration_ms, 0)
    return ExpectedHit(at_ms, reader.trigger(f"{where}.trigger", entry.get("trigger")), str(entry.get("account")))


def _events(reader: _Reader, where: str, given: Any, interval_ms: int) -> tuple[list[CaseEvent], int]:
    """The events of one series, and how many steps it has."""
    entry = reader.only(where, given, ("account", "topic", "fields"))
    fields = entry.get("fields")
    if not isinstance(fields, Mapping) or not fields:
        reader.problems.append(f"{where}.fields={fields!r}: must name fields and their series")
        return [], 0
    topic = _topic(reader, where, entry.get("topic"), fields)
    if topic is None:
        return [], 0
    record = load_record_schema(_TOPICS[topic].record or "")
    types = {one["name"]: one["type"] for one in record["fields"] if one["name"] not in _OWN_FIELDS}
    reader.only(f"{where}.fields", fields, tuple(types))
    series = {
        name: reader.tried(f"{where}.fields.{name}", str(text), parse_series, [None])
        for name, text in fields.items()
        if name in types
    }
    parsers = {name: _typed(name, kind) for name, kind in types.items()}
    events = []
    length = max(map(len, series.values()), default=0)
    for step in range(length):
        values = {name: steps[min(step, len(steps) - 1)] for name, steps in series.items()}
        if any(value is None for value in values.values()):
            continue
        typed = {
            name: reader.tried(f"{where}.fields.{name}", values.get(name), parse, None)
            for name, parse in parsers.items()
        }
        account = str(entry.get("account", "acc-1"))
        events.append(CaseEvent(f"telemetry.{topic}", step * interval_ms, {"account_id": account, **typed}))
    return events, length


def _topic(reader: _Reader, where: str, given: Any, fields: Mapping[str, Any]) -> str | None:
    """The topic that is named, or the only one that has all the fields."""
    names = tuple(_TOPICS)
    if given is not None:
        named = str(given).removeprefix("telemetry.")
        if named in _TOPICS:
            return named
        reader.problems.append(
            f"{where}.topic={given!r}: is unknown{did_you_mean(named, names)}; allowed: {', '.join(names)}"
        )
        return None
    having = [
        name
        for name, spec in _TOPICS.items()
        if set(fields) <= {one["name"] for one in load_record_schema(spec.record or "")["fields"]}
    ]
    if len(having) == 1:
        return having[0]
    found = f"{' and '.join(having)} have" if having else "no topic has"
    reader.problems.append(f"{where}.topic: is missing, and {found} the fields {', '.join(map(str, fields))}")
    return None


def _typed(name: str, kind: Any) -> Callable[[str | None], Any]:
    """How a step's text becomes a value of the field's Avro type; ``None`` becomes the neutral value."""
    if isinstance(kind, list):
        return lambda text: text
    base = kind["type"] if isinstance(kind, Mapping) else kind
    if base == "enum":
        symbols = tuple(kind["symbols"])
        return lambda text: symbols[0] if text is None else _symbol(text, symbols)
    if base in ("double", "float"):
        return lambda text: float(_NEUTRAL.get(name, 0.0) if text is None else text)
    if base in ("int", "long"):
        return lambda text: int(text or 0)
    return lambda text: text or ""


def _symbol(text: str, symbols: tuple[str, ...]) -> str:
    if text not in symbols:
        raise ValueError(f"has {text!r}{did_you_mean(text, symbols)}; allowed: {', '.join(symbols)}")
    return text
