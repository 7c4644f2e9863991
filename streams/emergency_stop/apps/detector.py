"""``estop detector``: telemetry in, hits out."""

from __future__ import annotations

import asyncio
from typing import Final

from prometheus_client import REGISTRY

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.http_health import HealthServer
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_tail import CompactedTail
from emergency_stop.apps.detector_core import DetectorCore, warm_up
from emergency_stop.apps.detector_metrics import DetectorCollector
from emergency_stop.apps.lane_worker import LaneSpec, LaneWorker
from emergency_stop.apps.process import run_until_signal
from emergency_stop.apps.trigger_book import TriggerBook
from emergency_stop.columnar.batches import Scratch
from emergency_stop.config import Settings
from emergency_stop.domain import topics
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry_http import build_registry

GROUP: Final = "estop-detector"


def run(settings: Settings) -> int:
    """Detect until SIGTERM or SIGINT; blocking. Returns the process's exit code."""
    return run_until_signal(lambda stop: _serve(settings, stop))


async def _serve(settings: Settings, stop: asyncio.Event) -> int:
    registry = build_registry(settings.registry_url)
    codec = Codec(registry)
    book = TriggerBook(codec, settings.preventive_stop_level)
    name = f"{GROUP}-{settings.instance_id}"
    tail = CompactedTail(settings.brokers, topics.TRIGGERS, book.record, client_id=name)
    publisher = KafkaPublisher(settings.brokers, client_id=name)
    cores: dict[int, DetectorCore] = {}
    scratch = Scratch()  # all of them work on this thread, one batch after the other

    def core(partition: int) -> DetectorCore:
        cores[partition] = DetectorCore(
            registry,
            codec,
            book.plan,
            scratch,
            partition=partition,
            enforcing=settings.enabled,
            interval_ms=settings.trigger_detection_interval_ms,
        )
        return cores[partition]

    async def prepare() -> None:
        warm_up(registry)
        await tail.start()
        await tail.caught_up()

    spec = LaneSpec(
        app_id=GROUP,
        brokers=settings.brokers,
        input_topics=tuple(spec.name for spec in (*topics.TELEMETRY, *topics.DETECTOR_LOOPS)),
        state_topic=topics.DETECTOR_STATE,
        core_factory=core,
        instance_id=settings.instance_id,
        static_member=settings.is_named,
        session_timeout_ms=settings.session_timeout_ms,
        checkpoint_interval_ms=settings.checkpoint_interval_ms,
        prepare=prepare,
    )
    worker = LaneWorker(spec, publisher, SystemClock())
    collector = DetectorCollector(worker, cores, book)
    REGISTRY.register(collector)
    health = HealthServer(settings.metrics_host, settings.metrics_port, ready=worker.ready_conditions)
    health.start()
    await publisher.start()
    try:
        return await worker.serve(stop)
    finally:
        await tail.stop()
        await publisher.stop()
        health.stop()
