"""Good values by topic, and batches as a broker hands them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.domain import topics
from emergency_stop.wire.codec import Codec, encode_record
from emergency_stop.wire.registry import LocalRegistry
from tests.unit.coordinate.scenario import hit

SENT_MS: Final = 1_700_000_000_000
_REGISTRY: Final = LocalRegistry()
_HEALTH: Final = {
    "event_id": "e-1", "account_id": "acc-1", "occurred_at": SENT_MS, "health_score": 12.5, "risk_score": 1.0,
    "source": "test", "correlation_id": None,
}  # fmt: skip
GOOD: Final = {
    topics.TELEMETRY_HEALTH: encode_record(
        "HealthEvent", _HEALTH, _REGISTRY.schema_id("HealthEvent", topics.TELEMETRY_HEALTH)
    ),
    topics.HITS: Codec(_REGISTRY).encode(hit(), topics.HITS),
}
Headers = Sequence[tuple[str, bytes | None]]


def raw_batch(first: int, values: Sequence[bytes], headers: Headers = (), key: bytes = b"acc-1") -> bytes:
    """One record batch; its checksum says nothing any more once its first offset is put in, as brokers do."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 26)
    for number, value in enumerate(values):
        builder.append(number, SENT_MS, key, value, list(headers))
    raw = bytearray(builder.build())
    raw[:8] = first.to_bytes(8, "big")
    return bytes(raw)


def batch(topic: str, first: int, values: Sequence[bytes], headers: Headers = ()) -> FetchedBatch:
    return FetchedBatch(topic, 0, first, first + len(values), (raw_batch(first, values, headers),))
