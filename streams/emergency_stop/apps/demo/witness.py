"""Reads topics from their beginning, as any stranger's consumer would; knows nothing of the producers."""

from __future__ import annotations

import asyncio
import io
import json
import math
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import fastavro

from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.apps.sink.query import ADDRESS_FILE
from emergency_stop.config.kafka import Brokers
from emergency_stop.domain import topics
from emergency_stop.domain.messages import Ack, Activity, Emergency, Hit, Hold
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import Registry

_FUTURE_MS_MAX: Final = 60_000
_ACCOUNT_ID_LENGTH_MAX: Final = 248
_FRAME_BYTES: Final = 5
_POLL_MS: Final = 50
T = TypeVar("T")


class Witness:
    """Everything seen so far. Telemetry is judged here by fastavro and plain Python, not by the product's decoder."""

    def __init__(self, brokers: str | Brokers, registry: Registry, codec: Codec) -> None:
        self._registry = registry
        self._codec = codec
        self._schemas: dict[int, Any] = {}
        self.good = 0
        self.bad = 0
        self.dead_letters: set[tuple[str, str, str]] = set()
        self.hits: dict[str, Hit] = {}
        self.acks: list[Ack] = []
        self.activity: list[Activity] = []
        self.emergencies: dict[str, Emergency] = {}
        self.holds: dict[str, Hold] = {}
        watched: dict[str, Callable[[TailRecord], None]] = {
            **{spec.name: self._telemetry(spec.record or "") for spec in topics.TELEMETRY},
            topics.HITS: self._each(Hit, lambda hit: self.hits.setdefault(hit.hit_id, hit)),
            topics.ACKS: self._each(Ack, self.acks.append),
            topics.ACTIVITY: self._each(Activity, self.activity.append),
            topics.EMERGENCIES: self._each(Emergency, self._emergency),
            topics.HOLDS: self._each(Hold, self._hold),
        }
        self._tails = [
            CompactedTail(brokers, topic, on_record, client_id=f"estop-demo-{topic}")
            for topic, on_record in watched.items()
        ]
        self._tails.append(_dead_letter_tail(brokers, self.dead_letters))

    async def start(self) -> None:
        for tail in self._tails:
            await tail.start()

    async def stop(self) -> None:
        for tail in self._tails:
            await tail.stop()

    async def until(self, what: str, holds: Callable[[], bool], within_ms: int) -> None:
        """Wait for what was seen to satisfy ``holds``. Raises ``TimeoutError`` that says what did not come."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_ms / 1000
        while not await asyncio.to_thread(holds):
            if loop.time() > deadline:
                raise TimeoutError(f"{what}: not seen within {within_ms} ms")
            await asyncio.sleep(_POLL_MS / 1000)

    def _emergency(self, emergency: Emergency) -> None:
        self.emergencies[emergency.emergency_id] = emergency

    def _hold(self, hold: Hold) -> None:
        self.holds[hold.scope] = hold

    def _each(self, kind: type[T], take: Callable[[T], object]) -> Callable[[TailRecord], None]:
        def on_record(record: TailRecord) -> None:
            if record.value is not None:
                take(self._codec.decode(kind, record.value))

        return on_record

    def _telemetry(self, name: str) -> Callable[[TailRecord], None]:
        def on_record(record: TailRecord) -> None:
            if self._is_good(name, record):
                self.good += 1
            else:
                self.bad += 1

        return on_record

    def _is_good(self, name: str, record: TailRecord) -> bool:
        value = record.value
        if record.key is None or value is None or len(value) < _FRAME_BYTES or value[0] != 0:
            return False
        schema_id = int.from_bytes(value[1:_FRAME_BYTES], "big")
        try:
            if schema_id not in self._schemas:
                schema = self._registry.writer_schema(schema_id)
                self._schemas[schema_id] = (schema["name"], fastavro.parse_schema(schema, named_schemas={}))
            written, parsed = self._schemas[schema_id]
            stream = io.BytesIO(value[_FRAME_BYTES:])
            event: Any = fastavro.schemaless_reader(stream, parsed, None)
        except Exception:  # noqa: BLE001  (whatever a stranger's reader stumbles over is bad input)
            return False
        whole = stream.tell() == len(value) - _FRAME_BYTES and written == name
        finite = all(math.isfinite(field) for field in event.values() if isinstance(field, float))
        timely = 0 <= event["occurred_at"] <= record.timestamp_ms + _FUTURE_MS_MAX
        account_id = event["account_id"]
        stoppable = account_id == account_id.strip() and 0 < len(account_id) <= _ACCOUNT_ID_LENGTH_MAX
        return whole and finite and timely and stoppable and account_id.encode() == record.key


def _dead_letter_tail(brokers: str | Brokers, seen: set[tuple[str, str, str]]) -> CompactedTail:
    """Dead letters by where they came from, so that a repeated one counts once."""

    def on_record(record: TailRecord) -> None:
        headers = {name: value.decode() for name, value in record.headers}
        prefix = "__connect.errors."
        seen.add((headers[prefix + "topic"], headers[prefix + "partition"], headers[prefix + "offset"]))

    return CompactedTail(brokers, topics.DEAD_LETTER, on_record, client_id="estop-demo-dead-letters")


class Analyst:
    """Asks ClickHouse, through the sink's read-only SQL. Blocking."""

    def __init__(self, data_dir: Path) -> None:
        self._file = data_dir / ADDRESS_FILE

    def ask(self, sql: str) -> list[list[Any]]:
        url = json.loads(self._file.read_text())["url"]
        request = urllib.request.Request(url, data=sql.encode())  # noqa: S310  (loopback)
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            rows: list[list[Any]] = json.loads(answer.read())["data"]
            return rows

    def totals(self, tables: tuple[str, ...]) -> tuple[int, int]:
        """(rows, distinct origins) over ``tables``."""
        counted = " UNION ALL ".join(
            f"SELECT count() AS rows, uniqExact(_topic, _partition, _offset) AS origins FROM {table}"
            for table in tables
        )
        ((rows, origins),) = self.ask(f"SELECT sum(rows), sum(origins) FROM ({counted})")
        return int(rows), int(origins)
