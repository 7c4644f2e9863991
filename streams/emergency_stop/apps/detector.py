"""``estop detector``: telemetry in, hits out."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from prometheus_client import REGISTRY

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.http_health import HealthServer
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_tail import CompactedTail
from emergency_stop.adapters.kafka_topics import describe_topics, ensure_topics
from emergency_stop.adapters.state_seed import StateSource
from emergency_stop.adapters.state_standby import StandbyReader
from emergency_stop.apps.detector_core import DetectorCore, warm_up
from emergency_stop.apps.detector_metrics import DetectorCollector
from emergency_stop.apps.evaluation_publisher import BesidePublisher, EvaluationQueue
from emergency_stop.apps.evaluation_writer import EvaluationWriter
from emergency_stop.apps.freshness import FreshnessWriter
from emergency_stop.apps.lane_app import LaneSpec
from emergency_stop.apps.lane_worker import LaneWorker
from emergency_stop.apps.process import run_until_signal
from emergency_stop.apps.question_desk import QuestionDesk, WorkerSight
from emergency_stop.apps.trigger_book import TriggerBook
from emergency_stop.columnar.batches import Scratch
from emergency_stop.config import EXIT_CONFIG, Settings
from emergency_stop.detect.condition_answers import ConditionBook
from emergency_stop.detect.recording import CHANGES_MAX, Recording
from emergency_stop.domain import topics
from emergency_stop.domain.topics import EVALUATIONS_SPEC, FRESHNESS_SPEC, QUESTIONS_SPEC, TopicSpec
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry_http import build_registry

GROUP: Final = "estop-detector"
log = logging.getLogger(__name__)
_CREATED_POLL_S: Final = 0.1
_INPUTS: Final = (*topics.TELEMETRY, *topics.DETECTOR_LOOPS, QUESTIONS_SPEC)


class LanesError(ValueError):
    """The lanes' topics on the broker do not fit together; the text says which and what to do."""


def group_of(lane: str) -> str:
    """The consumer group of a lane's detectors."""
    return GROUP if lane == topics.LANES[0] else f"{GROUP}-{lane}"


def run(settings: Settings) -> int:
    """Detect until SIGTERM or SIGINT; blocking. Returns the process's exit code."""
    try:
        return run_until_signal(lambda stop: _serve(settings, stop))
    except LanesError as error:
        log.error("the detector does not start: %s", error)  # noqa: TRY400  # the text says all
        return EXIT_CONFIG


def _standby(settings: Settings, name: str, state_topic: str) -> StandbyReader | None:
    if settings.standby_replicas == 0:
        return None
    client_id = f"{name}-standby"
    return StandbyReader(settings.brokers, state_topic, client_id=client_id, bytes_max=settings.standby_bytes_max)


async def _source(settings: Settings) -> StateSource:
    """The lane's state topic, created where it is missing (as what detectors have been given since the first
    version), and the other lane's where there is one.

    Raises ``LanesError`` where they differ: without the other's state a new lane would repeat hits of long ago.
    """
    own = topics.detector_state(settings.detector_lane)
    specs = (
        TopicSpec(own, None, compacted=True),
        FRESHNESS_SPEC,
        QUESTIONS_SPEC,
        topics.ANSWERS_SPEC,
        EVALUATIONS_SPEC,
    )
    wanted = [settings.partitioned(spec) for spec in specs]
    await ensure_topics(settings.brokers, wanted, replication=settings.replication_factor)
    (other,) = [topics.detector_state(lane) for lane in topics.LANES if lane != settings.detector_lane]
    # Brokers hear of a new topic one after the other.
    while own not in (found := await describe_topics(settings.brokers, [own, other])):  # noqa: ASYNC110  # no event
        await asyncio.sleep(_CREATED_POLL_S)
    if other not in found:
        return StateSource(settings.brokers, own)
    if found[other].partitions != found[own].partitions:
        counts = ", ".join(f"{name}: {found[name].partitions}" for name in (own, other))
        raise LanesError(
            f"both lanes' state topics must have the same number of partitions, but there are {counts};"
            " delete the topic of the lane that is to begin anew"
        )
    return StateSource(settings.brokers, own, other)


async def _serve(settings: Settings, stop: asyncio.Event) -> int:
    registry = build_registry(settings.registry_url)
    codec = Codec(registry)
    book = TriggerBook(codec, settings.preventive_stop_level)
    group = group_of(settings.detector_lane)
    name = f"{group}-{settings.instance_id}"
    source = await _source(settings)
    tail = CompactedTail(settings.brokers, topics.TRIGGERS, book.record, client_id=name)
    publisher = KafkaPublisher(settings.brokers, client_id=name)
    evaluations = KafkaPublisher(settings.brokers, client_id=f"{name}-evaluations")
    queue = EvaluationQueue(evaluations)
    recording = Recording(
        rows_max=settings.evaluations_max if settings.detailed_logging else 0,
        changes_max=CHANGES_MAX,
        clear_margin_percent=settings.clear_margin_percent,
    )
    cores: dict[int, DetectorCore] = {}
    conditions = ConditionBook(settings.clear_margin_percent)
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
            desk=QuestionDesk(partition, conditions, WorkerSight(worker)),
            recording=recording,
        )
        return cores[partition]

    async def prepare() -> None:
        warm_up(registry)
        await tail.start()
        await tail.caught_up()

    spec = LaneSpec(
        app_id=group,
        brokers=settings.brokers,
        input_topics=tuple(spec.name for spec in _INPUTS),
        source=source,
        core_factory=core,
        instance_id=settings.instance_id,
        static_member=settings.is_named,
        session_timeout_ms=settings.session_timeout_ms,
        checkpoint_interval_ms=settings.checkpoint_interval_ms,
        blind_after_ms=settings.blind_after_ms,
        prepare=prepare,
        standby=_standby(settings, name, source.topic),
    )
    worker = LaneWorker(spec, BesidePublisher(publisher, queue), SystemClock())
    collector = DetectorCollector(worker, cores, book, queue)
    REGISTRY.register(collector)
    health = HealthServer(settings.metrics_host, settings.metrics_port, ready=worker.ready_conditions)
    health.start()
    await publisher.start()
    await evaluations.start()
    writer = FreshnessWriter(settings, codec, worker, cores, SystemClock(), client_id=f"{name}-freshness")
    recorder = EvaluationWriter(worker, cores, book, queue, SystemClock(), enforcing=settings.enabled)
    beside = {asyncio.create_task(one.run()) for one in (writer, recorder, queue)}
    try:
        return await worker.serve(stop)
    finally:
        for one in beside:
            one.cancel()
        await asyncio.wait(beside)
        await tail.stop()
        await publisher.stop()
        await evaluations.stop()
        health.stop()
