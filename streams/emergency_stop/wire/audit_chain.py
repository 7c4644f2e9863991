"""The audit's hash chain: what one record adds to it, and how a signed head says how far it is.

Theory of operation. Per partition, in the order of offsets, over the bytes as they lie on the topic:

    chain[n] = SHA-256( scheme ‖ chain[n-1] ‖ n ‖ partition ‖ offset ‖ timestamp ‖ topic ‖ key ‖ value )

Numbers have a fixed width and everything else its length in front, so that no two records give the same input. The
chain is a function of the log: whoever goes on after a crash computes the same. It alone finds a changed record, and
not one who changed it and computed all that follows anew; that needs the key of the **heads**. A head signs the last
hash and the number of records, and names the head before it, so that none can be left out between two others.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from emergency_stop.domain.messages import AuditHead
from emergency_stop.wire.codec import to_plain

SCHEME: Final = b"estop-audit-chain-v1\n"
HASH_HEX_DIGITS: Final = 64
_NUMBERS: Final = struct.Struct(">QIqq")
_LENGTH: Final = struct.Struct(">q")
_ABSENT: Final = -1


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as it lies on the topic. ``timestamp`` is the broker's or the producer's, in milliseconds
    since the epoch.
    """

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Link:
    """The chain after a record: the offset behind it, how many records there are, and the hash, 64 hex digits."""

    next_offset: int
    records: int
    chain: str


#: Before the first record.
GENESIS: Final = Link(0, 0, "0" * HASH_HEX_DIGITS)


def _sized(text: bytes | None) -> bytes:
    return _LENGTH.pack(_ABSENT) if text is None else _LENGTH.pack(len(text)) + text


def extend(before: Link, topic: str, partition: int, record: RawRecord) -> Link:
    """The link that ``record`` adds to ``before``. Pure."""
    digest = hashlib.sha256(SCHEME)
    digest.update(bytes.fromhex(before.chain))
    digest.update(_NUMBERS.pack(before.records + 1, partition, record.offset, record.timestamp))
    for text in (topic.encode(), record.key, record.value):
        digest.update(_sized(text))
    return Link(record.offset + 1, before.records + 1, digest.hexdigest())


def links(before: Link, topic: str, partition: int, records: Iterable[RawRecord]) -> Iterator[Link]:
    """One link per record, in order."""
    for record in records:
        before = extend(before, topic, partition, record)
        yield before


def head_digest(head: AuditHead) -> str:
    """What the next head calls ``previous``: over every field, the signature too."""
    plain = {name: value.hex() if isinstance(value, bytes) else value for name, value in to_plain(head).items()}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def next_head(link: Link, topic: str, partition: int, before: AuditHead | None, now_ms: int) -> AuditHead:
    """The head that follows ``before`` and says that the chain is at ``link``; not signed yet."""
    return AuditHead(
        topic=topic,
        partition=partition,
        number=0 if before is None else before.number + 1,
        next_offset=link.next_offset,
        records=link.records,
        chain=link.chain,
        previous="" if before is None else head_digest(before),
        signed_at=now_ms,
    )
