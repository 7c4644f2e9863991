"""Records as a producer's client would put them on the wire, for cases that no broker carries."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka.record.default_records import DefaultRecordBatchBuilder

_BATCH_BYTES_MAX = 1 << 30


def record_batch(records: Sequence[tuple[int, bytes, bytes]]) -> bytes:
    """One uncompressed v2 batch of (timestamp ms, key, value), at offsets from 0."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, _BATCH_BYTES_MAX)
    for offset, (timestamp_ms, key, value) in enumerate(records):
        builder.append(offset, timestamp_ms, key, value, [])
    return bytes(builder.build())
