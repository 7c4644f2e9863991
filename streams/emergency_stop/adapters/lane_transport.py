"""Faust's Kafka transport with the columnar lane in it.

What differs from Faust's own: responses of lane topics stay whole (one message per partition response);
the assignor is Range, so equal partition numbers of all topics meet on one worker; a fetch waits tens of
milliseconds at most; and an acknowledged message commits everything up to its offset, since in the lane a
worker handles each partition's batches strictly in order. Committed offsets are a hint for monitoring:
the worker's own position record decides where to continue.
"""

from __future__ import annotations

from time import monotonic
from typing import Any, ClassVar, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from emergency_stop.adapters.kafka_security import client_arguments
from emergency_stop.adapters.lane_fetch import LaneTopics, install_seam

FETCH_WAIT_MS: Final = 20
FETCH_BYTES_MAX: Final = 64 * 1024 * 1024


class LaneConsumerThread(driver.AIOKafkaConsumerThread):
    """Creates the aiokafka consumer that the lane needs."""

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        install_seam()
        app: Any = self.app  # a LaneWorker's app; Faust types it as its base
        conf = app.conf
        self._assignor = RangePartitionAssignor
        return AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            **client_arguments(app.lane_brokers),
            partition_assignment_strategy=[RangePartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=None,
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_bytes=FETCH_BYTES_MAX,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            fetch_min_bytes=1,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            check_crcs=True,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            isolation_level="read_committed",
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            key_deserializer=LaneTopics(app.lane_topics),
        )

    #: When the group last knew this member to be alive, on the monotonic clock in seconds.
    alive_at: float = 0.0

    async def on_start(self) -> None:
        await super().on_start()
        coordinator = self._ensure_consumer()._coordinator  # noqa: SLF001  (aiokafka tells nobody of heartbeats)
        send = coordinator._do_heartbeat  # noqa: SLF001

        async def observed() -> bool:
            asked_at = monotonic()
            answered = bool(await send())
            if answered:
                self.alive_at = asked_at
            return answered

        coordinator._do_heartbeat = observed  # noqa: SLF001

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self.alive_at = monotonic()
        await super().on_partitions_assigned(assigned, generation_id)


class LaneConsumer(driver.Consumer):
    """Faust's consumer, with bookkeeping per message instead of per offset."""

    _thread: LaneConsumerThread

    def _new_consumer_thread(self) -> LaneConsumerThread:
        return LaneConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def wait_empty(self) -> None:
        """Partitions are about to leave: make their state durable now, so that their messages are acknowledged."""
        app: Any = self.app  # a LaneWorker's app; Faust types it as its base
        await app.flush_lane()
        await super().wait_empty()

    def silent_ms(self) -> int:
        """How long ago the group last knew this member to be alive, milliseconds."""
        return int((monotonic() - self._thread.alive_at) * 1000)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """A batch spans many offsets and Faust sees only its last: not a gap."""

    def _new_offset(self, tp: TP) -> int | None:
        """Batches of a partition are handled and acknowledged in order: the newest says it all."""
        acked = self._acked[tp]
        if not acked:
            return None
        newest = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        return int(newest) + 1


class LaneTransport(driver.Transport):
    """Set as an app's transport; the app carries ``lane_topics``."""

    Consumer: ClassVar[Any] = LaneConsumer
