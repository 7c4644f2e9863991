"""Harmless health events at a rate, as the load beside which latency is measured.

``python -m tests.bench.background BROKERS EVENTS_PER_S SECONDS [TOPIC]``; prints one line of JSON with
the rate it reached. SIGTERM ends it sooner.
"""

from __future__ import annotations

import json
import random
import signal
import struct
import sys
import threading
import time
from typing import Final

from confluent_kafka import Producer

from tests.bench.load import avro_long, avro_text
from tests.campaign.telemetry import SCHEMAS

ACCOUNTS: Final = 100_000
_SLICE_S: Final = 0.01
_FLUSH_TIMEOUT_S: Final = 60


def main() -> int:
    brokers, rate_per_s, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    topic = sys.argv[4] if len(sys.argv) > 4 else "telemetry.health"
    producer = Producer(
        {
            "bootstrap.servers": brokers,
            "compression.type": "lz4",
            "linger.ms": 5,
            "batch.size": 262_144,
            "log_level": 2,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    started = time.monotonic()
    sent = _send(producer, topic, rate_per_s, seconds, told)
    took_s = time.monotonic() - started
    producer.flush(_FLUSH_TIMEOUT_S)
    print(json.dumps({"events": sent, "events_per_s": round(sent / took_s)}))
    return 0


def _send(producer: Producer, topic: str, rate_per_s: int, seconds: float, told: threading.Event) -> int:
    """Evenly, in slices of ten milliseconds, until ``told``; a slice that is late is made up for."""
    rng = random.Random(rate_per_s)
    frame = b"\0" + int(json.loads((SCHEMAS / "ids.json").read_text())["HealthEvent"]).to_bytes(4, "big")
    keys = [f"acc-{number:06d}".encode() for number in range(ACCOUNTS)]
    heads = [frame + avro_text("background") + avro_text(key.decode()) for key in keys]
    tails = [
        struct.pack("<dd", 60 + rng.random() * 35, rng.random() * 40) + avro_text("bench") + b"\0" for _ in range(1_024)
    ]
    started, sent, account = time.monotonic(), 0, 0
    while (elapsed_s := time.monotonic() - started) < seconds and not told.is_set():
        due = int(elapsed_s * rate_per_s) - sent
        moment = avro_long(time.time_ns() // 1_000_000)
        try:
            for _ in range(due):
                following = (account + 7_919) % ACCOUNTS  # coprime: every account in turn, in no order
                producer.produce(topic, heads[following] + moment + tails[following & 1_023], keys[following])
                account, sent = following, sent + 1
        except BufferError:  # the broker is slower than we, or away: what is due is made up for
            producer.poll(_SLICE_S)
        producer.poll(0)
        time.sleep(_SLICE_S)
    return sent


if __name__ == "__main__":
    sys.exit(main())
