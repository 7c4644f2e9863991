"""What a redrive would send: the refused record as it was, or with what an operator asks to have mended."""

from __future__ import annotations

from dataclasses import dataclass, replace

from emergency_stop.apps.dead_letters.letter import Letter
from emergency_stop.wire.codec import GUID_HEADER_BYTES, GUID_MAGIC, HEADER_BYTES, WireError, frame, split_frame
from emergency_stop.wire.dissect import Part, dissect
from emergency_stop.wire.registry import Registry, UnknownSchemaError

ACCOUNT_FIELD = "account_id"


class UnfixableError(ValueError):
    """What was asked for cannot be done to this record; the text says why and what can."""


@dataclass(frozen=True, slots=True)
class Fix:
    """``schema_id`` frames the body anew; ``trim`` takes white space from the ends of value's and key's account id;
    ``key`` takes the key from the value.
    """

    key: bool = False
    trim: bool = False
    schema_id: int | None = None

    def described(self) -> str:
        """For the audit: the options that were given."""
        schema = () if self.schema_id is None else (f"--schema-id {self.schema_id}",)
        return " ".join(
            (*schema, *(("--trim-account-id",) if self.trim else ()), *(("--fix-key",) if self.key else ()))
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record as it would be sent."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int

    def at(self, timestamp_ms: int) -> Candidate:
        return replace(self, timestamp_ms=timestamp_ms)


def mended(letter: Letter, fix: Fix, registry: Registry) -> Candidate:
    """``letter``'s record with ``fix``; unchanged without one. Raises ``UnfixableError``; may ask the registry."""
    key, value = letter.key, letter.value
    if fix.schema_id is not None:
        value = _framed(value, fix.schema_id)
    if fix.trim:
        value = _trimmed(value, registry)
        key = None if key is None else key.decode(errors="surrogateescape").strip().encode(errors="surrogateescape")
    if fix.key:
        key = str(_account(value, registry, "--fix-key").value).encode()
    return Candidate(key, value, letter.timestamp_ms)


def _framed(value: bytes | None, schema_id: int) -> bytes:
    """The same body under another id. Takes the old frame's place, whatever its first byte is."""
    if value is None or len(value) < HEADER_BYTES:
        raise UnfixableError(
            f"--schema-id: the value has no {HEADER_BYTES} bytes of framing to replace; the producer must send it anew"
        )
    header = GUID_HEADER_BYTES if value[0] == GUID_MAGIC and len(value) >= GUID_HEADER_BYTES else HEADER_BYTES
    return frame(schema_id, value[header:])


def _trimmed(value: bytes | None, registry: Registry) -> bytes:
    """Only the account id's own bytes change: everything else stays as it was received."""
    part = _account(value, registry, "--trim-account-id")
    text = str(part.value).strip().encode()
    whole = value or b""
    start = len(whole) - len(split_frame(whole)[1])
    return whole[: start + part.start] + _varint(len(text)) + text + whole[start + part.end :]


def _account(value: bytes | None, registry: Registry, option: str) -> Part:
    try:
        schema_id, body = split_frame(value)
        dissection = dissect(bytes(body), registry.writer_schema(schema_id))
    except (WireError, UnknownSchemaError) as error:
        raise UnfixableError(f"{option}: the account id cannot be read from the value: {error}") from None
    part = dissection.part(ACCOUNT_FIELD)
    if part is None or part.kind != "string":
        fault = dissection.fault
        why = f"{fault.problem} at byte {fault.at} of the body" if fault else f"it has no string {ACCOUNT_FIELD}"
        raise UnfixableError(f"{option}: the account id cannot be read from the value: {why}")
    return part


def _varint(number: int) -> bytes:
    """Avro's zigzag varint of a length."""
    raw, out = number << 1, bytearray()
    while raw >= 0x80:  # noqa: PLR2004  (the bit that says that more follow)
        out.append(raw & 0x7F | 0x80)
        raw >>= 7
    out.append(raw)
    return bytes(out)
