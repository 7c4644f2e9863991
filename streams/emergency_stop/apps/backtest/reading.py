"""What a backtest asks of ClickHouse: a reader, and control records as messages."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from emergency_stop.wire.codec import from_plain

M = TypeVar("M")
#: What JSON has no number for.
_NO_NUMBER: Final = float("nan")


class Reader(Protocol):
    """Reads one database; both calls block, from one thread at a time, and raise ``UnavailableError``."""

    def select(self, sql: str) -> dict[str, Any]:
        """The answer in ClickHouse's JSONCompact."""
        ...

    def native(self, sql: str) -> bytes:
        """The answer in ClickHouse's Native format."""
        ...


def quoted(text: str) -> str:
    """A text as a literal of ClickHouse."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def messages(reader: Reader, kind: type[M], table: str, rest: str) -> Iterator[tuple[int, M]]:
    """(the record's timestamp, message) per row of ``table``; ``rest`` is what follows FROM."""
    fields = _fields(kind)
    chosen = ", ".join(["toUnixTimestamp64Milli(_timestamp)", *(one.sql for one in fields)])
    for row in reader.select(f"SELECT {chosen} FROM {table} {rest}")["data"]:  # noqa: S608  (names are ours)
        values = {field.name: field.read(value) for field, value in zip(fields, row[1:], strict=True)}
        yield int(row[0]), from_plain(kind, values)


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    name: str
    sql: str
    read: Callable[[Any], Any]


def _fields(kind: type[Any]) -> Sequence[_Field]:
    hints = typing.get_type_hints(kind)
    return [_Field(one.name, _sql(one.name), _reader(hints[one.name])) for one in dataclasses.fields(kind)]


def _sql(name: str) -> str:
    """Moments (``…_at``) are kept as such, everything else as the record has it."""
    return f"toUnixTimestamp64Milli({name})" if name.endswith("_at") else name


def _reader(hint: Any) -> Callable[[Any], Any]:
    """JSON may have large numbers as text, and has ``null`` for what is no number."""
    if hint is int:
        return int
    if hint is float:
        return lambda value: _NO_NUMBER if value is None else float(value)
    if typing.get_origin(hint) is dict and typing.get_args(hint)[1] is float:
        return _floats
    return lambda value: value


def _floats(value: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(one) for name, one in value.items()}
