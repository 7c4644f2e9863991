"""``python -m tests.simulation``: seeded schedules of the whole stop protocol, recoveries, then the planted bugs.

Prints one line of JSON; 0 if no schedule and no recovery was violated and every bug was caught. ``SEED`` and ``N`` of
the environment choose what is tried; ``SEED=… N=1`` with ``--trace`` tells one schedule moment by moment.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Iterable
from typing import Final

from tests.simulation.campaign import run_campaign, run_schedule
from tests.simulation.planted import BUGS, find_all
from tests.simulation.recovery import campaign, tell
from tests.simulation.violation import Violation

SCHEDULES: Final = 10_000
#: One emergency that recovers and one that fails to for so many schedules, and so many of these for one with the SDK's
#: gates: together a third of the schedules' time, as long as these are not very many.
SCHEDULES_PER_RECOVERY: Final = 20
RECOVERIES_MAX: Final = 2_000
RECOVERIES_PER_SDK: Final = 5
#: More violations are counted, and not told one by one.
TOLD_MAX: Final = 200
PROGRESS_EVERY: Final = 50_000


def main() -> int:
    seed = int(os.environ.get("SEED") or random.randrange(1 << 30))
    schedules = int(os.environ.get("N") or SCHEDULES)
    if "--trace" in sys.argv:
        violations = run_schedule(seed, tell=lambda line: print(line, file=sys.stderr))
        _tell(violations)
        cpu_s, caught, planted, schedules, recoveries, bad_recoveries = 0.0, 0, 0, 1, 0, 0
    else:
        violations, cpu_s = _schedules(seed, schedules)
        recoveries, bad_recoveries = _recoveries(seed, schedules)
        caught, planted = _planted(seed), len(BUGS)
    print(
        json.dumps(
            {
                "schedules": schedules,
                "violations": len(violations),
                "recoveries": recoveries,
                "recoveries_violated": bad_recoveries,
                "planted_bugs": planted,
                "planted_bugs_caught": caught,
                "seed": seed,
                "schedules_cpu_s": round(cpu_s),
            }
        )
    )
    return 1 if violations or bad_recoveries or caught < planted else 0


def _schedules(seed: int, schedules: int) -> tuple[list[Violation], float]:
    """(each schedule's violation, the processor time of all of them); told as they are found."""
    violations, cpu_s, done = list[Violation](), 0.0, 0
    for piece in run_campaign(seed, schedules, os.cpu_count() or 1):
        _tell(piece.violations[: max(0, TOLD_MAX - len(violations))])
        violations += piece.violations
        cpu_s += piece.cpu_s
        if (done + piece.schedules) // PROGRESS_EVERY > done // PROGRESS_EVERY:
            print(f"{done + piece.schedules:,} of {schedules:,}, {len(violations)} violated", file=sys.stderr)
        done += piece.schedules
    return violations, cpu_s


def _recoveries(seed: int, schedules: int) -> tuple[int, int]:
    """(how many were played, how many broke a promise)."""
    count = min(RECOVERIES_MAX, max(1, schedules // SCHEDULES_PER_RECOVERY))
    verdicts = campaign(seed, count, with_sdk=max(1, count // RECOVERIES_PER_SDK))
    return len(verdicts), tell(verdicts)


def _planted(seed: int) -> int:
    caught = 0
    for bug, found in find_all(seed, os.cpu_count() or 1):
        caught += found is not None
        print(f"planted: {bug.name}: {found.kind if found else 'NOT CAUGHT'}", file=sys.stderr)
    return caught


def _tell(violations: Iterable[Violation]) -> None:
    for one in violations:
        print(f"SEED={one.seed} N=1 at {one.at} ms: {one.kind}: {one.text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
