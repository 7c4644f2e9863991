"""``estop status`` and ``estop emergencies``: what is held, who is there, who sees, and what happened.

Read from Kafka.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.config import Settings
from emergency_stop.control.cli.output import ago, moment, plain, say, show_json, show_table
from emergency_stop.control.cli.sight import show_sight, sight_document
from emergency_stop.control.errors import EXIT_OK, UnavailableError
from emergency_stop.control.installation import Installation
from emergency_stop.coordinate.services import Liveness, Services
from emergency_stop.domain.messages import Emergency, Freshness, Hold, ServiceInstance
from emergency_stop.domain.topics import EMERGENCIES, FRESHNESS, HOLDS, SERVICES
from emergency_stop.domain.values import EmergencyState, HoldState, Scope

_FRESHNESS_WITHIN_S: Final = 5.0
_EVERYTHING = Scope.parse("global")
Instances = list[tuple[ServiceInstance, Liveness]]


def run_status(options: argparse.Namespace, settings: Settings) -> int:
    """Holds in force, every instance that counts, and how far detectors are in every partition."""
    installation = Installation(settings)
    has_freshness = asyncio.run(_read(installation))
    now_ms = SystemClock().now_ms()
    held = [hold for hold in installation.all_of(HOLDS, Hold) if hold.state is HoldState.HELD]
    instances = _instances(installation, now_ms)
    freshness = installation.all_of(FRESHNESS, Freshness)
    present = {instance.service for instance, liveness in instances if liveness is Liveness.LIVE}
    missing = [name for name in settings.services if name not in present]
    if options.json:
        services = [plain(instance) | {"liveness": liveness.value} for instance, liveness in instances]
        document = {"holds": [plain(hold) for hold in held], "instances": services, "services_missing": missing}
        sight = {"freshness": sight_document(settings, freshness, now_ms), "freshness_read": has_freshness}
        show_json(document | sight | {"unreadable_records": installation.unreadable})
    else:
        _show_status(held, instances, missing, now_ms)
        if has_freshness:
            show_sight(settings, freshness, now_ms)
        else:
            say(f"warning: {FRESHNESS} could not be read: how far detectors are is not known; see 'estop check'")
        _warn_of(installation)
    return EXIT_OK


async def _read(installation: Installation) -> bool:
    """False where only the freshness of detectors could not be read: what is held matters more."""
    async with installation.following(HOLDS, SERVICES):
        pass
    try:
        async with asyncio.timeout(_FRESHNESS_WITHIN_S), installation.following(FRESHNESS):
            return True
    except (TimeoutError, UnavailableError):
        return False


def _instances(installation: Installation, now_ms: int) -> Instances:
    settings = installation.settings
    services = Services(settings.services, installation.all_of(SERVICES, ServiceInstance))
    names = services.named((), _EVERYTHING)
    return [
        found
        for name in names
        for found in services.instances(name, now_ms, settings.heartbeat_lost_ms).values()
        if found[1] is not Liveness.LEFT
    ]


def _show_status(held: list[Hold], instances: Instances, missing: list[str], now_ms: int) -> None:
    if held:
        rows = [
            (
                hold.scope,
                hold.level.value if hold.level else None,
                hold.epoch,
                ago(now_ms - hold.updated_at),
                hold.reason,
            )
            for hold in held
        ]
        show_table(("HELD", "LEVEL", "EPOCH", "SINCE", "REASON"), rows)
    else:
        print("Nothing is held.")
    print()
    rows_of_instances = [
        (
            one.service,
            one.instance_id,
            liveness.value,
            ago(now_ms - one.heartbeat_at),
            one.in_flight,
            one.held_scopes,
            _lease(one),
        )
        for one, liveness in instances
    ]
    columns = ("SERVICE", "INSTANCE", "STATE", "HEARTBEAT", "IN FLIGHT", "HELD SCOPES", "LEASE")
    show_table(columns, rows_of_instances)
    for name in missing:
        say(f"warning: no instance of {name} is alive: a stop cannot be proven for it")


def _lease(one: ServiceInstance) -> str:
    """How old the lack of a lease was at the heartbeat: both are dated by the instance's own clock."""
    return "" if one.lease_lost_at is None else f"none for {ago(one.heartbeat_at - one.lease_lost_at)}"


def run_emergencies(options: argparse.Namespace, settings: Settings) -> int:
    """The newest emergencies first."""
    installation = Installation(settings)

    async def read() -> None:
        async with installation.following(EMERGENCIES):
            pass

    asyncio.run(read())
    found = sorted(installation.all_of(EMERGENCIES, Emergency), key=lambda one: (-one.started_at, one.emergency_id))
    shown = found[: options.limit]
    if options.json:
        show_json([plain(one) for one in shown])
        return EXIT_OK
    rows = [
        (moment(one.started_at), one.emergency_id, one.scope, _level(one), _state(one), _took(one), one.reason)
        for one in shown
    ]
    show_table(("STARTED", "EMERGENCY", "SCOPE", "LEVEL", "STATE", "TIME TO STOP", "REASON"), rows)
    if len(found) > len(shown):
        say(f"{len(found) - len(shown)} older ones are not shown (--limit)")
    _warn_of(installation)
    return EXIT_OK


def _level(emergency: Emergency) -> str:
    asked = emergency.asked_level or emergency.level
    return emergency.level.value if asked is emergency.level else f"{emergency.level.value} (asked: {asked.value})"


def _state(emergency: Emergency) -> str:
    if emergency.state is EmergencyState.SCHEDULED:
        return f"scheduled for {moment(emergency.starts_at or 0)}"
    marks = [mark for mark, is_so in (("drill", emergency.drill), ("latched", emergency.latched)) if is_so]
    return emergency.state.value + (f" ({', '.join(marks)})" if marks else "")


def _took(emergency: Emergency) -> str | None:
    return None if emergency.time_to_stop_ms is None else f"{emergency.time_to_stop_ms} ms"


def _warn_of(installation: Installation) -> None:
    if installation.unreadable:
        say(f"warning: {installation.unreadable} records could not be read and are not shown")
