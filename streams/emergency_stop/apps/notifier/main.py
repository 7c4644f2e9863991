"""Wiring of the notifier's process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Final

from aiokafka.errors import KafkaError

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.adapters.http_health import HealthServer
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_sign_in import KafkaSignInError
from emergency_stop.adapters.kafka_tail import CompactedTail
from emergency_stop.adapters.kafka_topics import describe_topics
from emergency_stop.adapters.usage_watch import UsageWatch, watched
from emergency_stop.apps.notifier.books import ChannelBook, EmergencyBook, SilenceBook
from emergency_stop.apps.notifier.channels import Channel, LastResortPost, channels_of, last_resort_of
from emergency_stop.apps.notifier.metrics import NotifierMetrics
from emergency_stop.apps.notifier.telling import StateError, TellingPolicy
from emergency_stop.apps.notifier.worker import Books, NotifierSpec, NotifierWorker
from emergency_stop.apps.process import run_until_signal
from emergency_stop.config import EXIT_CONFIG, Settings, SettingsError
from emergency_stop.domain import topics
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry_http import RegistryError, build_registry

log = logging.getLogger(__name__)

GROUP: Final = "estop-notifier"
EXIT_UNAVAILABLE: Final = 69
EXIT_SOFTWARE: Final = 70


def run(settings: Settings) -> int:
    """Tell people until SIGTERM or SIGINT; blocking.

    Returns an exit code: 0, 69 without broker, 70 for a state that cannot be read, 78 for wrong settings.
    """
    try:
        channels, post = channels_of(settings), last_resort_of(settings)
        return run_until_signal(lambda stop: _serve(settings, channels, post, stop))
    except SettingsError as error:
        for problem in error.problems:
            log.error("the notifier does not start: %s", problem)  # noqa: TRY400  (the text says all)
        return EXIT_CONFIG
    except KafkaSignInError as error:
        log.error("the notifier does not start: %s", error)  # noqa: TRY400  (the text says all)
        return EXIT_CONFIG
    except StateError as error:
        log.error("the notifier does not start: %s", error)  # noqa: TRY400  (the text says all)
        return EXIT_SOFTWARE
    except RegistryError as error:
        log.error("the notifier ends, to begin anew: %s", error)  # noqa: TRY400  (the text says all)
        return EXIT_UNAVAILABLE
    except KafkaError as error:
        log.error("the notifier does not start: no broker at %s: %s", settings.brokers, error)  # noqa: TRY400
        return EXIT_UNAVAILABLE


async def _serve(
    settings: Settings, channels: Mapping[str, Channel], post: LastResortPost | None, stop: asyncio.Event
) -> int:
    await _check_topics(settings)
    codec, metrics = Codec(build_registry(settings.registry_url)), NotifierMetrics()
    watch = UsageWatch.of(settings)
    name = f"{GROUP}-{settings.instance_id}"
    publisher = KafkaPublisher(settings.kafka, client_id=name)
    async with _following(settings, codec, metrics, name) as books:
        spec = NotifierSpec(
            brokers=settings.kafka,
            group=GROUP,
            client_id=name,
            session_timeout_ms=settings.session_timeout_ms,
            group_instance_id=settings.instance_id if settings.is_named else None,
            policy=policy_of(settings, channels),
            patience_ms=settings.last_resort_patience_ms,
        )
        worker = NotifierWorker(spec, channels, post, books, publisher, codec, SystemClock(), metrics)
        health = HealthServer(settings.metrics_host, settings.metrics_port, ready=worker.ready_conditions)
        health.start()
        try:
            await publisher.start()
            async with watched(watch, GROUP, settings):
                await worker.serve(stop)
        finally:
            await publisher.stop()
            health.stop()
    return 0


async def _check_topics(settings: Settings) -> None:
    """Raises ``SettingsError`` for a missing topic: waiting for it would keep pages in silence."""
    wanted = (topics.NOTICES, topics.NOTIFIER_STATE)
    found = await describe_topics(settings.kafka, wanted)
    problems = [f"topic {name} is missing at {settings.brokers}; create it ('estop check')" for name in wanted
                if name not in found]  # fmt: skip
    if problems:
        raise SettingsError(problems)


def policy_of(settings: Settings, channels: Mapping[str, Channel]) -> TellingPolicy:
    """The settings that decide, as the core takes them."""
    return TellingPolicy(
        channels=tuple(channels),
        enabled=settings.notifications_enabled,
        group_ms=settings.notify_group_ms,
        inhibit_ms=settings.notify_inhibit_ms,
        per_minute_max=settings.notify_per_minute_max,
    )


@contextlib.asynccontextmanager
async def _following(settings: Settings, codec: Codec, metrics: NotifierMetrics, name: str) -> AsyncIterator[Books]:
    silences = SilenceBook(codec, lambda: metrics.unreadable(topics.SILENCES))
    channels = ChannelBook(codec, settings.preventive_stop_level)
    emergencies = EmergencyBook(codec)
    takers = {
        topics.SILENCES: silences.record,
        topics.TRIGGERS: channels.record,
        topics.EMERGENCIES: emergencies.record,
    }
    tails = {
        topic: CompactedTail(settings.kafka, topic, take, client_id=f"{name}-tail") for topic, take in takers.items()
    }
    for tail in tails.values():
        await tail.start()
    try:
        yield Books(silences, channels, emergencies, tails)
    finally:
        for tail in tails.values():
            await tail.stop()
