"""``estop recover``: ask for a recovery, and follow its phases to their end."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from typing import Final

from emergency_stop.config import Settings
from emergency_stop.control.cli.asking import UNANSWERED, hearing, how_it_ended, request_of
from emergency_stop.control.cli.output import plain, say, show_json
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_NOT_PROVEN, EXIT_OK, EXIT_REFUSED
from emergency_stop.control.installation import Installation
from emergency_stop.domain.messages import AuditRecord, Emergency, Hold, Recovery
from emergency_stop.domain.topics import EMERGENCIES, HOLDS, RECOVERIES
from emergency_stop.domain.values import (
    ALL_SERVICES,
    Action,
    EmergencyState,
    HoldState,
    RecoveryOutcome,
    StopLevel,
    is_scope,
)

#: How long a coordinator may take to begin; then it has refused, or there is none.
_BEGUN_WITHIN_S: Final = 30.0
#: How long its phases may take together, unless ``--timeout`` says otherwise.
_ENDED_WITHIN_S: Final = 3_600.0
_RECOVERABLE: Final = (EmergencyState.STOPPED, EmergencyState.PARTIAL)


def run_recover(options: argparse.Namespace, settings: Settings) -> int:
    """Return 0 only when the recovery was completed, 1 when it was rolled back or overtaken."""
    return asyncio.run(_recover(options, Installation(settings)))


async def _recover(options: argparse.Namespace, installation: Installation) -> int:
    async with installation.following(HOLDS, EMERGENCIES, RECOVERIES):
        wanted = find_emergency(options.target, installation.hold, installation.emergency)
        refusal = wanted if isinstance(wanted, str) else why_not(wanted)
        if isinstance(wanted, str) or refusal:
            say(f"estop recover: {refusal}")
            is_unknown = isinstance(wanted, str) and not is_scope(options.target)
            return EXIT_BAD_INPUT if is_unknown else EXIT_REFUSED
        hold, former = installation.hold(wanted.scope), installation.recovery(wanted.emergency_id)
        request = request_of(
            options, Action.RECOVER, wanted.scope, level=StopLevel.GRACEFUL, services=(ALL_SERVICES,),
            epoch=hold.epoch if hold else None, emergency_id=wanted.emergency_id, procedure=options.procedure,
        )  # fmt: skip
        attempts = former.attempt if former else 0
        async with hearing(installation, request) as heard:
            await installation.request(request)
            found = await _follow(options, installation, wanted.emergency_id, attempts, heard)
            answer = None if found else heard()
    if options.json:
        document = {"recovery": plain(found) if found else None, "answer": plain(answer) if answer else None}
        show_json({"request_id": request.request_id, **document})
    return report(wanted, found, answer)


async def _follow(
    options: argparse.Namespace,
    installation: Installation,
    emergency_id: str,
    attempts: int,
    heard: Callable[[], AuditRecord | None],
) -> Recovery | None:
    """The recovery that began after so many ``attempts``, as it stood last; each change is told as it comes.

    ``None`` where none began: ``heard`` then has the coordinator's word, if there is one.
    """

    def current() -> Recovery | None:
        found = installation.recovery(emergency_id)
        return found if found is not None and found.attempt > attempts else None

    await installation.until(lambda: current() is not None or heard() is not None, _BEGUN_WITHIN_S)
    if current() is None:
        return None
    told = ""

    def ended() -> bool:
        nonlocal told
        found = current()
        line = progress(found) if found else ""
        if line != told:
            say(line)
            told = line
        return found is not None and found.outcome is not RecoveryOutcome.UNDER_WAY

    await installation.until(ended, options.timeout or _ENDED_WITHIN_S)
    return current()


def find_emergency(
    target: str, hold_of: Callable[[str], Hold | None], emergency_of: Callable[[str], Emergency | None]
) -> Emergency | str:
    """The emergency that ``target`` means: its id, or a scope, of which it is the newest; or why there is none."""
    if not is_scope(target):
        return emergency_of(target) or f"{target!r} is no scope and no emergency; 'estop emergencies' lists them"
    hold = hold_of(target)
    if hold is None or hold.state is HoldState.RUNNING or not hold.causes:
        return f"nothing holds {target}; 'estop status' lists what is held"
    newest = max(hold.causes, key=lambda cause: cause.epoch)
    return emergency_of(newest.emergency_id) or f"emergency {newest.emergency_id} holds {target} and is not on record"


def why_not(emergency: Emergency) -> str:
    """What can be told at once; the coordinator decides. Empty where nothing speaks against asking."""
    if emergency.latched:
        tried = f" after {emergency.failed_recoveries} failed recoveries" if emergency.failed_recoveries else ""
        return f"emergency {emergency.emergency_id} is latched{tried}; reset it first"
    if emergency.state not in _RECOVERABLE:
        return f"emergency {emergency.emergency_id} is {emergency.state.value}; it must be stopped or partial"
    return ""


def progress(recovery: Recovery) -> str:
    """Where a recovery is, in one line."""
    shares = ", ".join(f"{share.service} {share.percent} %" for share in recovery.shares)
    done = f" ({recovery.checks_passed} checks passed)" if recovery.phase.value == "validation" else ""
    admitted = f" [{shares}]" if shares else ""
    return f"{recovery.procedure}, {recovery.phase.value}{done}{admitted}: {recovery.detail}"


def report(emergency: Emergency, found: Recovery | None, answer: AuditRecord | None = None) -> int:
    """Say how it ended, or with ``answer`` why it has not begun; the exit code."""
    if found is None:
        why = answer.reason if answer else UNANSWERED
        say(f"the recovery of {emergency.scope} HAS NOT BEGUN: {why}")
        approved = answer is not None and answer.action == "recover_approved"
        return EXIT_NOT_PROVEN if approved else how_it_ended(answer, done=False)
    if found.outcome is RecoveryOutcome.UNDER_WAY:
        say(f"the recovery of {emergency.scope} is still under way; it goes on without this command")
        return EXIT_NOT_PROVEN
    if found.outcome is RecoveryOutcome.COMPLETED:
        say(f"{emergency.scope} has recovered")
        return EXIT_OK
    say(f"{emergency.scope} HAS NOT RECOVERED: {found.outcome.value} in {found.phase.value}: {found.detail}")
    return EXIT_FAILED
