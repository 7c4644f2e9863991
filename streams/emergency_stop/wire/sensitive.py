"""Which fields of a record are sensitive: the schema says so, and how each is sealed.

A field with ``"sensitive": "random"`` or ``"sensitive": "deterministic"`` in its Avro schema is sealed by whoever
produces the record and has the keys; no list of names stands anywhere else. An empty text says nothing and stays
empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from emergency_stop.wire.schemas import load_record_schema
from emergency_stop.wire.sealing import SealedPlace, SealError, Sealing, SealingKey, is_sealed, sealed_with

PROPERTY: Final = "sensitive"


@cache
def sensitive_fields(record: str) -> Mapping[str, Sealing]:
    """The sensitive fields of ``record``. Raises ``ValueError`` for a mark that means nothing or is on no text."""
    return sensitive_fields_of(load_record_schema(record))


def sensitive_fields_of(schema: Mapping[str, Any]) -> Mapping[str, Sealing]:
    """The same of a schema as plain JSON."""
    found: dict[str, Sealing] = {}
    for field in schema["fields"]:
        if PROPERTY not in field:
            continue
        if field["type"] != "string":
            raise ValueError(f"{schema['name']}.{field['name']} is sensitive and no string; only texts can be sealed")
        found[field["name"]] = Sealing(field[PROPERTY])
    return MappingProxyType(found)


def has_sensitive(record: str, plain: Mapping[str, Any]) -> bool:
    """Whether anything in a record is to be sealed."""
    return any(plain.get(name) for name in sensitive_fields(record))


def seal_fields(record: str, plain: Mapping[str, Any], key: SealingKey) -> dict[str, Any]:
    """A copy of ``plain`` with its sensitive texts sealed for its ``account_id``."""
    account_id = str(plain["account_id"])
    sealed = {
        name: key.seal(str(plain[name]), SealedPlace(record, name, account_id), sealing)
        for name, sealing in sensitive_fields(record).items()
        if plain.get(name)
    }
    return {**plain, **sealed}


def open_fields(
    record: str, plain: Mapping[str, Any], key_of: Callable[[str], SealingKey | None]
) -> tuple[dict[str, Any], dict[str, str]]:
    """(a copy of ``plain`` with what opens opened; why each of the others does not, by field).

    ``key_of`` finds a key by its id. Texts that were never sealed stay as they are.
    """
    account_id, opened, closed = str(plain["account_id"]), dict(plain), {}
    for name in sensitive_fields(record):
        text = plain.get(name)
        if not isinstance(text, str) or not is_sealed(text):
            continue
        key_id = sealed_with(text)
        key = key_of(key_id)
        if key is None:
            closed[name] = f"key {key_id} is gone: the account was erased, or its key never published"
            continue
        try:
            opened[name] = key.open(text, SealedPlace(record, name, account_id))
        except SealError as error:
            closed[name] = str(error)
    return opened, closed
