"""A detector has no keys, and decides the same about sealed telemetry as about telemetry in the clear."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from emergency_stop.apps.detector_core import DetectorCore
from emergency_stop.columnar.batches import Scratch
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.detect.compile import compile_plan
from emergency_stop.domain.default_triggers import default_pack
from emergency_stop.domain.messages import Hit
from emergency_stop.domain.topics import TELEMETRY_PLATFORM, TELEMETRY_PROXY
from emergency_stop.wire.codec import Codec, encode_record
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.sealing import SealingKey, new_key_id
from emergency_stop.wire.sensitive import seal_fields, sensitive_fields

NOW = 1_700_000_000_000
REGISTRY = LocalRegistry()
CODEC = Codec(REGISTRY)
ACCOUNTS = tuple(f"acc-{number}" for number in range(20))
#: Twenty times the window of the trigger about proxies.
SPAN_MS = 1_200_000
Event = tuple[str, str, dict[str, Any]]


def events_of(rng: random.Random, count: int) -> list[Event]:
    """(topic, record, fields), in order: few proxies fail at any time, so that triggers are near their thresholds."""
    found: list[Event] = []
    for number in range(count):
        common: dict[str, Any] = {"event_id": f"e{number}", "account_id": rng.choice(ACCOUNTS), "source": "test"}
        common["occurred_at"] = NOW - SPAN_MS + number * SPAN_MS // count
        outcome = rng.choice(("ok", "failed"))
        if rng.random() < 0.7:
            proxy = {"proxy_id": f"proxy-{rng.randrange(3)}", "error": "refused" if outcome == "failed" else ""}
            found.append((TELEMETRY_PROXY, "ProxyEvent", common | proxy | {"outcome": outcome}))
        else:
            kind = rng.choice(("api_call", "rate_limit", "authentication"))
            platform = {"kind": kind, "outcome": outcome, "endpoint": "login", "detail": "x" * rng.randrange(99)}
            found.append((TELEMETRY_PLATFORM, "PlatformEvent", common | platform))
    return found


def hits_of(events: list[Event], write: Callable[[str, dict[str, Any]], dict[str, Any]]) -> list[Hit]:
    """What a detector publishes when each event was written by ``write``."""
    plan = compile_plan(default_pack(NOW))
    core = DetectorCore(REGISTRY, CODEC, lambda: plan, Scratch(), enforcing=True)
    ends: dict[str, int] = {}
    hits: list[Hit] = []
    for topic, record, fields in events:
        offset = ends.get(topic, 0)
        ends[topic] = offset + 1
        value = encode_record(record, write(record, fields), REGISTRY.schema_id(record, topic))
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 100_000)
        builder.append(0, fields["occurred_at"], fields["account_id"].encode(), value, [])
        raw = bytearray(builder.build())
        raw[:8] = offset.to_bytes(8, "big")
        batch = FetchedBatch(topic, 0, offset, offset + 1, (bytes(raw),))
        hits += [CODEC.decode(Hit, effect.value) for effect in core.on_batch(batch, NOW)]
    return hits


def test_hits_are_the_same_whether_telemetry_is_sealed_or_not() -> None:
    seed = random.randrange(1 << 30)
    events = events_of(random.Random(seed), 1_500)
    keys = {account: SealingKey(new_key_id(), secrets.token_bytes(32)) for account in ACCOUNTS}

    def sealed(record: str, fields: dict[str, Any]) -> dict[str, Any]:
        written = seal_fields(record, fields, keys[fields["account_id"]])
        assert all(written[name] != fields[name] for name in sensitive_fields(record) if fields[name])
        return written

    in_the_clear = hits_of(events, lambda _record, fields: fields)
    assert hits_of(events, sealed) == in_the_clear, seed
    assert {hit.trigger_type for hit in in_the_clear} >= {"proxy_failure_cascade", "rate_limit_violation"}, seed
    assert len(in_the_clear) > 20, seed
