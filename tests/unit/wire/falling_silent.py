"""A registry as over HTTP: what it told once is known for good, and while it is away it tells nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.registry_http import NotRegisteredError, RegistryError


class FallingSilent:
    """``asked`` has what was asked of it beyond what it had told, in order."""

    def __init__(self, *, is_away: bool = False, unregistered: Iterable[str] = ()) -> None:
        self.is_away = is_away
        self.unregistered = set(unregistered)
        self.asked: list[tuple[str | int, ...]] = []
        self._committed = LocalRegistry()
        self._told: set[tuple[str | int, ...]] = set()

    def schema_id(self, record: str, topic: str) -> int:
        self._ask(record, topic)
        if topic in self.unregistered:
            raise NotRegisteredError(record, f"{topic}-value")
        self._told.add((record, topic))
        return self._committed.schema_id(record, topic)

    def writer_schema(self, schema_id: int | str) -> dict[str, Any]:
        self._ask(schema_id)
        self._told.add((schema_id,))
        return self._committed.writer_schema(schema_id)

    def _ask(self, *what: str | int) -> None:
        if what in self._told:
            return
        self.asked.append(what)
        if self.is_away:
            raise RegistryError("the registry does not answer")
