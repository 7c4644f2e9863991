"""``estop stop`` and ``estop resume``: a request to the coordinator, and, if wanted, its proof."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any, Final

from emergency_stop.config import Settings, did_you_mean
from emergency_stop.control.cli.asking import (
    ANSWERED_WITHIN_S,
    UNANSWERED,
    hearing,
    how_it_ended,
    judged_within_s,
    request_of,
)
from emergency_stop.control.cli.output import moment, plain, say, show_json, show_table
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_NOT_PROVEN, EXIT_OK, EXIT_REFUSED
from emergency_stop.control.installation import Installation
from emergency_stop.domain.ids import emergency_id, request_cause
from emergency_stop.domain.messages import AuditRecord, Emergency, Hold, Request
from emergency_stop.domain.topics import EMERGENCIES, HOLDS
from emergency_stop.domain.values import ALL_SERVICES, Action, EmergencyState, HoldState, StopLevel

_JUDGED: Final = (EmergencyState.STOPPED, EmergencyState.PARTIAL, EmergencyState.SCHEDULED)


def run_stop(options: argparse.Namespace, settings: Settings) -> int:
    """Publish the stop; with ``--wait`` return 0 only when every target is proven to run nothing, or it is planned."""
    unknown = [name for name in options.services if name not in (*settings.services, ALL_SERVICES)]
    if unknown:
        known = (*settings.services, ALL_SERVICES)
        say(
            f"estop stop: --services has unknown name {unknown[0]!r}{did_you_mean(unknown[0], known)};"
            f" allowed: {', '.join(known)} (ESTOP_SERVICES names them)"
        )
        return EXIT_BAD_INPUT
    level = StopLevel(options.level)
    if options.at is not None and level is not StopLevel.MAINTENANCE:
        say(f"estop stop: --at is for --level maintenance; leave it out, and the {level.value} stop is now")
        return EXIT_BAD_INPUT
    if options.carries is not None and level is not StopLevel.SERVICE_SPECIFIC:
        say(f"estop stop: --carries is for --level service_specific; {level.value} carries no other")
        return EXIT_BAD_INPUT
    return asyncio.run(_stop(options, Installation(settings)))


def run_resume(options: argparse.Namespace, settings: Settings) -> int:
    """Lift a hold that the operator has seen; return 0 only when it is lifted."""
    return asyncio.run(_resume(options, Installation(settings)))


async def _stop(options: argparse.Namespace, installation: Installation) -> int:
    services = tuple(options.services) or (ALL_SERVICES,)
    carries = StopLevel(options.carries) if options.carries else None
    request = request_of(
        options, Action.STOP, str(options.scope), level=StopLevel(options.level), services=services,
        starts_at=options.at, carries=carries,
    )  # fmt: skip
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
        within_s = options.timeout or judged_within_s(installation.settings, carries or request.level)
        await installation.until(lambda: _judged(installation.emergency(wanted)), within_s)
        found = installation.emergency(wanted)
    return _report(options, request, wanted, found)


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
    elif found is not None and found.state is EmergencyState.SCHEDULED:
        say(f"{found.scope}: planned for {moment(found.starts_at or 0)}, not held yet; call it off with")
        say(f"  estop resume {found.scope} --emergency {wanted} --reason TEXT")
    elif found is None:
        say("no coordinator has answered: THE STOP IS NOT PROVEN. The request is in the log and will be carried out.")
    else:
        rows = [(one.service, one.instance_id, one.state.value, one.in_flight, one.reason) for one in found.instances]
        show_table(("SERVICE", "INSTANCE", "STATE", "IN FLIGHT", "REASON"), rows)
        took = f" in {found.time_to_stop_ms} ms" if found.time_to_stop_ms is not None else ""
        say(f"{found.scope}: PROVEN STOPPED{took}" if proven else f"{found.scope}: {found.state.value}, NOT PROVEN")
    planned = found is not None and found.state is EmergencyState.SCHEDULED
    return EXIT_OK if proven or planned else EXIT_NOT_PROVEN


async def _resume(options: argparse.Namespace, installation: Installation) -> int:
    scope = str(options.scope)
    async with installation.following(HOLDS, *((EMERGENCIES,) if options.emergency else ())):
        plan = installation.emergency(options.emergency) if options.emergency else None
        hold = installation.hold(scope)
        if plan is not None and plan.state is EmergencyState.SCHEDULED:
            return await _call_off(options, installation, plan)
        if hold is None or hold.state is HoldState.RUNNING:
            say(f"estop resume: nothing holds {scope}; 'estop status' lists what is held")
            return EXIT_REFUSED
        # The epoch that the operator has seen: a stop that is newer makes the coordinator refuse.
        epoch = hold.epoch if options.epoch is None else options.epoch
        request = request_of(
            options, Action.RESUME, scope, level=StopLevel.GRACEFUL, services=(ALL_SERVICES,), epoch=epoch,
            emergency_id=options.emergency,
        )  # fmt: skip
        before = hold.epoch
        async with hearing(installation, request) as heard:

            def is_answered() -> bool:
                answer = heard()
                changed = (installation.hold(scope) or hold).epoch > before
                return changed or (answer is not None and answer.action != "resumed")

            await installation.request(request)
            await installation.until(is_answered, options.timeout or ANSWERED_WITHIN_S)
            answer, after = heard(), installation.hold(scope) or hold
    return report_resume(options, request, after, answer)


def report_resume(options: argparse.Namespace, request: Request, after: Hold, answer: AuditRecord | None) -> int:
    """Say whether the scope runs again, by its hold ``after`` and the coordinator's word; the exit code."""
    lifted = after.epoch > (request.epoch or 0) and after.state is HoldState.RUNNING
    approved = answer is not None and answer.action == "resume_approved"
    why = f": {answer.reason}" if answer is not None and answer.action != "resumed" else ""
    document = {
        "request_id": request.request_id, "scope": request.scope, "epoch": request.epoch, "hold": plain(after),
        "resumed": lifted, "approved": approved, "answer": plain(answer) if answer else None,
    }  # fmt: skip
    if lifted:
        text = f"{request.scope} runs again (epoch {after.epoch})"
    elif approved:
        text = f"{request.scope} IS STILL HELD (epoch {after.epoch}): your word is on record{why}"
    else:
        unanswered = "" if answer else f"; {UNANSWERED}"
        text = (
            f"{request.scope} IS STILL HELD (epoch {after.epoch}, {len(after.causes)} causes){why or unanswered};"
            " see estop emergencies"
        )
    _tell(options, document, text)
    # Not refused: the word of another person is missing, another emergency holds the scope, or nobody answered.
    unrefused = answer is None or answer.action in ("resumed", "resume_approved")
    return EXIT_OK if lifted else EXIT_NOT_PROVEN if unrefused else EXIT_REFUSED


