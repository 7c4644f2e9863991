"""``python -m tests.simulation.recovery SEED N``: N emergencies that recover, and as many in which one thing fails.

Prints one line of JSON; 0 if every healthy one recovered, every other was rolled back, and nothing was left half open.
A seed draws the emergency and the fault: ``SEED 1`` plays what was told of that seed again.
"""

from __future__ import annotations

import json
import os
import random
import sys
from concurrent.futures import ProcessPoolExecutor

from emergency_stop.domain.values import RecoveryOutcome
from tests.simulation.recovery_faults import Fault
from tests.simulation.recovery_verdicts import BAD, FAULTS, SDK_FAULTS, Verdict, play, play_with_sdk


def campaign(seed: int, count: int, with_sdk: int = 0) -> list[Verdict]:
    """``count`` emergencies in which nothing fails, and as many in which something does.

    Then twice ``with_sdk`` alike, whose services are the SDK's.
    """
    seeds, sdk_seeds = range(seed, seed + count), range(seed, seed + with_sdk)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        chunk = max(1, count // 50)
        played = pool.map(play, [*seeds, *seeds], _faults(seeds, FAULTS), chunksize=chunk)
        sdk = pool.map(play_with_sdk, [*sdk_seeds, *sdk_seeds], _faults(sdk_seeds, SDK_FAULTS), chunksize=chunk)
        return [*played, *sdk]


def _faults(seeds: range, among: tuple[Fault, ...]) -> list[Fault]:
    """For each seed none, then for each seed its own."""
    return [Fault.NONE] * len(seeds) + [among[seed % len(among)] for seed in seeds]


def summary(verdicts: list[Verdict], seed: int) -> dict[str, int]:
    """What the line of JSON says."""
    return {
        "emergencies": len(verdicts),
        "recovered": sum(one.outcome is RecoveryOutcome.COMPLETED for one in verdicts),
        "rolled_back": sum(one.outcome in BAD for one in verdicts),
        "half_open": sum(one.half_open for one in verdicts),
        "seed": seed,
    }


def tell(verdicts: list[Verdict]) -> int:
    """Name each that broke a promise on standard error; how many did."""
    bad = [one for one in verdicts if one.is_bad]
    for one in bad:
        what = one.problem or f"{one.outcome}, and half open in the end"
        print(f"recovery of SEED={one.seed} N=1, {one.fault}: {what}", file=sys.stderr)
    return len(bad)


def main(arguments: list[str]) -> int:
    seed = int(arguments[0]) if arguments else random.randrange(1 << 30)
    count = int(arguments[1]) if len(arguments) > 1 else 1_000
    verdicts = campaign(seed, count)
    bad = tell(verdicts)
    print(json.dumps(summary(verdicts, seed)))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
