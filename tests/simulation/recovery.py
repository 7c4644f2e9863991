"""``python -m tests.simulation.recovery SEED N``: N emergencies that recover, and as many in which one thing fails.

Prints one line of JSON; 0 if every healthy one recovered, every other was rolled back, and nothing was left half open.
"""

from __future__ import annotations

import json
import os
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from emergency_stop.coordinate.state import Effect
from emergency_stop.coordinate.tables import Phase
from emergency_stop.domain.messages import AuditRecord, Hold
from emergency_stop.domain.values import HoldState, RecoveryOutcome
from tests.simulation.recovery_faults import Fault, Plan
from tests.simulation.recovery_world import RecoveryWorld

_BAD = frozenset({RecoveryOutcome.ROLLED_BACK, RecoveryOutcome.ABANDONED})
_OPENS = frozenset({"recovery_eased", "recovery_full_restore"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one emergency. ``problem`` is empty where all is as it must be."""

    seed: int
    fault: Fault
    outcome: RecoveryOutcome | None
    half_open: bool
    problem: str


def play(seed: int, fault: Fault) -> Verdict:
    """One emergency, from its stop to the end of its recovery, judged by what was published."""
    world = RecoveryWorld(seed, Plan.drawn(random.Random(f"plan {seed} {fault}"), fault))
    if fault is Fault.WIDER_HOLD:
        world.scope = "account:a"
    world.run()
    hold, told, case = world.published.hold, world.published.recovery, world.case()
    outcome = told.outcome if told else None
    shares = [share for cause in hold.causes for share in cause.shares] if hold else []
    running = hold is None or hold.state is HoldState.RUNNING
    half_open = bool(shares) or (outcome in _BAD and running)
    expected = RecoveryOutcome.COMPLETED if fault is Fault.NONE else _expected(fault)
    problem = _unrecorded(world.published.effects)
    if outcome is not expected:
        problem = f"{outcome} instead of {expected}: {told.detail if told else 'no recovery'}"
    elif outcome is RecoveryOutcome.COMPLETED and not (running and case and case.phase is Phase.RESOLVED):
        problem = "completed, and still held"
    return Verdict(seed, fault, outcome, half_open, problem)


def _expected(fault: Fault) -> RecoveryOutcome:
    return RecoveryOutcome.ABANDONED if fault is Fault.NEWER_STOP else RecoveryOutcome.ROLLED_BACK


def _unrecorded(effects: list[Effect]) -> str:
    """A hold that lets something run, published before its audit record."""
    eased = 0
    for effect in effects:
        if isinstance(effect, AuditRecord) and effect.action in _OPENS:
            eased += 1
        elif isinstance(effect, Hold):
            opens = effect.state is HoldState.RUNNING or any(cause.shares for cause in effect.causes)
            if opens and not eased:
                return f"epoch {effect.epoch} lets something run and is not on record"
    return ""


def campaign(seed: int, count: int) -> list[Verdict]:
    """``count`` emergencies in which nothing fails, and as many in which something does."""
    faults = [fault for fault in Fault if fault is not Fault.NONE]
    seeds = [seed + number for number in range(count)]
    tried = [Fault.NONE] * count + [faults[number % len(faults)] for number in range(count)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(play, seeds * 2, tried, chunksize=max(1, count // 50)))


def summary(verdicts: list[Verdict], seed: int) -> dict[str, int]:
    """What the line of JSON says."""
    return {
        "emergencies": len(verdicts),
        "recovered": sum(one.outcome is RecoveryOutcome.COMPLETED for one in verdicts),
        "rolled_back": sum(one.outcome in _BAD for one in verdicts),
        "half_open": sum(one.half_open for one in verdicts),
        "seed": seed,
    }


def main(arguments: list[str]) -> int:
    seed = int(arguments[0]) if arguments else random.randrange(1 << 30)
    count = int(arguments[1]) if len(arguments) > 1 else 1_000
    verdicts = campaign(seed, count)
    for one in verdicts:
        if one.problem:
            print(f"seed {one.seed}, {one.fault}: {one.problem}", file=sys.stderr)
    print(json.dumps(summary(verdicts, seed)))
    return 1 if any(one.problem or one.half_open for one in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
