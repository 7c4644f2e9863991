"""The columns of one fetched batch, and what was refused of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emergency_stop.domain.reasons import Reject

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U64 = npt.NDArray[np.uint64]
U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A refused record with all that a dead letter needs; key and value are as received."""

    offset: int
    record_timestamp: int
    key: bytes | None
    value: bytes | None
    reason: Reject
    schema_id: int | None


@dataclass(frozen=True, slots=True)
class Columns:
    """Accepted records of one ``FetchedBatch``: ``n`` rows in offset order, struct of arrays.

    ``key_start``/``key_len`` and ``value_start``/``value_len`` are byte ranges of ``buffer``; the
    value's range is the Avro body without the framing. ``fields`` maps a field's name to f64 (numbers,
    booleans, enum indexes of the committed schema; NaN where a nullable field is null) or u64 (hash of
    a string). ``schema_id`` is the writer's; see ``ColumnDecoder.schema_of``. ``rejected`` rows are in no array.
    """

    topic: str
    partition: int
    fetch_offset: int
    next_offset: int
    n: int
    offset: I64
    occurred_at: I64
    record_timestamp: I64
    key_hash: U64
    key_start: I64
    key_len: I32
    value_start: I64
    value_len: I32
    schema_id: I32
    buffer: U8
    fields: dict[str, F64 | U64]
    rejected: tuple[Rejected, ...]

    def key(self, row: int) -> bytes:
        """The key's bytes of one row (for hits, not for hot paths)."""
        start = int(self.key_start[row])
        return self.buffer[start : start + int(self.key_len[row])].tobytes()

    def body(self, row: int) -> bytes:
        """The Avro body's bytes of one row (for hits, not for hot paths)."""
        start = int(self.value_start[row])
        return self.buffer[start : start + int(self.value_len[row])].tobytes()
