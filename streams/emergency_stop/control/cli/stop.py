"""``estop stop`` and ``estop resume``: a request to the coordinator, and, if wanted, its proof."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import uuid
from typing import Any, Final

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.config import Settings, did_you_mean
from emergency_stop.control.cli.output import (
    plain,
    say,
    show_json,
    show_table,
)
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_NOT_PROVEN, EXIT_OK, EXIT_REFUSED
from emergency_stop.control.installation import Installation
from emergency_stop.domain.ids import emergency_id, request_cause
from emergency_stop.domain.messages import Emergency, Request
from emergency_stop.domain.topics import EMERGENCIES, HOLDS
from emergency_stop.domain.values import ALL_SERVICES, Action, EmergencyState, HoldState, StopLevel

#: How long after its own deadline a stop may take to be judged.
_JUDGED_WITHIN_S: Final = 10.0
_RESUMED_WITHIN_S: Final = 30.0
_JUDGED: Final = (EmergencyState.STOPPED, EmergencyState.PARTIAL)


def run_stop(options: argparse.Namespace, settings: Settings) -> int:
    """Publish the stop; with ``--wait`` return 0 only when every target has proven that nothing runs."""
    unknown = [name for name in options.services if name not in (*settings.services, ALL_SERVICES)]
    if unknown:
        known = (*settings.services, ALL_SERVICES)
        say(
            f"estop stop: --services has unknown name {unknown[0]!r}{did_you_mean(unknown[0], known)};"
            f" allowed: {', '.join(known)} (ESTOP_SERVICES names them)"
        )
        return EXIT_BAD_INPUT
    return asyncio.run(_stop(options, Installation(settings)))


def run_resume(options: argparse.Namespace, settings: Settings) -> int:
    """Lift a hold that the operator has seen; return 0 only when it is lifted."""
    return asyncio.run(_resume(options, Installation(settings)))


def make_request(options: argparse.Namespace, action: Action, scope: str, **more: Any) -> Request:
    """A request of whoever types, with the reason given."""
    request_id = str(uuid.uuid4())
    return Request(
        request_id=request_id,
        action=action,
        scope=scope,
        reason=options.reason,
        requested_by=options.by or f"cli:{getpass.getuser()}",
        requested_at=SystemClock().now_ms(),
        correlation_id=request_id,
        **more,
    )


async def _stop(options: argparse.Namespace, installation: Installation) -> int:
    services = tuple(options.services) or (ALL_SERVICES,)
    request = make_request(options, Action.STOP, str(options.scope), level=StopLevel(options.level), services=services)
    wanted = emergency_id(request_cause(request.request_id))
    if not options.wait:
        await installation.request(request)
        document = {"request_id": request.request_id, "emergency_id": wanted, "scope": request.scope, "proven": None}
        _tell(options, document, f"stop of {request.scope} requested; emergency {wanted} (add --wait for the proof)")
        return EXIT_OK
    # Nothing delays a stop: it goes out before anything is read.
    await installation.request(request)
    say(f"stop of {request.scope} requested; waiting for the proof of emergency {wanted}")
    async with installation.following(EMERGENCIES):
        within_s = options.timeout or _patience_s(installation.settings, request.level)
        await installation.until(lambda: _judged(installation.emergency(wanted)), within_s)
        found = installation.emergency(wanted)
    return _report(options, request, wanted, found)


def _patience_s(settings: Settings, level: StopLevel) -> float:
    immediate = level is StopLevel.IMMEDIATE
    limit_ms = settings.immediate_stop_timeout_ms if immediate else settings.graceful_stop_timeout_ms
    return limit_ms / 1000 + _JUDGED_WITHIN_S


def _judged(emergency: Emergency | None) -> bool:
    return emergency is not None and emergency.state in _JUDGED


def _report(options: argparse.Namespace, request: Request, wanted: str, found: Emergency | None) -> int:
    proven = found is not None and found.state is EmergencyState.STOPPED
    if options.json:
        show_json(
            {
                "request_id": request.request_id,
                "emergency_id": wanted,
                "scope": request.scope,
                "proven": proven,
                "emergency": plain(found) if found else None,
            }
        )
    elif found is None:
        say("no coordinator has answered: THE STOP IS NOT PROVEN. The request is in the log and will be carried out.")
    else:
        rows = [(one.service, one.instance_id, one.state.value, one.in_flight, one.reason) for one in found.instances]
        show_table(("SERVICE", "INSTANCE", "STATE", "IN FLIGHT", "REASON"), rows)
        took = f" in {found.time_to_stop_ms} ms" if found.time_to_stop_ms is not None else ""
        say(f"{found.scope}: PROVEN STOPPED{took}" if proven else f"{found.scope}: {found.state.value}, NOT PROVEN")
    return EXIT_OK if proven else EXIT_NOT_PROVEN


async def _resume(options: argparse.Namespace, installation: Installation) -> int:
    async with installation.following(HOLDS):
        hold = installation.hold(str(options.scope))
        if hold is None or hold.state is HoldState.RUNNING:
            say(f"estop resume: nothing holds {options.scope}; 'estop status' lists what is held")
            return EXIT_REFUSED
        # The epoch that the operator has seen: a stop that is newer makes the coordinator refuse.
        epoch = hold.epoch if options.epoch is None else options.epoch
        request = make_request(
            options, Action.RESUME, str(options.scope), level=StopLevel.GRACEFUL, services=(ALL_SERVICES,), epoch=epoch,
            emergency_id=options.emergency,
        )  # fmt: skip
        await installation.request(request)
        before = hold.epoch
        changed = await installation.until(
            lambda: (installation.hold(str(options.scope)) or hold).epoch > before, options.timeout or _RESUMED_WITHIN_S
        )
        after = installation.hold(str(options.scope)) or hold
    lifted = changed and after.state is HoldState.RUNNING
    document = {"request_id": request.request_id, "scope": request.scope, "epoch": epoch, "hold": plain(after)}
    text = {
        True: f"{options.scope} runs again (epoch {after.epoch})",
        False: f"{options.scope} IS STILL HELD (epoch {after.epoch}, {len(after.causes)} causes); see estop emergencies"
        " and the audit topic for why",
    }
    _tell(options, document | {"resumed": lifted}, text[lifted])
    return EXIT_OK if lifted else EXIT_REFUSED


def _tell(options: argparse.Namespace, document: dict[str, Any], text: str) -> None:
    if options.json:
        show_json(document)
    else:
        print(text)
