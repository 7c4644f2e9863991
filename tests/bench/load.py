"""The benchmark's telemetry: health events of many accounts, a few of them in trouble for a while.

Made with the standard library's bytes and the committed schema's id alone; ``tests/unit/bench/test_load.py`` shows
that fastavro reads the same events from them.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Producer

from tests.campaign.telemetry import SCHEMAS

TROUBLE_ONE_IN: Final = 200
SPAN_MS: Final = 600_000
FLUSH_TIMEOUT_S: Final = 120
_POLL_EVERY: Final = 4_096
_SCORES: Final = struct.Struct("<dd")


@dataclass(frozen=True, slots=True)
class HealthLoad:
    """``events`` of ``accounts``, spread evenly over ``SPAN_MS`` of event time that starts at ``base_ms``.

    One account in ``trouble_one_in`` has a spell of bad scores.
    """

    seed: int
    events: int
    accounts: int
    base_ms: int
    trouble_one_in: int = TROUBLE_ONE_IN


def avro_long(value: int) -> bytes:
    raw = (value << 1) ^ (value >> 63)
    out = bytearray()
    while raw > 0x7F:
        out.append(raw & 0x7F | 0x80)
        raw >>= 7
    out.append(raw)
    return bytes(out)


def avro_text(text: str) -> bytes:
    data = text.encode()
    return avro_long(len(data)) + data


def records(load: HealthLoad) -> Iterator[tuple[bytes, bytes, int]]:
    """(key, value, event time in ms) in order of event time; the same seed and base, the same records."""
    rng = random.Random(f"health {load.seed}")
    frame = b"\0" + int(json.loads((SCHEMAS / "ids.json").read_text())["HealthEvent"]).to_bytes(4, "big")
    keys = [key_of(number) for number in range(load.accounts)]
    texts = [avro_text(key.decode()) for key in keys]
    # In trouble from here on, for a tenth of the span; an account without trouble starts after the end.
    trouble_from = [
        rng.randrange(load.events) if rng.randrange(load.trouble_one_in) == 0 else load.events
        for _ in range(load.accounts)
    ]
    end = avro_text("bench") + b"\0"
    for number in range(load.events):
        account = int(rng.random() * load.accounts)
        moment = load.base_ms + number * SPAN_MS // load.events
        bad = 0 <= number - trouble_from[account] < load.events // 10
        health = rng.random() * 25 if bad else 45 + rng.random() * 55
        risk = rng.random() * 100 if bad else rng.random() * 60
        value = b"".join(
            (frame, avro_text(f"{number:012x}"), texts[account], avro_long(moment), _SCORES.pack(health, risk), end)
        )
        yield keys[account], value, moment


def key_of(number: int) -> bytes:
    """The key of an account's records; keys sort as their numbers do."""
    return f"acc-{number:06d}".encode()


def produce(
    bootstrap: str, topics: Mapping[str, int], load: HealthLoad, *, of_accounts: Mapping[str, int] | None = None
) -> None:
    """Send the load's first ``topics[name]`` records to each topic; blocks until the broker has them all.

    To each topic of ``of_accounts`` go all records of the load's first so many accounts.
    """
    bounds = {topic: key_of(count) for topic, count in (of_accounts or {}).items()}
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 50,
            "batch.size": 262_144,
            "log_level": 2,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 400_000,
        }
    )
    for number, (key, value, moment) in enumerate(records(load)):
        wanting = [topic for topic, count in topics.items() if number < count]
        wanting += [topic for topic, bound in bounds.items() if key < bound]
        for topic in wanting:
            while True:
                try:
                    producer.produce(topic, value, key, timestamp=moment)
                    break
                except BufferError:
                    producer.poll(0.1)
        if number % _POLL_EVERY == 0:
            producer.poll(0)
    if left := producer.flush(FLUSH_TIMEOUT_S):
        raise TimeoutError(f"{left} records were not acknowledged within {FLUSH_TIMEOUT_S} s")
