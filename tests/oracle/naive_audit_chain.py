"""The audit's chain as its document says it, in plain Python; imports nothing of the product.

A record is (offset, timestamp, key, value).
"""

from __future__ import annotations

import hashlib

Record = tuple[int, int, bytes | None, bytes | None]


def chain(topic: str, partition: int, records: list[Record]) -> list[str]:
    """The hash after each record."""
    hashes = []
    last = b"\0" * 32
    for number, (offset, timestamp, key, value) in enumerate(records, start=1):
        text = b"estop-audit-chain-v1\n" + last
        text += number.to_bytes(8, "big") + partition.to_bytes(4, "big")
        text += offset.to_bytes(8, "big", signed=True) + timestamp.to_bytes(8, "big", signed=True)
        for part in (topic.encode(), key, value):
            length = -1 if part is None else len(part)
            text += length.to_bytes(8, "big", signed=True) + (part or b"")
        last = hashlib.sha256(text).digest()
        hashes.append(last.hex())
    return hashes
