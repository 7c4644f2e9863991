"""``estop coordinator``: a Faust worker over the pure coordinator core, one core per partition.

Hits, requests and acknowledgements are co-partitioned by scope, so whatever concerns a scope meets in one
core. Announcements of services and the holds published so far are compacted topics that every worker reads
whole before it decides anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from aiokafka.errors import KafkaError
from prometheus_client import REGISTRY

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.http_health import HealthServer
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_sign_in import KafkaSignInError
from emergency_stop.adapters.kafka_tail import CompactedTail, TailRecord
from emergency_stop.adapters.state_seed import StateSource
from emergency_stop.adapters.usage_watch import UsageWatch, watched
from emergency_stop.apps.blind_sight import BlindSight, FreshnessBook, WatcherBook, probe_telemetry
from emergency_stop.apps.coordinator_cores import CoreMaker, policy_of
from emergency_stop.apps.coordinator_keys import following, load_signing_key
from emergency_stop.apps.coordinator_metrics import CoordinatorCollector, CoordinatorMetrics
from emergency_stop.apps.coordinator_topics import INPUTS, TopicsError, coordinator_schemas, find_layout
from emergency_stop.apps.lane_app import LaneSpec
from emergency_stop.apps.lane_worker import LaneWorker
from emergency_stop.apps.procedure_file import ProcedureFileError
from emergency_stop.apps.process import run_until_signal, unless_stopped
from emergency_stop.apps.service_book import HoldBook, ServiceBook
from emergency_stop.config import EXIT_CONFIG, Settings
from emergency_stop.coordinate.leases import Attendance
from emergency_stop.domain import topics
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry_http import build_registry
from emergency_stop.wire.signing import KeyFileError
from emergency_stop.wire.trusted_keys import KeyFileVerifier

log = logging.getLogger(__name__)

EXIT_UNAVAILABLE: Final = 69
APP_ID: Final = "estop-coordinator"
#: What a successor needs, beyond the group's session, until it coordinates: joining, and reading the state.
RESTORE_MS: Final = 4_000


def run(settings: Settings) -> int:
    """Coordinate until SIGINT or SIGTERM. Returns an exit code: 0, 69 without broker, 78 for wrong settings."""
    try:
        return run_until_signal(lambda stop: serve(settings, stop))
    except (KeyFileError, TopicsError, ProcedureFileError, KafkaSignInError) as error:
        log.error("the coordinator does not start: %s", error)  # noqa: TRY400  # the text says all
        return EXIT_CONFIG
    except KafkaError as error:
        log.error("the coordinator does not start: no broker at %s: %s", settings.brokers, error)  # noqa: TRY400
        return EXIT_UNAVAILABLE


async def serve(settings: Settings, stop: asyncio.Event) -> int:
    """As ``run``, within a running event loop. Raises what ``run`` turns into exit codes."""
    registry = build_registry(settings.registry_url)
    codec = Codec(registry)
    signer, policy = load_signing_key(settings), policy_of(settings)
    attendance = Attendance(settings.lease_ms)
    # behind the signing key, which is put among the trusted ones where it is new
    verifier = KeyFileVerifier(settings.verify_keys_file) if settings.verify_keys_file else None
    may_act_ms = settings.lease_ms + settings.lease_hold_delay_ms
    book = ServiceBook(settings.services, codec, attendance, lost_ms=settings.heartbeat_lost_ms, may_act_ms=may_act_ms)
    published = HoldBook(codec, settings.blast_window_ms, verifier)
    layout = await find_layout(settings)
    _compare_with_takeover(settings)
    # before anything is followed: the first stop must not be what asks the registry
    if not await unless_stopped(coordinator_schemas(registry, settings, layout).ready(), stop):
        return 0
    async with (
        following(signer),
        _following(settings, book, published) as tails,
        _watching(settings, codec, layout.telemetry) as sight,
    ):
        maker = CoreMaker(
            settings=settings, policy=policy, layout=layout, codec=codec, signer=signer, metrics=CoordinatorMetrics(),
            attendance=attendance, book=book, published=published, sight=sight,
        )  # fmt: skip
        return await _work(settings, maker, tails, stop)


@dataclass(frozen=True, slots=True)
class _Tails:
    """What all partitions of the process read of services and holds."""

    tails: tuple[CompactedTail, ...]
    lease_ms: int

    async def caught_up(self) -> None:
        """Wait until both books have what was written when the process started."""
        await asyncio.gather(*(tail.caught_up() for tail in self.tails))

    async def read_up(self) -> None:
        """Wait until they have what is written now; for a lease's time, and no longer.

        By then every lease is over that a predecessor granted to somebody who is not known here, and stops must not
        wait for a topic without a leader.
        """
        try:
            async with asyncio.timeout(self.lease_ms / 1000):
                await asyncio.gather(*(tail.read_up() for tail in self.tails))
        except TimeoutError:
            log.error(  # noqa: TRY400  # the text says all
                "%s or %s could not be read to its end within a lease (%d ms); the partition is taken over without:"
                " look whether they have leaders (estop check)",
                topics.SERVICES, topics.HOLDS, self.lease_ms,
            )  # fmt: skip


async def _work(settings: Settings, maker: CoreMaker, tails: _Tails, stop: asyncio.Event) -> int:
    """The worker, its metrics and its publishers, from start to end."""
    client_id = f"{APP_ID}-{settings.instance_id}"
    publisher = KafkaPublisher(settings.kafka, client_id=client_id)
    # a topic of its own that is gone, or has no leader, would hold up every stop of one producer for all
    telling = KafkaPublisher(settings.kafka, client_id=f"{client_id}-telling")
    spec = LaneSpec(
        app_id=APP_ID,
        brokers=settings.kafka,
        input_topics=INPUTS,
        source=StateSource(settings.kafka, topics.COORDINATOR_STATE),
        core_factory=maker.make,
        instance_id=settings.instance_id,
        static_member=settings.is_named,
        session_timeout_ms=settings.session_timeout_ms,
        checkpoint_interval_ms=0,
        prepare=tails.caught_up,
        read_up=tails.read_up,
        behind=maker.layout.told,
    )
    worker = LaneWorker(spec, publisher, SystemClock(), telling)
    watch = UsageWatch.of(settings)
    REGISTRY.register(CoordinatorCollector(worker, maker.cores))
    health = HealthServer(settings.metrics_host, settings.metrics_port, ready=worker.ready_conditions)
    health.start()
    try:
        await publisher.start()
        await telling.start()
        async with watched(watch, APP_ID, settings):
            return await worker.serve(stop)
    finally:
        await asyncio.gather(publisher.stop(), telling.stop())
        health.stop()


def _compare_with_takeover(settings: Settings) -> None:
    """Half of a lease is left at the worst when its coordinator dies: the next one must be there within that."""
    takeover_ms = settings.session_timeout_ms + RESTORE_MS
    if settings.lease_ms // 2 < takeover_ms:
        log.warning(
            "ESTOP_LEASE=%d is short: when a coordinator dies, another takes over within about %d ms"
            " (ESTOP_SESSION_TIMEOUT_MS, and reading its state), and services would stop meanwhile; set %d",
            settings.lease_ms,
            takeover_ms,
            takeover_ms * 2,
        )


@contextlib.asynccontextmanager
async def _watching(settings: Settings, codec: Codec, partitions: int) -> AsyncIterator[BlindSight]:
    """Nobody waits for this to be read: within the time that makes a partition blind, it was."""
    client_id = f"{APP_ID}-{settings.instance_id}-sight"
    watchers = WatcherBook(codec, settings.preventive_stop_level)
    freshness = FreshnessBook(codec, SystemClock())
    words = CompactedTail(settings.kafka, topics.FRESHNESS, freshness.record, client_id=client_id)
    triggers = CompactedTail(settings.kafka, topics.TRIGGERS, watchers.record, client_id=client_id)
    interval_ms = settings.freshness_interval_ms
    probing = asyncio.create_task(
        probe_telemetry(settings.kafka, freshness, partitions, client_id=client_id, interval_ms=interval_ms)
    )
    for tail in (words, triggers):
        await tail.start()
    try:
        yield BlindSight(freshness, watchers, words.silent_ms)
    finally:
        probing.cancel()
        await asyncio.wait({probing})
        for tail in (words, triggers):
            await tail.stop()


@contextlib.asynccontextmanager
async def _following(settings: Settings, book: ServiceBook, published: HoldBook) -> AsyncIterator[_Tails]:
    """Yields what tells when both books have what was written."""
    client_id = f"{APP_ID}-{settings.instance_id}-tail"
    clock = SystemClock()

    def announced(record: TailRecord) -> None:
        written_at = None if services.is_caught_up else record.timestamp_ms
        book.record(record.key, record.value, clock.now_ms(), written_at=written_at)

    def held(record: TailRecord) -> None:
        published.record(record.value, record.key)

    services = CompactedTail(settings.kafka, topics.SERVICES, announced, client_id=client_id)
    tails = (services, CompactedTail(settings.kafka, topics.HOLDS, held, client_id=client_id))

    for tail in tails:
        await tail.start()
    try:
        yield _Tails(tails, settings.lease_ms)
    finally:
        for tail in tails:
            await tail.stop()
