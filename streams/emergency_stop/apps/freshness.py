"""Writing how far this process's partitions are to ``estop.freshness``, for everybody who must know that they see."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from aiokafka.errors import KafkaError

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.apps.detector_core import DetectorCore
from emergency_stop.apps.lane_worker import LaneWorker
from emergency_stop.config import Settings
from emergency_stop.detect.live_accounts import count_live, seen_accounts
from emergency_stop.domain.messages import Freshness
from emergency_stop.domain.topics import FRESHNESS
from emergency_stop.ports import Clock
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import RegistryError

log = logging.getLogger(__name__)


def freshness_records(
    worker: LaneWorker, lane: str, instance_id: str, now_ms: int, live_accounts: Mapping[int, int]
) -> list[Freshness]:
    """One per partition that the worker owns and has restored. ``live_accounts``: by partition, 0 where not counted."""
    return [
        Freshness(
            lane, partition, instance_id, topics, min((one.fresh_at for one in topics), default=0), now_ms,
            live_accounts=live_accounts.get(partition, 0),
        )
        for partition, topics in worker.progress.freshness().items()
    ]  # fmt: skip


class FreshnessWriter:
    """On a connection of its own: what is said about the detector must not delay a hit. ``run`` never ends."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        worker: LaneWorker,
        cores: Mapping[int, DetectorCore],
        clock: Clock,
        *,
        client_id: str,
    ) -> None:
        self._settings = settings
        self._codec = codec
        self._worker = worker
        self._cores = cores
        self._clock = clock
        self._publisher = KafkaPublisher(settings.kafka, client_id=client_id)

    async def run(self) -> None:
        interval_s = self._settings.freshness_interval_ms / 1000
        try:
            while True:
                await asyncio.sleep(interval_s)
                try:
                    await self._write()
                except (KafkaError, OSError, RegistryError) as error:
                    log.warning("%s was not written: %s; trying again in %g s", FRESHNESS, error, interval_s)
        finally:
            await self._publisher.stop()

    async def _write(self) -> None:
        await self._publisher.start()
        lane, instance_id = self._settings.detector_lane, self._settings.instance_id
        now_ms = self._clock.now_ms()
        live = await self._live_accounts(now_ms)
        for record in freshness_records(self._worker, lane, instance_id, now_ms, live):
            key = f"{record.lane}/{record.partition}".encode()
            await self._publisher.publish(FRESHNESS, key, self._codec.encode(record, FRESHNESS))

    async def _live_accounts(self, now_ms: int) -> dict[int, int]:
        """By partition; counted on another thread, because a hit must not wait for it."""
        owned = [number for number in self._worker.progress.freshness() if number in self._cores]
        return {
            number: await asyncio.to_thread(
                count_live, seen_accounts(self._cores[number].detector.topics.values()), now_ms
            )
            for number in owned
        }
