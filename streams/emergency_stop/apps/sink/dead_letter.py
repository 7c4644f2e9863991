"""Records that were refused: what their letters carry, and what the table of letters keeps of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from emergency_stop.apps.sink.letter_headers import BYTES_BEFORE_CUT, HEADER, SHA256_BEFORE_CUT, SOURCE_TIMESTAMP
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.columnar.records import Headers, Record
from emergency_stop.domain import topics
from emergency_stop.domain.reasons import Reject
from emergency_stop.ports import Publish

DEAD_LETTER_COLUMNS: Final = (
    "_topic", "_partition", "_offset", "_timestamp", "source_topic", "source_partition", "source_offset",
    "reason", "message", "key", "value",
)  # fmt: skip
#: Of a letter that no broker takes whole, so much of key, value and headers is kept each.
CUT_BYTES: Final = 64 * 1024
#: The last moment that the table's type can tell, ms since the epoch: the end of 2299.
_LAST_MS: Final = 10_413_791_999_999
_PARTITION_DIGITS_MAX: Final = 9
_OFFSET_DIGITS_MAX: Final = 18
#: What a letter takes in memory beside its bytes.
_OVERHEAD_BYTES: Final = 300


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was refused, as received."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    reason: Reject
    detail: str = ""
    #: Of the record; ``None`` where there is no one record.
    timestamp_ms: int | None = None

    @property
    def size(self) -> int:
        """About how much memory it takes, bytes."""
        return _OVERHEAD_BYTES + len(self.key or b"") + len(self.value or b"") + _headers_size(self.headers)

    def error_headers(self) -> Headers:
        """The record's own headers, and Kafka Connect's that say where it came from and why it is here."""
        message = self.reason.explanation + (f" ({self.detail})" if self.detail else "")
        errors = {
            "topic": self.topic,
            "partition": str(self.partition),
            "offset": str(self.offset),
            "connector.name": "estop-sink",
            "task.id": "0",
            "stage": "VALUE_CONVERTER",
            "class.name": "emergency_stop.apps.sink.intake",
            "exception.class.name": self.reason.label,
            "exception.message": message,
        }
        headers = [(HEADER + name, text.encode()) for name, text in errors.items()]
        if self.timestamp_ms is not None:
            headers.append((SOURCE_TIMESTAMP, str(self.timestamp_ms).encode()))
        return (*self.headers, *headers)

    def as_record(self) -> Publish:
        return Publish(topics.DEAD_LETTER, self.key, self.value, headers=self.error_headers())

    def as_cut_record(self) -> Publish:
        """For a broker that does not take it whole: its beginning, and what tells the rest apart from another's.

        Headers of the record's own that would not fit are left out, all of them.
        """
        value, key = self.value or b"", self.key
        own = self.headers if _headers_size(self.headers) <= CUT_BYTES else ()
        told = replace(self, headers=own).error_headers()
        return Publish(
            topics.DEAD_LETTER,
            None if key is None else key[:CUT_BYTES],
            value[:CUT_BYTES],
            headers=(
                *told,
                (BYTES_BEFORE_CUT, str(len(value)).encode()),
                (SHA256_BEFORE_CUT, hashlib.sha256(value).hexdigest().encode()),
            ),
        )


def _headers_size(headers: Headers) -> int:
    return sum(len(name) + len(value or b"") for name, value in headers)


def dead_letter_row(batch: FetchedBatch, record: Record) -> tuple[Any, ...]:
    """A row of ``DEAD_LETTER_COLUMNS`` for one record of the topic of letters. Whoever wrote it, the table takes it."""
    headers = {name: value for name, value in record.headers if name.startswith(HEADER)}

    def text(name: str) -> str:
        return (headers.get(HEADER + name) or b"").decode(errors="replace")

    moment = datetime.fromtimestamp(min(max(record.timestamp, 0), _LAST_MS) / 1000, UTC)
    return (
        batch.topic, batch.partition, record.offset, moment, text("topic"),
        _whole(text("partition"), _PARTITION_DIGITS_MAX), _whole(text("offset"), _OFFSET_DIGITS_MAX),
        text("exception.class.name"), text("exception.message"), record.key, record.value,
    )  # fmt: skip


def _whole(text: str, digits_max: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= digits_max else -1
