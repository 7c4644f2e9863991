"""``estop detector``: telemetry in, hits out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

from prometheus_client import REGISTRY

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.http_health import HealthServer
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_sign_in import KafkaSignInError
from emergency_stop.adapters.kafka_tail import CompactedTail
from emergency_stop.adapters.state_seed import StateSource
from emergency_stop.adapters.usage_watch import UsageWatch, watched
from emergency_stop.apps.detector_core import know_ids, warm_up
from emergency_stop.apps.detector_cores import CoreMaker
from emergency_stop.apps.detector_lanes import GROUP, LanesError, group_of, standby_of, state_source
from emergency_stop.apps.detector_metrics import DetectorCollector
from emergency_stop.apps.evaluation_publisher import BesidePublisher, EvaluationQueue
from emergency_stop.apps.evaluation_writer import EvaluationWriter
from emergency_stop.apps.freshness import FreshnessWriter
from emergency_stop.apps.lane_app import LaneSpec
from emergency_stop.apps.lane_worker import LaneWorker
from emergency_stop.apps.process import run_until_signal
from emergency_stop.apps.question_desk import WorkerSight
from emergency_stop.apps.standby_room import StandbyRoom
from emergency_stop.apps.trigger_book import TriggerBook
from emergency_stop.config import EXIT_CONFIG, Settings
from emergency_stop.domain import topics
from emergency_stop.domain.topics import QUESTIONS_SPEC
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry_http import build_registry

log = logging.getLogger(__name__)
_SHEDS: Final = (
    "evaluations that changed nothing are not recorded, and after a while over its memory no standby copies are kept"
)
_INPUTS: Final = (*topics.TELEMETRY, *topics.DETECTOR_LOOPS, QUESTIONS_SPEC)


def run(settings: Settings) -> int:
    """Detect until SIGTERM or SIGINT; blocking. Returns the process's exit code."""
    try:
        return run_until_signal(lambda stop: _serve(settings, stop))
    except (LanesError, KafkaSignInError) as error:
        log.error("the detector does not start: %s", error)  # noqa: TRY400  # the text says all
        return EXIT_CONFIG


async def _serve(settings: Settings, stop: asyncio.Event) -> int:
    registry = build_registry(settings.registry_url)
    codec = Codec(registry)
    book = TriggerBook(codec, settings.preventive_stop_level)
    name = f"{group_of(settings.detector_lane)}-{settings.instance_id}"
    source = await state_source(settings)
    tail = CompactedTail(settings.kafka, topics.TRIGGERS, book.record, client_id=name)
    publisher = KafkaPublisher(settings.kafka, client_id=name)
    evaluations = KafkaPublisher(settings.kafka, client_id=f"{name}-evaluations")
    queue = EvaluationQueue(evaluations)
    sight = WorkerSight()
    maker = CoreMaker(settings=settings, registry=registry, codec=codec, book=book, sight=sight)

    async def prepare() -> None:
        warm_up(registry)
        await asyncio.to_thread(know_ids, registry)
        await tail.start()
        await tail.caught_up()

    spec = _spec(settings, name, source, maker, prepare)
    watch = UsageWatch.of(settings, _SHEDS)
    if spec.standby is not None:
        watch.listen(StandbyRoom(spec.standby, settings.memory_bytes_max).note)
    worker = LaneWorker(spec, BesidePublisher(publisher, queue), SystemClock())
    sight.worker = worker
    REGISTRY.register(DetectorCollector(worker, maker.cores, book, queue))
    health = HealthServer(settings.metrics_host, settings.metrics_port, ready=worker.ready_conditions)
    writer = FreshnessWriter(settings, codec, worker, maker.cores, SystemClock(), client_id=f"{name}-freshness")
    recorder = EvaluationWriter(
        worker, maker.cores, book, queue, SystemClock(), enforcing=settings.enabled, sheds=watch.is_over
    )
    worker.run_beside(writer.run, recorder.run, queue.run)
    async with AsyncExitStack() as stack:
        stack.callback(health.stop)
        health.start()
        await stack.enter_async_context(watched(watch, GROUP, settings))
        for started in (publisher, evaluations):
            stack.push_async_callback(started.stop)
            await started.start()
        stack.push_async_callback(tail.stop)
        return await worker.serve(stop)


def _spec(
    settings: Settings, name: str, source: StateSource, maker: CoreMaker, prepare: Callable[[], Awaitable[None]]
) -> LaneSpec:
    return LaneSpec(
        app_id=group_of(settings.detector_lane),
        brokers=settings.kafka,
        input_topics=tuple(spec.name for spec in _INPUTS),
        source=source,
        core_factory=maker.make,
        instance_id=settings.instance_id,
        static_member=settings.is_named,
        session_timeout_ms=settings.session_timeout_ms,
        checkpoint_interval_ms=settings.checkpoint_interval_ms,
        blind_after_ms=settings.blind_after_ms,
        prepare=prepare,
        standby=standby_of(settings, name, source.topic),
    )
