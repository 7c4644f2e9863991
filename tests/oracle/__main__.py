"""``python -m tests.oracle``: random trigger sets over random streams, with crashes; hits against the naive twin's.

Prints one line of JSON; 0 if nothing differs. ``SEED`` and ``STREAMS`` of the environment choose what is tried.
"""

from __future__ import annotations

import json
import os
import random
import sys
from typing import Final

from tests.oracle import changes, ranges, rule_streams
from tests.oracle.streams import campaign

STREAMS: Final = 2_000
EVENTS_MAX: Final = 600
#: Random sets of triggers that differ in whom they watch, rules over several topics, and triggers that change: so many
#: of each.
OTHERS_ONE_IN: Final = 4
OTHERS_EVENTS_MAX: Final = 300


def main() -> int:
    seed = int(os.environ.get("SEED") or random.randrange(1 << 30))
    streams = int(os.environ.get("STREAMS") or STREAMS)
    mismatches = hits = 0
    for comparison in campaign(seed, streams, EVENTS_MAX):
        hits += len(comparison.wanted)
        if problem := comparison.problem():
            mismatches += 1
            print(f"stream {comparison.seed}: {problem}", file=sys.stderr)
    others = streams // OTHERS_ONE_IN
    compared_by = {"ranges": ranges.difference, "rules": rule_streams.difference, "changes": changes.difference}
    for name, difference in compared_by.items():
        for number in range(seed, seed + others):
            compared, problem = difference(number, OTHERS_EVENTS_MAX)
            hits, streams = hits + compared, streams + 1
            if problem:
                mismatches += 1
                print(f"{name} {number}: {problem}", file=sys.stderr)
    print(json.dumps({"streams": streams, "mismatches": mismatches, "seed": seed, "hits": hits}))
    return 1 if mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
