"""``python -m tests.simulation``: seeded schedules of the whole stop protocol, then the planted bugs.

Prints one line of JSON; 0 if no schedule was violated and every bug was caught. ``SEED`` and ``N`` of the environment
choose what is tried; ``SEED=… N=1`` with ``--trace`` tells one schedule moment by moment.
"""

from __future__ import annotations

import json
import os
import random
import sys
from typing import Final

from tests.simulation.campaign import run_campaign, run_schedule
from tests.simulation.planted import BUGS
from tests.simulation.violation import Violation

SCHEDULES: Final = 10_000
#: More violations are counted, and not told one by one.
TOLD_MAX: Final = 20


def main() -> int:
    seed = int(os.environ.get("SEED") or random.randrange(1 << 30))
    schedules = int(os.environ.get("N") or SCHEDULES)
    if "--trace" in sys.argv:
        violations = run_schedule(seed, tell=lambda line: print(line, file=sys.stderr))
        caught, planted, schedules = 0, 0, 1
    else:
        violations = [found for _, some in run_campaign(seed, schedules, os.cpu_count() or 1) for found in some]
        caught, planted = _planted(seed), len(BUGS)
    for violation in violations[:TOLD_MAX]:
        _tell(violation)
    print(
        json.dumps(
            {
                "schedules": schedules,
                "violations": len(violations),
                "planted_bugs": planted,
                "planted_bugs_caught": caught,
                "seed": seed,
            }
        )
    )
    return 1 if violations or caught < planted else 0


def _planted(seed: int) -> int:
    caught = 0
    for bug in BUGS:
        found = bug.find(seed)
        caught += found is not None
        print(f"planted: {bug.name}: {found.kind if found else 'NOT CAUGHT'}", file=sys.stderr)
    return caught


def _tell(violation: Violation) -> None:
    print(f"SEED={violation.seed} N=1 at {violation.at} ms: {violation.kind}: {violation.text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