async def _call_off(options: argparse.Namespace, installation: Installation, plan: Emergency) -> int:
    """A stop that is planned and has not begun: nothing is held, so no epoch is named."""
    request = request_of(
        options, Action.RESUME, plan.scope, level=StopLevel.GRACEFUL, services=(ALL_SERVICES,),
        emergency_id=plan.emergency_id,
    )  # fmt: skip
    async with hearing(installation, request) as heard:
        await installation.request(request)
        await installation.until(lambda: heard() is not None, options.timeout or ANSWERED_WITHIN_S)
        answer = heard()
    return report_call_off(options, request, answer)


def report_call_off(options: argparse.Namespace, request: Request, answer: AuditRecord | None) -> int:
    """Say whether the planned stop is called off, by the coordinator's word; the exit code."""
    scope, done = request.scope, answer is not None and answer.action == "stop_called_off"
    why = answer.reason if answer else UNANSWERED
    document = {"request_id": request.request_id, "scope": scope, "called_off": done, "answer": why}
    _tell(options, document, f"{scope}: the planned stop is called off" if done else f"{scope}: NOT CALLED OFF: {why}")
    return how_it_ended(answer, done=done)


def _tell(options: argparse.Namespace, document: dict[str, Any], text: str) -> None:
    if options.json:
        show_json(document)
    else:
        print(text)
