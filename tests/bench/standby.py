"""``make bench-standby``: how long one partition takes to restore, from its whole log and from a standby copy.

On Apache Kafka, with the production core and as many accounts in one partition as asked for. Every page is written
``--rounds`` times, as checkpoints do before compaction comes; the copy lacks the last few pages. Prints one line of
JSON; ends with 1 where the two restores differ.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_topics import ensure_topics
from emergency_stop.adapters.record_batch import record_batch
from emergency_stop.adapters.state_log import RestoredState, StateCopy, StateLog, read_state
from emergency_stop.adapters.state_standby import StandbyReader
from emergency_stop.apps.detector_core import DetectorCore, warm_up
from emergency_stop.columnar.batches import Scratch
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.detect.compile import compile_plan
from emergency_stop.domain.default_triggers import default_pack
from emergency_stop.domain.topics import DETECTOR_STATE, TELEMETRY_HEALTH, TopicSpec
from emergency_stop.testing.brokers import ApacheKafka
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.bench.load import HealthLoad, records

_BASE_MS: Final = 1_700_000_000_000
_BATCH_RECORDS: Final = 4_000
_EVENTS_PER_ACCOUNT: Final = 4
_TAIL_PAGES: Final = 100
_COPY_BYTES_MAX: Final = 1 << 34
_REGISTRY: Final = LocalRegistry()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.standby", description=__doc__)
    parser.add_argument("--accounts", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    warm_up(_REGISTRY)
    with tempfile.TemporaryDirectory(prefix="estop-standby-") as folder, ApacheKafka(Path(folder)) as kafka:
        report = asyncio.run(_bench(kafka.bootstrap, options.accounts, options.rounds))
    print(json.dumps(report))
    return 0 if report["same"] else 1


async def _bench(bootstrap: str, accounts: int, rounds: int) -> dict[str, Any]:
    await ensure_topics(bootstrap, [TopicSpec(DETECTOR_STATE, None, compacted=True, partitions=1)])
    publisher = KafkaPublisher(bootstrap, client_id="bench-standby")
    await publisher.start()
    standby = StandbyReader(bootstrap, DETECTOR_STATE, client_id="standby", bytes_max=_COPY_BYTES_MAX)
    reading = asyncio.create_task(standby.run())
    standby.follow_all_but(())
    try:
        state_log = StateLog(publisher, DETECTOR_STATE, 0, 1, RestoredState())
        pages = _pages(accounts)
        for _ in range(rounds):
            await _write(state_log, pages, accounts)
        copy = await _caught_up(bootstrap, standby)
        standby.follow_all_but((0,))
        await _write(state_log, pages[:_TAIL_PAGES], accounts)
        warm, warm_ms = await _restored(bootstrap, copy)
        cold, cold_ms = await _restored(bootstrap, None)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await publisher.stop()
    load_ms = _load_ms(cold)
    return {
        "accounts": accounts,
        "log_mb": round(sum(len(value) for _, value in pages) * rounds / 1e6),
        "copy_mb": round(copy.size_bytes / 1e6),
        "read_ms": {"whole_log": cold_ms, "standby": warm_ms},
        "load_into_core_ms": load_ms,
        "same": warm == cold,
    }


def _core() -> DetectorCore:
    plan = compile_plan(default_pack(0))
    return DetectorCore(_REGISTRY, Codec(_REGISTRY), lambda: plan, Scratch(), enforcing=True)


def _pages(accounts: int) -> list[tuple[bytes, bytes]]:
    core = _core()
    for batch in _batches(accounts):
        core.on_batch(batch, 0)
    return [(key, value) for dirty in core.take_dirty() for key, value in dirty if value is not None]


def _batches(accounts: int) -> Iterator[FetchedBatch]:
    """Random scores, spread over ten minutes: pages that compress as badly as those of real accounts."""
    stream = records(HealthLoad(1, accounts * _EVENTS_PER_ACCOUNT, accounts, _BASE_MS))
    at = 0
    while chunk := [(moment, key, value) for key, value, moment in islice(stream, _BATCH_RECORDS)]:
        raw = bytearray(record_batch(chunk))
        raw[:8] = at.to_bytes(8, "big")
        yield FetchedBatch(TELEMETRY_HEALTH, 0, at, at + len(chunk), (bytes(raw),))
        at += len(chunk)


async def _write(state_log: StateLog, pages: list[tuple[bytes, bytes]], position: int) -> None:
    for first in range(0, len(pages), _TAIL_PAGES):
        await state_log.write_records(pages[first : first + _TAIL_PAGES])
    await state_log.write_positions({TELEMETRY_HEALTH: position})


async def _caught_up(bootstrap: str, standby: StandbyReader) -> StateCopy:
    whole = StateCopy()
    await read_state(bootstrap, DETECTOR_STATE, 0, client_id="bench", copy=whole)
    while True:
        copy = standby.lend(0)
        if copy is not None and copy.next_offset >= whole.next_offset:
            return copy
        await asyncio.sleep(0.05)


async def _restored(bootstrap: str, copy: StateCopy | None) -> tuple[RestoredState, int]:
    """(what was read, milliseconds)."""
    started = time.monotonic()
    state = await read_state(bootstrap, DETECTOR_STATE, 0, client_id="bench", copy=copy)
    return state, round((time.monotonic() - started) * 1_000)


def _load_ms(state: RestoredState) -> int:
    core, started = _core(), time.monotonic()
    core.restore(state.records.items(), state.positions)
    return round((time.monotonic() - started) * 1_000)


if __name__ == "__main__":
    sys.exit(main())
