"""A dead letter opened: its frame, its writer's schema, and its body as far as it can be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emergency_stop.apps.dead_letters.letter import Letter
from emergency_stop.domain.topics import all_topics
from emergency_stop.wire.codec import HEADER_BYTES, WireError, split_frame
from emergency_stop.wire.dissect import Dissection, Part, dissect
from emergency_stop.wire.registry import Registry, UnknownSchemaError
from emergency_stop.wire.registry_http import RegistryError
from emergency_stop.wire.schemas import load_record_schema


@dataclass(frozen=True, slots=True)
class Opened:
    """``record`` is the topic's Avro record. What could not be found out is ``None``, and ``closed`` says why."""

    letter: Letter
    record: str | None
    schema_id: int | str | None
    writer: dict[str, Any] | None
    #: Bytes of ``value`` before the body.
    header_bytes: int
    dissection: Dissection | None
    closed: str
    #: The id of the topic's schema where the body reads whole under it, by the same account as the key.
    fitting_id: int | None

    @property
    def writer_record(self) -> str:
        return str((self.writer or {}).get("name", "")).rpartition(".")[2]

    def part(self, path: str) -> Part | None:
        return self.dissection.part(path) if self.dissection else None


def open_letter(letter: Letter, registry: Registry, services: tuple[str, ...]) -> Opened:
    """Never raises for what the letter holds, nor for a registry that does not answer."""
    record = next((spec.record for spec in all_topics(services) if spec.name == letter.source.topic), None)
    schema_id, writer, dissection, closed = _read(letter.value, registry)
    header_bytes = HEADER_BYTES
    if letter.value is not None and schema_id is not None:
        header_bytes = len(letter.value) - len(split_frame(letter.value)[1])
    fitting = _fitting(letter, record, registry, header_bytes)
    return Opened(letter, record, schema_id, writer, header_bytes, dissection, closed, fitting)


def _read(
    value: bytes | None, registry: Registry
) -> tuple[int | str | None, dict[str, Any] | None, Dissection | None, str]:
    try:
        schema_id, body = split_frame(value)
    except WireError as error:
        return None, None, None, str(error)
    try:
        writer = registry.writer_schema(schema_id)
    except (UnknownSchemaError, RegistryError) as error:
        return schema_id, None, None, str(error)
    return schema_id, writer, dissect(bytes(body), writer), ""


def _fitting(letter: Letter, record: str | None, registry: Registry, header_bytes: int) -> int | None:
    if record is None or letter.value is None or len(letter.value) <= header_bytes:
        return None
    found = dissect(letter.value[header_bytes:], load_record_schema(record))
    account = found.part("account_id")
    if found.fault or (account and str(account.value).encode() != letter.key):
        return None
    try:
        return registry.schema_id(record, letter.source.topic)
    except RegistryError:
        return None
