"""The same job as it is commonly written: aiokafka, fastavro, and clickhouse-connect's ``client.insert`` of rows.

``python -m tests.bench.sink.row_wise ROWS TOPIC``; the table, its columns and the size of an insert are the sink's.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from datetime import UTC, datetime
from typing import Any, Final

import clickhouse_connect
from aiokafka import AIOKafkaConsumer
from fastavro import parse_schema, schemaless_reader

from emergency_stop.adapters.clickhouse import INSERT_SETTINGS
from emergency_stop.config import Settings
from tests.bench.meter import Meter
from tests.campaign.telemetry import SCHEMAS

#: About as many as the sink's flush of 32 MiB has.
BATCH_ROWS: Final = 200_000
FRAME_BYTES: Final = 5
MOMENTS: Final = ("occurred_at",)


async def copy(settings: Settings, client: Any, topic: str, rows: int) -> None:
    """Copy ``rows`` records of ``topic``; offsets are committed after each insert."""
    schema: Any = parse_schema(json.loads((SCHEMAS / "HealthEvent.avsc").read_text()), named_schemas={})
    names = [field["name"] for field in schema["fields"]]
    columns = ["_topic", "_partition", "_offset", "_timestamp", *names]
    meter = Meter(rows)
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=settings.brokers,
        group_id="row-wise",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=2 * 1024 * 1024,
    )
    await consumer.start()
    meter.start()
    seen = 0
    try:
        while seen < rows:
            waiting: list[list[Any]] = []
            while len(waiting) < BATCH_ROWS and seen + len(waiting) < rows:
                for messages in (await consumer.getmany(timeout_ms=500)).values():
                    waiting += [_row(message, schema, names) for message in messages]
            token = {"insert_deduplication_token": f"row-wise:{seen}"}
            await asyncio.to_thread(
                client.insert, "health_events", waiting, column_names=columns, settings=INSERT_SETTINGS | token
            )
            await consumer.commit()
            seen += len(waiting)
            meter.note(seen)
    finally:
        await consumer.stop()
    meter.stop()


def _row(message: Any, schema: Any, names: list[str]) -> list[Any]:
    event: Any = schemaless_reader(io.BytesIO(message.value[FRAME_BYTES:]), schema, None)
    for name in MOMENTS:
        event[name] = datetime.fromtimestamp(event[name] / 1000, UTC)
    moment = datetime.fromtimestamp(message.timestamp / 1000, UTC)
    return [message.topic, message.partition, message.offset, moment, *(event[name] for name in names)]


def main() -> None:
    rows, topic = sys.argv[1:]
    settings = Settings.from_env()
    url = os.environ.get("ESTOP_CLICKHOUSE_URL")
    path = str(settings.data_dir / "clickhouse")
    client: Any = (
        clickhouse_connect.get_client(dsn=url) if url else clickhouse_connect.get_client(interface="chdb", path=path)
    )
    asyncio.run(copy(settings, client, topic, int(rows)))


if __name__ == "__main__":
    main()
