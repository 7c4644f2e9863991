"""A dead letter as its topic has it: the refused record, unchanged, and why it was refused."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from emergency_stop.apps.sink.letter_headers import BYTES_BEFORE_CUT, HEADER, SHA256_BEFORE_CUT, SOURCE_TIMESTAMP
from emergency_stop.columnar.records import Headers
from emergency_stop.domain.ids import derived_id
from emergency_stop.domain.reasons import Reject
from emergency_stop.domain.topics import DEAD_LETTER

#: What the sink puts behind a record's own headers.
_OURS: Final = frozenset(
    {
        *(
            HEADER + name
            for name in (
                "topic", "partition", "offset", "connector.name", "task.id", "stage", "class.name",
                "exception.class.name", "exception.message",
            )
        ),
        SOURCE_TIMESTAMP,
        BYTES_BEFORE_CUT,
        SHA256_BEFORE_CUT,
    }
)  # fmt: skip
_PLACE: Final = re.compile(r"(?P<topic>[A-Za-z0-9._-]+)-(?P<partition>\d{1,9})@(?P<offset>\d{1,18})")
REASONS: Final = {reason.label: reason for reason in Reject}


class Place(NamedTuple):
    """A record's coordinates; ``str()`` is ``telemetry.health-0@42``."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}@{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Raises ``ValueError`` that says how a place is written."""
        found = _PLACE.fullmatch(text.strip())
        if found is None:
            raise ValueError(
                f"{text!r} is no place of a record; write TOPIC-PARTITION@OFFSET, as in {DEAD_LETTER}-0@17"
            )
        return cls(found["topic"], int(found["partition"]), int(found["offset"]))


@dataclass(frozen=True, slots=True)
class Letter:
    """``place`` is where it lies, ``source`` where the record was refused. Times in ms since the epoch.

    ``reason`` is ``None`` for a label that this version does not know. ``source_timestamp_ms`` is the refused record's
    own; ``None`` where the letter does not tell.
    """

    place: Place
    source: Place
    at_ms: int
    source_timestamp_ms: int | None
    label: str
    message: str
    key: bytes | None
    value: bytes | None
    #: The refused record's own.
    headers: Headers
    #: Of the refused record's value, where the letter has its beginning only.
    bytes_before_cut: int | None = None

    @property
    def letter_id(self) -> str:
        """The same for every letter about one record: a sink that was killed writes its letters again.

        Contains key and value, because a topic that was made anew has other records at the same offsets.
        """
        digest = hashlib.sha256()
        for part in (self.key, self.value):
            digest.update(b"-" if part is None else b"+%d:" % len(part) + part)
        return derived_id("dead-letter", *self.source, digest.hexdigest())

    @property
    def reason(self) -> Reject | None:
        return REASONS.get(self.label)

    @property
    def timestamp_ms(self) -> int:
        """The refused record's, or the letter's own, which is a little later."""
        return self.at_ms if self.source_timestamp_ms is None else self.source_timestamp_ms


def read_letter(
    place: Place, at_ms: int, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
) -> Letter:
    """One record of the dead-letter topic. Whatever wrote it, this does not fail: what is missing is empty or -1."""
    own, ours = _split(tuple(headers))

    def text(name: str) -> str:
        return ours.get(name, b"").decode(errors="replace")

    timestamp, cut = _whole(text(SOURCE_TIMESTAMP)), _whole(text(BYTES_BEFORE_CUT))
    return Letter(
        place=place,
        source=Place(text(HEADER + "topic"), _whole(text(HEADER + "partition")), _whole(text(HEADER + "offset"))),
        at_ms=at_ms,
        source_timestamp_ms=None if timestamp < 0 else timestamp,
        label=text(HEADER + "exception.class.name"),
        message=text(HEADER + "exception.message"),
        key=key,
        value=value,
        headers=own,
        bytes_before_cut=None if cut < 0 else cut,
    )


def _split(headers: Headers) -> tuple[Headers, dict[str, bytes]]:
    """(the record's own, the sink's). The sink's are the last, each once: a record may have come with such names."""
    ours: dict[str, bytes] = {}
    own = len(headers)
    while own and (name := headers[own - 1][0]) in _OURS and name not in ours:
        own -= 1
        ours[name] = headers[own][1] or b""
    return headers[:own], ours


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else -1
