"""A registry that is away for the schemas of new producers, until it answers."""

from __future__ import annotations

from typing import Any, Final

from emergency_stop.wire.codec import HEADER_BYTES, frame
from emergency_stop.wire.registry import LocalRegistry, SchemaUnansweredError
from emergency_stop.wire.schemas import load_record_schema

#: The id that a new producer writes under.
NEW_ID: Final = 9_999


class Unanswering(LocalRegistry):
    """``NEW_ID`` is ``record``'s committed schema, which it tells once ``answers`` is set."""

    def __init__(self, record: str) -> None:
        super().__init__()
        self.record = record
        self.answers = False
        self.asked = 0

    def writer_schema(self, schema_id: int | str) -> dict[str, Any]:
        if schema_id != NEW_ID:
            return super().writer_schema(schema_id)
        self.asked += 1
        if not self.answers:
            raise SchemaUnansweredError("registry http://registry did not answer")
        return load_record_schema(self.record)


def newly_written(value: bytes) -> bytes:
    """A framed value as a new producer writes it."""
    return frame(NEW_ID, value[HEADER_BYTES:])
