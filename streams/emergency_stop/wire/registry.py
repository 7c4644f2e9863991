"""Schema ids ⇄ schemas. The local registry serves the committed files."""

from __future__ import annotations

from typing import Any, Protocol

from emergency_stop.wire.schemas import committed_ids, load_former_schema, load_record_schema


class UnknownSchemaError(LookupError):
    """A message names a schema id that the registry does not know."""

    def __init__(self, schema_id: int | str) -> None:
        super().__init__(f"schema id {schema_id} is not in the registry; register the producer's schema first")
        self.schema_id = schema_id


class RegistryError(RuntimeError):
    """The registry did not answer, or refused; worth trying again. The text never carries credentials."""


class SchemaUnansweredError(RegistryError):
    """The registry does not say now what schema an id has: nobody can tell yet what the message says. A record that is
    let go for it is lost, so whoever reads records takes it again once the registry answers, or stops in doubt.
    """


class Registry(Protocol):
    """Both operations may block on their first call for an id or record, and are cached after."""

    def schema_id(self, record: str, topic: str) -> int:
        """The id under which values of ``record`` are written to ``topic``."""
        ...

    def writer_schema(self, schema_id: int | str) -> dict[str, Any]:
        """The schema of an id, or of a GUID (32 hex digits), as plain JSON.

        Raises ``UnknownSchemaError``, or ``SchemaUnansweredError`` where a registry elsewhere does not answer.
        """
        ...


class LocalRegistry:
    """Ids and schemas from the committed ``schemas/avro``."""

    def __init__(self) -> None:
        self._ids = committed_ids()
        self._records = {schema_id: record for record, schema_id in self._ids.items()}

    def schema_id(self, record: str, topic: str) -> int:
        return self._ids[record]

    def writer_schema(self, schema_id: int | str) -> dict[str, Any]:
        if not isinstance(schema_id, int):
            raise UnknownSchemaError(schema_id)
        record = self._records.get(schema_id)
        schema = load_former_schema(schema_id) if record is None else load_record_schema(record)
        if schema is None:
            raise UnknownSchemaError(schema_id)
        return schema
