"""Seeded telemetry: what account says what when. Made from the committed schemas with fastavro alone.

Accounts have spells of trouble: for a while one of them sends what some trigger looks for. Some
events come out of order, some are no valid events at all. The same seed and base time give the
same records in the same order; which partition and offset a record gets is the broker's answer.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import fastavro

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas" / "avro"
RECORD_OF_TOPIC = {
    "telemetry.health": "HealthEvent",
    "telemetry.detection": "DetectionEvent",
    "telemetry.behavioral": "BehavioralEvent",
    "telemetry.proxy": "ProxyEvent",
    "telemetry.platform": "PlatformEvent",
    "telemetry.system": "SystemEvent",
}
TOPICS = list(RECORD_OF_TOPIC)
SHARES = [70, 4, 10, 8, 7, 1]
SPELL_MS = 25_000
#: One account in this many is in trouble at any time.
TROUBLE_ONE_IN = 40
BAD_ONE_IN = 2_000
OUT_OF_ORDER_ONE_IN = 50
OUT_OF_ORDER_MS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Record:
    """What is sent. ``due_ms`` is when, in milliseconds after the start of the load."""

    topic: str
    key: bytes
    value: bytes | None
    due_ms: int


@dataclass(frozen=True, slots=True)
class Load:
    """``backlog`` events lie ready at the start; after that ``rate_per_s`` for ``duration_s`` seconds."""

    seed: int
    accounts: int
    backlog: int
    rate_per_s: int
    duration_s: float

    @property
    def events(self) -> int:
        return self.backlog + int(self.rate_per_s * self.duration_s)


def records(load: Load, base_ms: int) -> Iterator[Record]:
    """All records of the load, in order of sending. ``base_ms`` is the event time of its start."""
    rng = random.Random(f"telemetry {load.seed}")
    for number in range(load.events):
        due_ms = max(0, number - load.backlog) * 1000 // load.rate_per_s
        # The backlog is what was said in the minute before the start.
        at_ms = base_ms + due_ms if number >= load.backlog else base_ms - 60_000 + number * 60_000 // load.backlog
        yield _record(rng, load, number, at_ms, due_ms)


def _record(rng: random.Random, load: Load, number: int, at_ms: int, due_ms: int) -> Record:
    topic = rng.choices(TOPICS, SHARES)[0]
    account = rng.randrange(load.accounts)
    name = f"svc@host-{account % 50}" if topic == "telemetry.system" else f"acc-{account:06d}"
    trouble = _in_trouble(load.seed, account, at_ms)
    if rng.randrange(OUT_OF_ORDER_ONE_IN) == 0:
        at_ms -= rng.randrange(OUT_OF_ORDER_MS_MAX)
    event = {"event_id": f"{number:012x}", "account_id": name, "occurred_at": at_ms, "source": "campaign"}
    event |= _details(rng, topic, trouble)
    value: bytes | None = encode(topic, event)
    if rng.randrange(BAD_ONE_IN) == 0:
        value = _spoil(rng, value or b"")
    return Record(topic, name.encode(), value, due_ms)


def _in_trouble(seed: int, account: int, at_ms: int) -> bool:
    spell = (at_ms + account * 977) // SPELL_MS
    return hash((seed, account, spell)) % TROUBLE_ONE_IN == 0  # of ints only: the same in every process


def _details(rng: random.Random, topic: str, trouble: bool) -> dict[str, Any]:
    bad = trouble and rng.random() < 0.8
    match topic:
        case "telemetry.health":
            return {
                "health_score": rng.uniform(0, 25) if trouble else rng.uniform(55, 100),
                "risk_score": rng.uniform(88, 100) if bad and rng.random() < 0.2 else rng.uniform(0, 60),
            }
        case "telemetry.detection":
            severity = "critical" if bad else rng.choice(["low", "medium", "high"])
            return {"severity": severity, "detection_type": "captcha", "confidence": 0.9}
        case "telemetry.behavioral":
            return {"anomaly_score": rng.uniform(92, 100) if bad else rng.uniform(0, 70), "pattern": "cadence"}
        case "telemetry.proxy":
            outcome = "failed" if bad or rng.random() < 0.02 else "ok"
            return {"proxy_id": f"proxy-{rng.randrange(12)}", "outcome": outcome, "latency_ms": 20.0, "error": ""}
        case "telemetry.platform":
            kind = "account_suspension" if rng.randrange(4_000) == 0 else "api_call"
            return {"kind": kind, "outcome": "ok", "status_code": 200, "endpoint": "/x", "detail": ""}
        case _:
            cpu = 99.0 if bad else rng.uniform(1, 60)
            return {"service": "svc", "host": "host", "cpu_percent": cpu, "memory_bytes": 1e8, "open_connections": 3}


def _spoil(rng: random.Random, value: bytes) -> bytes | None:
    return rng.choice(
        [None, b"", value[:-3], b"\x07" + value[1:], value + b"\0", value[:1] + b"\0\0\x7f\x7f" + value[5:]]
    )


@cache
def _schema(topic: str) -> tuple[Any, bytes]:
    record = RECORD_OF_TOPIC[topic]
    schema_id: int = json.loads((SCHEMAS / "ids.json").read_text())[record]
    schema = fastavro.parse_schema(json.loads((SCHEMAS / f"{record}.avsc").read_text()), named_schemas={})
    return schema, b"\0" + schema_id.to_bytes(4, "big")


def encode(topic: str, event: dict[str, Any]) -> bytes:
    """Confluent wire format of ``event`` under the committed schema of ``topic``."""
    schema, header = _schema(topic)
    out = io.BytesIO(header)
    out.seek(len(header))
    fastavro.schemaless_writer(out, schema, event)
    return out.getvalue()


def decode(topic: str, value: bytes | None) -> dict[str, Any] | None:
    """The event, or ``None`` for what is not one: foreign framing, unknown id, bytes missing or left over."""
    schema, header = _schema(topic)
    if value is None or not value.startswith(header):
        return None
    body = io.BytesIO(value[len(header) :])
    try:
        event = fastavro.schemaless_reader(body, schema, None)
    except Exception:  # noqa: BLE001  (fastavro raises many types for bad bytes)
        return None
    return event if isinstance(event, dict) and not body.read(1) else None
