"""The fields that rules may name: those of the telemetry schemas, qualified by topic, or bare where unique."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, auto
from functools import cache
from typing import Any, Final

from emergency_stop.domain.topics import TELEMETRY
from emergency_stop.wire.schemas import load_record_schema

_PREFIX: Final = "telemetry."
#: The window's own axes: every rule is about one account, and moments are what windows are made of.
NOT_FIELDS: Final = {
    "account_id": "a rule is about one account at a time",
    "occurred_at": "time is what windows are about: use a window, or absent(topic, window)",
}


class Kind(StrEnum):
    """What a field holds, as far as rules care."""

    DOUBLE = auto()
    INT = auto()
    BOOL = auto()
    ENUM = auto()
    TEXT = auto()


_KINDS: Final = {
    "double": Kind.DOUBLE,
    "float": Kind.DOUBLE,
    "int": Kind.INT,
    "long": Kind.INT,
    "boolean": Kind.BOOL,
    "string": Kind.TEXT,
}


@dataclass(frozen=True, slots=True)
class Field:
    """A telemetry field. ``symbols`` of an enum, in the committed schema's order."""

    topic: str
    name: str
    kind: Kind
    symbols: tuple[str, ...] = ()
    doc: str = ""

    @property
    def qualified(self) -> str:
        return f"{short(self.topic)}.{self.name}"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """``topics`` by short name; ``names`` by every spelling that means one field; ``ambiguous`` by bare name."""

    topics: Mapping[str, str]
    fields: tuple[Field, ...]
    names: Mapping[str, Field]
    ambiguous: Mapping[str, tuple[str, ...]]

    def spelling(self, topic: str, name: str) -> str:
        """The shortest spelling of a field."""
        return name if name in self.names else f"{short(topic)}.{name}"


def short(topic: str) -> str:
    """``telemetry.health`` → ``health``."""
    return topic.removeprefix(_PREFIX)


@cache
def catalogue() -> Catalogue:
    """Of the committed schemas. Raises ``FileNotFoundError`` where they are not installed."""
    return catalogue_of({topic.name: load_record_schema(str(topic.record)) for topic in TELEMETRY})


def catalogue_of(schemas: Mapping[str, Mapping[str, Any]]) -> Catalogue:
    """The fields of Avro records by topic. Types that no column can hold are left out."""
    fields = tuple(
        field for topic, schema in schemas.items() for raw in schema["fields"] if (field := _field(topic, raw))
    )
    topics = {short(topic): topic for topic in schemas}
    times = Counter(field.name for field in fields)
    bare = {field.name: field for field in fields if times[field.name] == 1 and field.name not in topics}
    ambiguous = {
        name: tuple(field.qualified for field in fields if field.name == name)
        for name, count in times.items()
        if count > 1
    }
    return Catalogue(topics, fields, {field.qualified: field for field in fields} | bare, ambiguous)


def _field(topic: str, raw: Mapping[str, Any]) -> Field | None:
    plain = _plain(raw["type"])
    if raw["name"] in NOT_FIELDS or plain is None:
        return None
    doc = str(raw.get("doc", ""))
    if isinstance(plain, dict):
        return Field(topic, raw["name"], Kind.ENUM, tuple(plain["symbols"]), doc)
    return Field(topic, raw["name"], _KINDS[plain], (), doc)


def _plain(schema: Any) -> Any:
    """A primitive type's name or an enum's definition, out of unions with null and logical types; else ``None``."""
    if isinstance(schema, list):
        branches = [branch for branch in schema if branch != "null"]
        return _plain(branches[0]) if len(branches) == 1 else None
    if isinstance(schema, dict) and schema["type"] != "enum":
        return _plain(schema["type"])
    return schema if isinstance(schema, dict) or schema in _KINDS else None
