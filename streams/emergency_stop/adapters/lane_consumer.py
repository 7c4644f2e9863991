"""The lane on a plain aiokafka consumer: one ``FetchedBatch`` per fetched partition response."""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from emergency_stop.adapters.kafka_security import client_arguments
from emergency_stop.adapters.lane_fetch import LaneTopics, install_seam
from emergency_stop.config.kafka import Brokers


def lane_consumer(
    brokers: str | Brokers,
    group: str,
    topics: Iterable[str],
    *,
    client_id: str,
    session_timeout_ms: int,
    listener: ConsumerRebalanceListener,
    fetch_bytes_max: int = 2 * 1024 * 1024,
) -> AIOKafkaConsumer:
    """A subscribed consumer, not yet started. Its records' values are ``FetchedBatch``; it never commits by itself."""
    install_seam()
    wanted = sorted(set(topics))
    consumer = AIOKafkaConsumer(
        **client_arguments(brokers),
        group_id=group,
        client_id=client_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        partition_assignment_strategy=[RangePartitionAssignor],
        session_timeout_ms=session_timeout_ms,
        heartbeat_interval_ms=session_timeout_ms // 4,
        max_poll_interval_ms=600_000,
        max_partition_fetch_bytes=fetch_bytes_max,
        fetch_max_wait_ms=100,
        metadata_max_age_ms=10_000,
        key_deserializer=LaneTopics(frozenset(wanted)),
    )
    consumer.subscribe(wanted, listener=listener)
    return consumer
