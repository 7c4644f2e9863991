"""A lane worker whose job is the simplest one that tells the truth about loss: it counts records.

Sixteen pages of counts per partition, each with the offsets it has applied, as the detector's pages
have; every thousandth record makes an effect. Run as ``python -m tests.integration.counting_worker
<brokers> <group> <instance id>``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from aiokafka.record.default_records import DefaultRecordBatch

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.state_seed import StateSource
from emergency_stop.adapters.state_standby import StandbyReader
from emergency_stop.apps.lane_app import LaneSpec
from emergency_stop.apps.lane_worker import LaneWorker
from emergency_stop.apps.process import run_until_signal
from emergency_stop.columnar.fetched import FetchedBatch
from emergency_stop.ports import Publish

PAGES = 16
EFFECT_EVERY = 1_000
SESSION_TIMEOUT_MS = 6_000


@dataclass(frozen=True, slots=True)
class Names:
    """Topics of one group of workers, so that tests can share a broker."""

    group: str

    @property
    def topics(self) -> tuple[str, str]:
        return f"{self.group}.a", f"{self.group}.b"

    @property
    def state(self) -> str:
        return f"{self.group}.state"

    @property
    def effects(self) -> str:
        return f"{self.group}.effects"


class CountingCore:
    """A ``PartitionCore``: counts per page, each page with the next offset of each topic."""

    def __init__(self, effects_topic: str) -> None:
        self._effects_topic = effects_topic
        self._counts = [0] * PAGES
        self._applied: list[dict[str, int]] = [{} for _ in range(PAGES)]
        self._dirty: set[int] = set()

    def restore(self, records: Iterable[tuple[bytes, bytes]], positions: Mapping[str, int]) -> None:
        for applied in self._applied:
            applied.update(positions)
        for key, value in records:
            page = json.loads(value)
            self._counts[key[0]] = page["count"]
            for topic, offset in page["applied"].items():
                self._applied[key[0]][topic] = max(offset, self._applied[key[0]].get(topic, 0))

    def on_batch(self, batch: FetchedBatch, now_ms: int) -> Sequence[Publish]:
        effects = []
        for raw in batch.batches:
            for record in DefaultRecordBatch(raw):
                page = record.offset % PAGES
                applied = self._applied[page]
                if record.offset < max(batch.fetch_offset, applied.get(batch.topic, 0)):
                    continue
                self._counts[page] += 1
                applied[batch.topic] = record.offset + 1
                self._dirty.add(page)
                if record.offset % EFFECT_EVERY == 0:
                    name = f"{batch.topic}-{batch.partition}-{record.offset}".encode()
                    effects.append(Publish(self._effects_topic, name, b"hit"))
        return effects

    def on_tick(self, now_ms: int) -> Sequence[Publish]:
        return ()

    def next_deadline(self) -> int | None:
        return None

    def take_dirty(self) -> Iterator[Sequence[tuple[bytes, bytes | None]]]:
        for page in sorted(self._dirty):
            self._dirty.discard(page)
            state = {"count": self._counts[page], "applied": self._applied[page]}
            yield [(bytes([page]), json.dumps(state).encode())]


def lane_worker(
    brokers: str,
    names: Names,
    instance_id: str,
    publisher: KafkaPublisher,
    *,
    static_member: bool = True,
    sibling: str | None = None,
    blind_after_ms: int = 30_000,
    session_timeout_ms: int = SESSION_TIMEOUT_MS,
) -> LaneWorker:
    spec = LaneSpec(
        app_id=names.group,
        brokers=brokers,
        input_topics=names.topics,
        source=StateSource(brokers, names.state, sibling),
        core_factory=lambda _: CountingCore(names.effects),
        instance_id=instance_id,
        static_member=static_member,
        session_timeout_ms=session_timeout_ms,
        checkpoint_interval_ms=300,
        blind_after_ms=blind_after_ms,
        standby=StandbyReader(brokers, names.state, client_id=f"{instance_id}-standby", bytes_max=1 << 20),
    )
    return LaneWorker(spec, publisher, SystemClock())


async def serve(brokers: str, names: Names, instance_id: str, stop: asyncio.Event, *, static_member: bool) -> int:
    publisher = KafkaPublisher(brokers, client_id=instance_id)
    await publisher.start()
    try:
        return await lane_worker(brokers, names, instance_id, publisher, static_member=static_member).serve(stop)
    finally:
        await publisher.stop()


def main(brokers: str, group: str, instance_id: str, membership: str) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    static_member = membership == "static"
    return run_until_signal(lambda stop: serve(brokers, Names(group), instance_id, stop, static_member=static_member))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
