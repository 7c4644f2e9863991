"""``estop drill`` walks the path of a stop without stopping; ``estop drills`` tells what has not been walked lately."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.config import Settings, did_you_mean
from emergency_stop.control.cli.asking import hearing, judged_within_s, request_of
from emergency_stop.control.cli.output import ago, moment, plain, say, show_json, show_table
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_NOT_PROVEN, EXIT_OK, EXIT_REFUSED
from emergency_stop.control.installation import Installation
from emergency_stop.coordinate.instances import LEFT_IN_GOOD_ORDER
from emergency_stop.domain.ids import emergency_id, request_cause
from emergency_stop.domain.messages import Emergency
from emergency_stop.domain.topics import EMERGENCIES
from emergency_stop.domain.values import ALL_SERVICES, Action, StopLevel

#: A path that was not proven for so long is as good as never tried.
DRILL_AGE_MS_MAX: Final = 30 * 86_400_000
#: A drill asks once more after its deadline.
_ATTEMPTS: Final = 2
_RED, _PLAIN = "\x1b[31m", "\x1b[0m"
Pair = tuple[str, StopLevel]


def run_drill(options: argparse.Namespace, settings: Settings) -> int:
    """Return 0 only when every instance of every target service has answered."""
    known = (*settings.services, ALL_SERVICES)
    unknown = [name for name in options.services if name not in known]
    if unknown:
        hint = did_you_mean(unknown[0], known)
        say(f"estop drill: --services has unknown name {unknown[0]!r}{hint}; allowed: {', '.join(known)}")
        return EXIT_BAD_INPUT
    return asyncio.run(_drill(options, Installation(settings)))


async def _drill(options: argparse.Namespace, installation: Installation) -> int:
    services, level = tuple(options.services) or (ALL_SERVICES,), StopLevel(options.level)
    request = request_of(options, Action.DRILL, str(options.scope), level=level, services=services)
    wanted = emergency_id(request_cause(request.request_id))
    within_s = options.timeout or _ATTEMPTS * judged_within_s(installation.settings, level)
    async with installation.following(EMERGENCIES), hearing(installation, request) as heard:

        def is_over() -> bool:
            found, answer = installation.emergency(wanted), heard()
            refused = answer is not None and answer.action == "request_refused"
            return refused or (found is not None and found.completed_at is not None)

        await installation.request(request)
        say(f"drill of {request.scope} requested; nothing will be stopped")
        await installation.until(is_over, within_s)
        found, answer = installation.emergency(wanted), heard()
    if found is None:
        say(f"estop drill: {answer.reason if answer else 'no coordinator has answered'}")
        return EXIT_REFUSED if answer else EXIT_NOT_PROVEN
    proven = found.success is True
    if options.json:
        show_json({"request_id": request.request_id, "emergency_id": wanted, "proven": proven, "drill": plain(found)})
    else:
        rows = [(one.service, one.instance_id, one.state.value, one.reason) for one in found.instances]
        show_table(("SERVICE", "INSTANCE", "ANSWER", "REASON"), rows)
        say(f"{found.scope}: {level.value} drill {'PROVEN' if proven else 'NOT PROVEN'}")
    return EXIT_OK if proven else EXIT_NOT_PROVEN


def run_drills(options: argparse.Namespace, settings: Settings) -> int:
    """When each level was last proven for each service, by a drill or a stop; 1 where that is too long ago."""
    installation, now_ms = Installation(settings), SystemClock().now_ms()

    async def read() -> None:
        async with installation.following(EMERGENCIES):
            pass

    asyncio.run(read())
    newest = newest_proofs(installation.all_of(EMERGENCIES, Emergency))
    pairs = [(service, level) for service in settings.services for level in StopLevel]
    red = [pair for pair in pairs if is_red(newest.get(pair), now_ms)]
    if options.json:
        show_json([_document(pair, newest.get(pair), pair in red) for pair in pairs])
    else:
        _show(pairs, newest, now_ms)
        if red:
            days = DRILL_AGE_MS_MAX // 86_400_000
            say(f"{len(red)} of {len(pairs)} were not proven within {days} days: 'estop drill'")
    return EXIT_FAILED if red else EXIT_OK


def newest_proofs(emergencies: Iterable[Emergency]) -> dict[Pair, Emergency]:
    """By service and level the emergency that proved it last: a drill or a stop that succeeded, resumed since or not.

    A service all of whose instances had left proved nothing. A service-specific stop proves the level that it carried
    as well.
    """
    newest: dict[Pair, Emergency] = {}
    for one in sorted(emergencies, key=lambda one: one.completed_at or 0):
        if one.success is True:
            levels = {one.level, *({one.asked_level} & {StopLevel.SERVICE_SPECIFIC})}
            answered = {told.service for told in one.instances if told.reason != LEFT_IN_GOOD_ORDER}
            newest |= {(service, level): one for service in answered for level in levels if level}
    return newest


def is_red(proof: Emergency | None, now_ms: int) -> bool:
    return proof is None or now_ms - (proof.completed_at or 0) > DRILL_AGE_MS_MAX


def _document(pair: Pair, proof: Emergency | None, red: bool) -> dict[str, object]:
    return {
        "service": pair[0],
        "level": pair[1].value,
        "proven_at": proof.completed_at if proof else None,
        "emergency_id": proof.emergency_id if proof else None,
        "drill": proof.drill if proof else None,
        "red": red,
    }


def _show(pairs: Sequence[Pair], newest: Mapping[Pair, Emergency], now_ms: int) -> None:
    rows = []
    for service, level in pairs:
        proof = newest.get((service, level))
        when = f"{moment(proof.completed_at or 0)} ({ago(now_ms - (proof.completed_at or 0))})" if proof else "never"
        verdict = "RED" if is_red(proof, now_ms) else "ok"
        if verdict == "RED" and sys.stdout.isatty():
            verdict = f"{_RED}RED{_PLAIN}"
        how = "-" if proof is None else "drill" if proof.drill else "stop"
        rows.append((service, level.value, how, when, verdict))
    show_table(("SERVICE", "LEVEL", "BY", "LAST PROVEN", "VERDICT"), rows)
