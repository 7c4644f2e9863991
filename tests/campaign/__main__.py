"""``python -m tests.campaign [--short]``: the kill campaign. Prints one line of JSON; 0 if every equality holds."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

from emergency_stop.testing.brokers import ApacheKafka
from tests.campaign.campaign import Scale, run
from tests.campaign.telemetry import Load

SEED_MAX = 1 << 30


def full(seed: int) -> Scale:
    """About eight minutes: five of load, the rest is the oracle's."""
    load = Load(seed, accounts=3_000, backlog=200_000, rate_per_s=3_000, duration_s=300)
    return Scale(load, gap_s=(7.0, 15.0), kills_least=20)


def short(seed: int) -> Scale:
    """For ``make test``: the same shape within 90 seconds."""
    load = Load(seed, accounts=300, backlog=20_000, rate_per_s=800, duration_s=20)
    return Scale(load, gap_s=(2.0, 4.0), kills_least=4)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few disturbances only")
    parser.add_argument("--seed", type=int, default=os.environ.get("SEED") or random.randrange(SEED_MAX))
    options = parser.parse_args()
    scale = short(options.seed) if options.short else full(options.seed)
    workdir = Path(tempfile.mkdtemp(prefix="estop-kill-"))
    (workdir / "kafka").mkdir()
    print(
        f"seed {options.seed} (SEED={options.seed} repeats the agenda and the load); logs in {workdir}", file=sys.stderr
    )
    with ApacheKafka(workdir / "kafka", short_lived=options.short) as kafka:
        findings = run(scale, kafka.bootstrap, workdir)
    failures = findings.failures()
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    print(f"{findings.hit_duplicates} hits were published again, under the same id (allowed)", file=sys.stderr)
    if failures:
        print(f"logs kept in {workdir}", file=sys.stderr)
    else:
        shutil.rmtree(workdir, ignore_errors=True)
    print(findings.report())
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
