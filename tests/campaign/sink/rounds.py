"""What is done to sinks and their database, round by round."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from tests.campaign.children import Child, Condition
from tests.campaign.sink.plant import SESSION_TIMEOUT_MS, Plant

PAUSE_S: Final = (SESSION_TIMEOUT_MS / 1000 + 0.5, SESSION_TIMEOUT_MS / 1000 + 2.5)
OUTAGE_S: Final = (1.0, 6.0)
DELAY_S_MAX: Final = 1.2


class Kind(StrEnum):
    KILL_SINK = "kill -9 a sink"
    KILL_SINKS = "kill -9 all sinks"
    PAUSE_SINK = "pause a sink until the group goes on without it"
    KILL_SERVER = "kill -9 the database"
    OUTAGE = "the database is away"
    FREEZE = "the database hangs"
    LOSE = "an answer is lost"
    LINGER = "a connection breaks, and the insert is stored later"
    HOLD_AND_KILL = "the sinks are killed during an insert, which is stored when they have gone on"
    REFUSE = "an insert is refused"


EMBEDDED: Final = (Kind.KILL_SINK,)
ON_SERVER: Final = tuple(Kind)


def agenda(seed: int, rounds: int, kinds: tuple[Kind, ...]) -> list[Kind]:
    """Every kind as often as any other, give or take one, in a seeded order."""
    rng = random.Random(f"sink rounds {seed}")
    turns: list[Kind] = []
    while len(turns) < rounds:
        turns += rng.sample(kinds, len(kinds))
    return turns[:rounds]


def perform(plant: Plant, kind: Kind, rng: random.Random) -> bool:
    """One round's disturbance; whether it struck something that ran."""
    plant.look_after(rng.uniform(0, DELAY_S_MAX))
    up = [sink for sink in plant.sinks if sink.condition is Condition.UP]
    if not up:
        return False
    if plant.server is None:
        return _kill(up, rng)
    actions: dict[Kind, Callable[[], bool]] = {
        Kind.KILL_SINK: lambda: _kill([rng.choice(up)], rng),
        Kind.KILL_SINKS: lambda: _kill(up, rng),
        Kind.PAUSE_SINK: lambda: _pause(plant, rng.choice(up), rng.uniform(*PAUSE_S)),
        Kind.KILL_SERVER: lambda: _kill([plant.server] if plant.server else [], rng),
        Kind.OUTAGE: lambda: _outage(plant, rng.uniform(*OUTAGE_S)),
        Kind.FREEZE: lambda: _pause(plant, plant.server, rng.uniform(*OUTAGE_S)),
        Kind.LOSE: lambda: _fault(plant, "lose"),
        Kind.LINGER: lambda: _fault(plant, f"linger-{rng.uniform(0.1, 2.0):.1f}"),
        Kind.HOLD_AND_KILL: lambda: _hold_and_kill(plant, up, rng),
        Kind.REFUSE: lambda: _fault(plant, "refuse"),
    }
    return actions[kind]()


def _kill(children: list[Child], rng: random.Random) -> bool:
    for child in rng.sample(children, len(children)):
        child.kill()
    return bool(children)


def _pause(plant: Plant, child: Child | None, for_s: float) -> bool:
    if child is None:
        return False
    child.pause()
    plant.look_after(for_s)
    child.resume()
    return True


def _outage(plant: Plant, for_s: float) -> bool:
    if plant.server is None:
        return False
    plant.outage = True
    plant.server.kill()
    plant.look_after(for_s)
    plant.outage = False
    return True


def _hold_and_kill(plant: Plant, up: list[Child], rng: random.Random) -> bool:
    """The sinks have no time to repeat the insert; their successors meet it when ``release`` lets it go on."""
    done = _fault(plant, "hold") and _kill(up, rng)
    plant.fault("")
    return done


def _fault(plant: Plant, name: str) -> bool:
    """Obliges: rows are on their way; the fault strikes the next ones."""
    plant.fault(name)
    plant.until(lambda: not plant.fault_waits(), f"an insert suffers {name!r}")
    return True
