"""``estop service NAME``: one instance of a reference service as a process."""

from __future__ import annotations

import asyncio
import difflib
import logging
import signal
from collections.abc import Sequence
from typing import Final

from aiokafka.errors import KafkaError
from prometheus_client import REGISTRY

from emergency_stop.adapters.http_health import HealthServer
from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.adapters.kafka_sign_in import KafkaSignInError
from emergency_stop.adapters.usage_watch import UsageWatch, watched
from emergency_stop.config import EXIT_CONFIG, Settings
from emergency_stop.integrations.account_health_monitor import AccountHealthMonitor
from emergency_stop.integrations.advanced_behavioral_pattern_engine import AdvancedBehavioralPatternEngine
from emergency_stop.integrations.enterprise_anti_detection_manager import EnterpriseAntiDetectionManager
from emergency_stop.integrations.guard_metrics import GuardCollector
from emergency_stop.integrations.reference import ReferenceService
from emergency_stop.integrations.twikit_realtime_sync import TwikitRealtimeSync
from emergency_stop.integrations.twikit_session_manager import TwikitSessionManager
from emergency_stop.sdk import GuardStartError, StopGuard
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry_http import build_registry
from emergency_stop.wire.signing import KeyFileError
from emergency_stop.wire.trusted_keys import KeyFileVerifier

log = logging.getLogger(__name__)

SERVICES: Final[dict[str, type[ReferenceService]]] = {
    kind.service: kind
    for kind in (
        AccountHealthMonitor,
        TwikitRealtimeSync,
        EnterpriseAntiDetectionManager,
        AdvancedBehavioralPatternEngine,
        TwikitSessionManager,
    )
}
#: What a service needs before it may act again, and what a cascading stop must therefore stop later.
DEPENDS_ON: Final[dict[str, tuple[str, ...]]] = {
    "realtimeSync": ("sessionManager",),
    "behavioralEngine": ("sessionManager", "antiDetectionManager"),
    "sessionManager": ("antiDetectionManager",),
}
EXIT_UNAVAILABLE: Final = 69
GRACE_MS_MAX: Final = 10_000


def account_names(count: int) -> tuple[str, ...]:
    """The accounts that ``count`` stands for on the command line: ``acc-000000`` and on."""
    return tuple(f"acc-{number:06d}" for number in range(count))


def run_service(settings: Settings, name: str, accounts: int | Sequence[str], rate: float) -> int:
    """Run service ``name`` until SIGTERM or SIGINT; blocking.

    ``accounts`` are names, or a number of them (see ``account_names``); ``rate`` is actions per second of
    the whole instance. Returns the exit code: 0 after an orderly end, 1 when work was still in flight,
    69 when the broker could not be reached, 78 for wrong arguments, keys, or a sign-in that it refuses.
    """
    kind = SERVICES.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, SERVICES, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        log.error("no reference service %r%s; known: %s", name, hint, ", ".join(SERVICES))
        return EXIT_CONFIG
    chosen = account_names(accounts) if isinstance(accounts, int) else tuple(accounts)
    try:
        return asyncio.run(_serve(settings, kind, chosen, rate))
    except (KeyFileError, ValueError, KafkaSignInError) as error:
        log.error("%s does not start: %s", name, error)  # noqa: TRY400  # the text says all; a trace would hide it
        return EXIT_CONFIG
    except (GuardStartError, KafkaError) as error:
        log.error("%s does not start: %s", name, error)  # noqa: TRY400
        return EXIT_UNAVAILABLE


def build_guard(settings: Settings, name: str) -> StopGuard:
    """A guard as the settings want it, without a stop handler yet. Raises ``KeyFileError``."""
    verifier = KeyFileVerifier(settings.verify_keys_file) if settings.verify_keys_file else None
    return StopGuard(
        name,
        settings.kafka,
        instance_id=settings.instance_id,
        depends_on=DEPENDS_ON.get(name, ()),
        heartbeat_ms=settings.health_monitoring_interval_ms,
        graceful_timeout_ms=settings.graceful_stop_timeout_ms,
        without_lease=settings.without_lease,
        lease_hold_delay_ms=settings.lease_hold_delay_ms,
        verifier=verifier,
        registry=build_registry(settings.registry_url),
    )


async def _serve(settings: Settings, kind: type[ReferenceService], accounts: Sequence[str], rate: float) -> int:
    guard = build_guard(settings, kind.service)
    # The record of side effects has its own connection: it must not queue behind answers, nor they behind it.
    publisher = KafkaPublisher(settings.kafka, client_id=f"{kind.service}-{guard.instance_id}-activity")
    service = kind(guard, publisher, Codec(build_registry(settings.registry_url)), accounts, rate)
    watch = UsageWatch.of(settings)
    guard.handle_stops(service.emergency_stop, service.save_state, service.verify_state, service.health)
    health = HealthServer(settings.metrics_host, settings.metrics_port, ready=lambda: _conditions(guard))
    REGISTRY.register(GuardCollector(guard))
    health.start()
    try:
        async with watched(watch, kind.service, settings):
            await publisher.start()
            await guard.start()
            work = asyncio.create_task(service.run(), name=kind.service)
            try:
                await _until_told_to_end(work)
            finally:
                quiet = await guard.stop(GRACE_MS_MAX)
                work.cancel()
                await publisher.stop()  # before work ends: it waits for what it did to be on record, or lost
                await _ended(work)
    finally:
        await publisher.stop()
        health.stop()
    log.info("%s performed %d side effects, was refused %d", kind.service, service.performed, service.refused)
    return 0 if quiet else 1


async def _ended(work: asyncio.Task[None]) -> None:
    await asyncio.wait({work})
    error = None if work.cancelled() else work.exception()
    if error is not None:
        log.warning("work ended with %r", error)


def _conditions(guard: StopGuard) -> dict[str, bool]:
    """Readiness, by condition; the name of a failing one says what is wrong."""
    problem = guard.not_ready_because()
    return {problem or "the holds are read and fresh": not problem}


async def _until_told_to_end(work: asyncio.Task[None]) -> None:
    """Wait for SIGTERM or SIGINT. Raises what ended ``work``, should it end first."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    waiter = asyncio.create_task(told.wait())
    await asyncio.wait({waiter, work}, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    if work.done():
        work.result()
