"""Heads and records of the audit as lines of JSON: how heads are shipped, and what an export is.

Every line is in one form only (keys sorted, no blanks, bytes as hexadecimal digits), and a reader refuses any other,
so that a changed byte of a file is a changed meaning or no line at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from emergency_stop.domain.messages import AuditHead
from emergency_stop.wire.audit_chain import RawRecord
from emergency_stop.wire.codec import from_plain, to_plain

FORMAT: Final = "estop-audit-v1"


class AuditFileError(ValueError):
    """A line is not what was written; the text says which and why."""


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One offset as the database has it: the record as received with its place in the chain, and the rows that
    analysts see; either may be missing.
    """

    topic: str
    partition: int
    offset: int
    raw: RawRecord | None
    records: int
    chain: str
    rows: tuple[Mapping[str, Any], ...]


Item = AuditHead | StoredRecord


def line_of(document: Mapping[str, Any]) -> str:
    """The one form of a line."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"


def head_line(head: AuditHead) -> str:
    return line_of({"head": to_plain(head) | {"signature": head.signature.hex()}})


def record_line(record: StoredRecord) -> str:
    raw = record.raw
    return line_of({
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "raw": None if raw is None else {
            "timestamp": raw.timestamp, "key": _hex(raw.key), "value": _hex(raw.value),
            "records": record.records, "chain": record.chain,
        },
        "rows": [dict(row) for row in record.rows],
    })  # fmt: skip


def export_lines(items: Iterable[Item]) -> Iterator[str]:
    """A whole export: its format, the items in their order, and how many there are."""
    yield line_of({"format": FORMAT})
    count = 0
    for item in items:
        yield head_line(item) if isinstance(item, AuditHead) else record_line(item)
        count += 1
    yield line_of({"end": count})


def read_export(lines: Iterable[bytes]) -> Iterator[Item]:
    """The items of an export. Raises ``AuditFileError`` at the first line that is not as it was written."""
    count, ended = -1, False
    for number, line in enumerate(lines, start=1):
        document = _document(line, number)
        if ended:
            raise AuditFileError(f"line {number}: nothing follows the end of an export")
        if count < 0:
            if document != {"format": FORMAT}:
                raise AuditFileError(f"line {number}: is {document!r}; an export begins with its format, {FORMAT}")
            count = 0
        elif set(document) == {"end"}:
            if document["end"] != count:
                raise AuditFileError(f"line {number}: says that {document['end']} lines were written; {count} are here")
            ended = True
        else:
            yield _item(document, number)
            count += 1
    if not ended:
        raise AuditFileError("the file has no end: it was cut, or is still being written; export it again")


def read_heads(lines: Iterable[bytes]) -> list[AuditHead]:
    """The heads of a file of heads, as the sink appends them. Raises ``AuditFileError``."""
    found = []
    for number, line in enumerate(lines, start=1):
        item = _item(_document(line, number), number)
        if not isinstance(item, AuditHead):
            raise AuditFileError(f"line {number}: is no head; give the file that ESTOP_AUDIT_HEADS_FILE named")
        found.append(item)
    return found


def _document(line: bytes, number: int) -> dict[str, Any]:
    try:
        text = line.decode()
        document = json.loads(text)
        same = isinstance(document, dict) and line_of(document) == text
    except (ValueError, RecursionError) as error:
        raise AuditFileError(f"line {number}: is not JSON: {error}") from error
    if not same:
        raise AuditFileError(f"line {number}: is not in the form in which it was written")
    return document  # type: ignore[no-any-return]  # checked above


def _item(document: dict[str, Any], number: int) -> Item:
    try:
        item = _head(document["head"]) if set(document) == {"head"} else _record(document)
        again = head_line(item) if isinstance(item, AuditHead) else record_line(item)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AuditFileError(f"line {number}: is neither a head nor a record: {error!r}") from error
    if again != line_of(document):
        raise AuditFileError(f"line {number}: has other fields than it was written with")
    return item


def _head(plain: dict[str, Any]) -> AuditHead:
    for name, value in plain.items():
        wanted = int if name in {"partition", "number", "next_offset", "records", "signed_at"} else str
        if type(value) is not wanted:
            raise ValueError(f"{name} is {value!r}, not of type {wanted.__name__}")
    return from_plain(AuditHead, plain | {"signature": bytes.fromhex(plain["signature"])})


def _record(document: dict[str, Any]) -> StoredRecord:
    raw, offset = document["raw"], document["offset"]
    numbers = [document["partition"], offset, *([raw["timestamp"], raw["records"]] if raw is not None else [])]
    if not all(type(value) is int for value in numbers):
        raise ValueError(f"partition, offset, timestamp and records are whole numbers, not {numbers!r}")
    return StoredRecord(
        document["topic"],
        document["partition"],
        offset,
        None if raw is None else RawRecord(offset, raw["timestamp"], _bytes(raw["key"]), _bytes(raw["value"])),
        0 if raw is None else raw["records"],
        "" if raw is None else raw["chain"],
        tuple(document["rows"]),
    )


def _hex(text: bytes | None) -> str | None:
    return None if text is None else text.hex()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)
