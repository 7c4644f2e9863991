"""Every command's answers, counted while instances are killed at random.

A command is accounted for when every instance of its service has answered it with a verdict, or has answered another
attempt of the same emergency, or stands in the emergency as UNKNOWN or FAILED with the reason. What the emergency
claims is compared with the acknowledgements that were really read: a STOPPED without one is counted as well.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from emergency_stop.domain.messages import Command, InstanceStop
from emergency_stop.domain.values import AckState
from tests.bench.stop.installation import Installation
from tests.bench.stop.probes import ANSWER_S, Probe, Probes
from tests.bench.stop.witness import VERDICTS, Seen, Who

_IN_FLIGHT_MAX: Final = 200
_POLL_S: Final = 0.02
#: Seconds from one kill to the next, and that the killed one stays away: now and then beyond both deadlines of a stop.
_BETWEEN_S: Final = (6.0, 12.0)
_AWAY_S: Final = (0.2, 1.5)
_LONG_AWAY_S: Final = 12.0
_LONG_ONE_IN: Final = 6


async def account(installation: Installation, probes: Probes, emergencies: int, seed: int) -> dict[str, Any]:
    """So many emergencies, some in flight all the time; then who answered what."""
    over = asyncio.Event()
    killing = asyncio.create_task(_kill(installation, random.Random(seed), over))
    try:
        sent = await _send(installation, probes, emergencies)
        await probes.ended(sent, ANSWER_S)
    finally:
        over.set()
        kills = await killing
    scopes = {probe.scope for probe in sent}
    found = [seen for scope, seen in installation.witness.by_scope.items() if scope in scopes]
    commands = [one for one in installation.witness.stop_commands.values() if one.scope in scopes]
    states = Counter(seen.account.state.value for seen in found)
    return {"kills": kills, "emergencies": dict(states)} | tally(commands, found, installation.who)


async def _send(installation: Installation, probes: Probes, count: int) -> list[Probe]:
    """An event whenever fewer than ``_IN_FLIGHT_MAX`` emergencies are open."""
    sent: list[Probe] = []
    open_ones: set[str] = set()
    witness = installation.witness
    for level in itertools.islice(itertools.cycle(probes.levels), count):
        while len(open_ones) >= _IN_FLIGHT_MAX:
            open_ones -= {scope for scope in open_ones if witness.has_ended(scope)}
            await asyncio.sleep(_POLL_S)
        probe = probes.next(level)
        sent.append(probe)
        open_ones.add(probe.scope)
        await probes.send(probe)
    return sent


async def _kill(installation: Installation, rng: random.Random, over: asyncio.Event) -> int:
    """``kill -9`` of one instance after the other, each started again under its name; how many."""
    kills = 0
    while True:
        try:
            await asyncio.wait_for(over.wait(), rng.uniform(*_BETWEEN_S))
        except TimeoutError:
            victim = installation.children[rng.choice(installation.who)[1]]
            victim.kill()
            kills += 1
            await asyncio.sleep(_LONG_AWAY_S if kills % _LONG_ONE_IN == 0 else rng.uniform(*_AWAY_S))
            victim.start()
        else:
            return kills


def tally(commands: Sequence[Command], found: Iterable[Seen], who: Sequence[Who]) -> dict[str, Any]:
    """How each pair of a command and an instance of its service is accounted for."""
    seen = {one.account.emergency_id: one for one in found}
    stands = {key: _standings(one) for key, one in seen.items()}
    pairs = [(command, one) for command in commands for one in who if one[0] == command.service]
    kinds = Counter(_kind(command, one, seen, stands[command.emergency_id].get(one)) for command, one in pairs)
    missing = kinds.pop("missing", 0)
    return {
        "commands": len(commands),
        "acks_expected": len(pairs),
        "acks_accounted": len(pairs) - missing,
        "how": dict(kinds),
        "claims_without_ack": sum(
            standing.state is AckState.STOPPED and AckState.STOPPED not in seen[key].answers.get(one, {})
            for key, standings in stands.items()
            for one, standing in standings.items()
        ),
    }


def _standings(seen: Seen) -> dict[Who, InstanceStop]:
    return {(one.service, one.instance_id): one for one in seen.account.instances}


def _kind(command: Command, who: Who, seen: Mapping[str, Seen], standing: InstanceStop | None) -> str:
    one = seen[command.emergency_id]
    if (command.command_id, who[1]) in one.verdicts:
        return "verdict"
    if one.answers.get(who, {}).keys() & VERDICTS:
        return "verdict_to_another_attempt"
    if standing is not None and standing.reason and standing.state in (AckState.UNKNOWN, AckState.FAILED):
        return f"recorded_{standing.state.value}"
    return "missing"
