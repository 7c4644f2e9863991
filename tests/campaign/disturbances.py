"""What is done to whom and when: a seeded agenda, made up entirely before the run.

``` text
 start-up kills      disturbances, one every few seconds, some followed by a kill during the restart
 |x  x x|------x-------xx------x========x----x-------x=====x------|   x kill -9    == paused
          [ detector-b in ]          [ detector-b in ]                joins and leaves on its own
```
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

#: The detector holds the hardest state, so it is hit most.
WEIGHTS = {"detector-a": 5, "detector-b": 2, "coordinator": 3, "sink": 3}
#: Whose members are there from the start to the end.
CORE = ("detector-a", "coordinator", "sink")
PAUSE_SHARE = 0.35
#: How often a killed process is killed again while it starts: where Faust skips a fetched batch.
KILL_AGAIN_SHARE = 0.3
KILL_AGAIN_AFTER_S = (0.5, 5.0)
#: Session timeout 6 s: a paused member must have lost its partitions before it goes on writing.
PAUSE_S = (7.0, 11.0)
START_UP_S = (0.5, 6.0)
#: Time for one that was woken to do damage before anything else happens to it.
WAKING_S = 2.0


class Kind(StrEnum):
    KILL = "kill -9"
    PAUSE = "pause"
    RESUME = "resume"
    JOIN = "join"
    LEAVE = "leave"


#: Chance alone might spare somebody: these come first, in a seeded order.
FIRST = [(target, kind) for target in CORE for kind in (Kind.KILL, Kind.PAUSE)]


@dataclass(frozen=True, slots=True, order=True)
class Step:
    """At ``at_s`` seconds after the start, do ``kind`` to the child called ``target``."""

    at_s: float
    target: str
    kind: Kind


def plan(seed: int, duration_s: float, gap_s: tuple[float, float]) -> list[Step]:
    """The agenda of one run, in order of time: KILL and PAUSE every ``gap_s`` (least, most) seconds."""
    rng = random.Random(f"disturbances {seed}")
    second = _second_detector(rng, duration_s)
    steps = [*second]
    steps += [Step(rng.uniform(*START_UP_S), target, Kind.KILL) for target in CORE]
    first = rng.sample(FIRST, len(FIRST))
    asleep_until_s: dict[str, float] = {}
    at_s = START_UP_S[1] + rng.uniform(*gap_s)
    while first or at_s < duration_s:
        target, kind = first.pop() if first else (_target(rng, second, at_s), _kind(rng))
        # Whoever sleeps is left to sleep: woken too early, it would still be a member of its group.
        done = _disturb(rng, target, kind, max(at_s, asleep_until_s.get(target, 0.0)))
        asleep_until_s[target] = done[-1].at_s + WAKING_S
        steps += done
        at_s += rng.uniform(*gap_s)
    return sorted(steps)


def _kind(rng: random.Random) -> Kind:
    return Kind.PAUSE if rng.random() < PAUSE_SHARE else Kind.KILL


def _second_detector(rng: random.Random, duration_s: float) -> list[Step]:
    """Joins a third of the way into each of a few stretches, and leaves in good order near its end."""
    stretches = max(1, round(duration_s / 80))
    length_s = duration_s / stretches
    steps = []
    for number in range(stretches):
        start_s = number * length_s
        steps.append(Step(start_s + length_s * rng.uniform(0.1, 0.4), "detector-b", Kind.JOIN))
        steps.append(Step(start_s + length_s * rng.uniform(0.75, 0.95), "detector-b", Kind.LEAVE))
    return steps


def _target(rng: random.Random, second: list[Step], at_s: float) -> str:
    past = [step for step in second if step.at_s < at_s]
    present = bool(past) and past[-1].kind is Kind.JOIN
    weights = {name: weight for name, weight in WEIGHTS.items() if present or name != "detector-b"}
    return rng.choices(list(weights), list(weights.values()))[0]


def _disturb(rng: random.Random, target: str, kind: Kind, at_s: float) -> list[Step]:
    if kind is Kind.PAUSE:
        return [Step(at_s, target, Kind.PAUSE), Step(at_s + rng.uniform(*PAUSE_S), target, Kind.RESUME)]
    steps = [Step(at_s, target, Kind.KILL)]
    if rng.random() < KILL_AGAIN_SHARE:
        steps.append(Step(at_s + rng.uniform(*KILL_AGAIN_AFTER_S), target, Kind.KILL))
    return steps
