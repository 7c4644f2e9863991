"""Rows as a backtest reads them, for tests without a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from emergency_stop.apps.backtest.telemetry import PLACES_PER_MS, Arrived
from emergency_stop.columnar.columns import F64, U64, Columns
from emergency_stop.columnar.decoder import key_hash

#: (timestamp ms, account, fields)
Row = tuple[int, str, Mapping[str, float]]


def arrived(topic: str, rows: Sequence[Row], *, first: int = 0, partition: int = 0) -> Arrived:
    """Rows at offsets from ``first``; events occur when they are written."""
    keys = [account.encode() for _, account, _ in rows]
    lengths = np.array([len(key) for key in keys], np.int32)
    written = np.array([at_ms for at_ms, _, _ in rows], np.int64)
    names = {name for _, _, fields in rows for name in fields}
    fields: dict[str, F64 | U64] = {name: np.array([row[2].get(name, np.nan) for row in rows]) for name in names}
    columns = Columns(
        topic=topic,
        partition=partition,
        fetch_offset=first,
        next_offset=first + len(rows),
        n=len(rows),
        offset=np.arange(first, first + len(rows), dtype=np.int64),
        occurred_at=written,
        record_timestamp=written,
        key_hash=np.array([key_hash(key) for key in keys], np.uint64),
        key_start=np.cumsum(lengths, dtype=np.int64) - lengths,
        key_len=lengths,
        value_start=np.zeros(len(rows), np.int64),
        value_len=np.zeros(len(rows), np.int32),
        schema_id=np.zeros(len(rows), np.int32),
        buffer=np.frombuffer(b"".join(keys), np.uint8),
        fields=fields,
        rejected=(),
    )
    at_ms = np.maximum.accumulate(written)
    return Arrived(columns, at_ms, at_ms * PLACES_PER_MS)
