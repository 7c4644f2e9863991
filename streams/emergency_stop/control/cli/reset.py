"""``estop reset``: release the latch of what an operator has looked at. It lifts nothing."""

from __future__ import annotations

import argparse
import asyncio

from emergency_stop.config import Settings, did_you_mean
from emergency_stop.control.cli.asking import ANSWERED_WITHIN_S, UNANSWERED, hearing, how_it_ended, request_of
from emergency_stop.control.cli.output import say, show_json
from emergency_stop.control.errors import EXIT_BAD_INPUT
from emergency_stop.control.installation import Installation
from emergency_stop.domain.messages import AuditRecord, Emergency, Request
from emergency_stop.domain.topics import EMERGENCIES, HOLDS
from emergency_stop.domain.values import ALL_SERVICES, Action, StopLevel, is_scope


def run_reset(options: argparse.Namespace, settings: Settings) -> int:
    """Return 0 only when the coordinator has released a latch."""
    return asyncio.run(_reset(options, Installation(settings)))


async def _reset(options: argparse.Namespace, installation: Installation) -> int:
    async with installation.following(HOLDS, EMERGENCIES):
        scope, emergency = options.target, None
        if not is_scope(scope):
            emergency = _named(installation, options.target)
            if emergency is None:
                return EXIT_BAD_INPUT
            scope = emergency.scope
        hold = installation.hold(scope)
    epoch = options.epoch if options.epoch is not None else hold.epoch if hold else None
    request = request_of(
        options, Action.RESET, scope, level=StopLevel.GRACEFUL, services=(ALL_SERVICES,), epoch=epoch,
        emergency_id=emergency.emergency_id if emergency else None,
    )  # fmt: skip
    async with hearing(installation, request) as heard:
        await installation.request(request)
        await installation.until(lambda: heard() is not None, options.timeout or ANSWERED_WITHIN_S)
        answer = heard()
    return report(options, request, answer)


def report(options: argparse.Namespace, request: Request, answer: AuditRecord | None) -> int:
    """Say how it ended by the coordinator's word; the exit code."""
    scope, done = request.scope, answer is not None and answer.action == "reset"
    why = answer.reason if answer else UNANSWERED
    if options.json:
        document = {"request_id": request.request_id, "scope": scope, "epoch": request.epoch}
        show_json({**document, "reset": done, "answer": why})
    elif done:
        print(f"{scope} is reset; it is still held: 'estop resume {scope}' lifts it")
    else:
        say(f"estop reset: {scope} is not reset: {why}")
    return how_it_ended(answer, done=done)


def _named(installation: Installation, text: str) -> Emergency | None:
    """The one emergency whose id is ``text`` or begins so; told where there is none, or more."""
    known = installation.all_of(EMERGENCIES, Emergency)
    found = [one for one in known if one.emergency_id.startswith(text)]
    if len(found) == 1:
        return found[0]
    hint = did_you_mean(text, tuple(one.emergency_id for one in known))
    what = f"{len(found)} emergencies begin with {text!r}" if found else f"{text!r} is no scope and no emergency{hint}"
    say(f"estop reset: {what}; name global, service:<name>, account:<id>, or an id of 'estop emergencies'")
    return None
