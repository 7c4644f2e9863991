"""``python -m tests.campaign.sink [--short]``: kills and outages under load; every record must be one row.

Two sinks on a server that fails in every way it can, then one sink with the database in itself. Prints one line of
JSON; 0 if in each table rows, different origins and records produced are the same number, at every look.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from emergency_stop.testing.brokers import ApacheKafka
from tests.campaign.log import Log, Sender
from tests.campaign.rows import TABLE_OF_TELEMETRY
from tests.campaign.sink.plant import Deadline, Plant
from tests.campaign.sink.rounds import EMBEDDED, ON_SERVER, agenda, perform
from tests.campaign.telemetry import Load, records

SEED_MAX = 1 << 30
#: A sink that starts while the database is away says so and ends (EX_UNAVAILABLE); it is started again.
ENDS_ALLOWED = (69,)
#: Longer than any campaign; its end is the campaign's.
LOAD_S = 3_600.0
RATE_PER_S = 800
DEAD_ONE_IN_MIN = 500


@dataclass
class Found:
    """What one database had, and what was wrong with it."""

    rounds: int = 0
    produced: int = 0
    rows: int = 0
    unique: int = 0
    failures: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.sink", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few rounds only")
    parser.add_argument("--seed", type=int, default=os.environ.get("SEED") or random.randrange(SEED_MAX))
    options = parser.parse_args()
    workdir = Path(tempfile.mkdtemp(prefix="estop-sink-kill-"))
    _say(f"seed {options.seed} (SEED={options.seed} repeats the agenda and the load); logs in {workdir}")
    on_server, embedded = (3, 1) if options.short else (40, 12)
    found = [
        _campaign(workdir / "server", options.seed, on_server, is_embedded=False, short=options.short),
        _campaign(workdir / "embedded", options.seed, embedded, is_embedded=True, short=options.short),
    ]
    failures = [failure for one in found for failure in one.failures]
    for failure in failures:
        _say(f"FAILED: {failure}")
    if failures:
        _say(f"logs kept in {workdir}")
    else:
        shutil.rmtree(workdir, ignore_errors=True)
    report = {name: sum(getattr(one, name) for one in found) for name in ("rounds", "produced", "rows", "unique")}
    print(json.dumps(report | {"seed": options.seed}))
    return 1 if failures else 0


def _campaign(folder: Path, seed: int, rounds: int, *, is_embedded: bool, short: bool) -> Found:
    (folder / "kafka").mkdir(parents=True)
    ended = threading.Event()
    load = Load(seed, accounts=500, backlog=20_000, rate_per_s=RATE_PER_S, duration_s=LOAD_S)
    with ApacheKafka(folder / "kafka", short_lived=short) as kafka, Log(kafka.bootstrap) as log:
        plant = Plant(kafka.bootstrap, folder, embedded=is_embedded)
        found = Found()
        try:
            plant.start()
            stream = takewhile(lambda _: not ended.is_set(), records(load, int(time.time() * 1000)))
            sender = Sender(kafka.bootstrap, stream)
            sender.send_backlog(load.backlog)
            sender.start()
            _disturb(plant, log, found, seed, rounds)
            ended.set()
            sender.join(60)
            found.failures += sender.failures
            _judge(plant, log, found)
        except Deadline as late:
            found.failures.append(str(late))
        finally:
            ended.set()
            plant.close()
    return found


def _disturb(plant: Plant, log: Log, found: Found, seed: int, rounds: int) -> None:
    """Each round: disturb, look at what is stored at once, and wait until what was produced by then is stored."""
    rng = random.Random(f"sink details {seed}")
    kinds = EMBEDDED if plant.embedded else ON_SERVER
    plant.until(_settled(plant, 1), "the first rows")
    for number, kind in enumerate(agenda(seed, rounds, kinds), start=1):
        began_s = time.monotonic()
        found.rounds += perform(plant, kind, rng)
        produced = sum(_ends(log).values())
        plant.until(_settled(plant, produced), f"round {number}, {kind}: {produced} records are settled")
        plant.release()
        _look(plant, found, f"round {number}, {kind}")
        _say(f"round {number}: {kind}; {produced} records settled, {time.monotonic() - began_s:.1f} s")


def _settled(plant: Plant, produced: int) -> Callable[[], bool]:
    return lambda: plant.settled() >= produced


def _look(plant: Plant, found: Found, when: str) -> None:
    """Live: no origin may have two rows, at any moment."""
    for table, (rows, unique) in plant.rows().items():
        if rows != unique:
            found.failures.append(f"{when}: {table} has {rows} rows of {unique} origins")


def _judge(plant: Plant, log: Log, found: Found) -> None:
    """After: every accepted record is one row, every other one a dead letter."""
    ends = _ends(log)
    plant.until(_settled(plant, sum(ends.values())), "everything is settled")
    dead_records = sum(log.end("estop.dead-letter", number) for number in log.partitions("estop.dead-letter"))
    plant.until(lambda: plant.rows().get("dead_letters", (0, 0))[0] >= dead_records, "dead letters are stored")
    _look(plant, found, "at the end")
    rows = plant.rows()
    dead = dict(
        plant.ask(
            "SELECT source_topic, toString(uniqExact(source_partition, source_offset)) FROM dead_letters GROUP BY 1"
        )
    )
    for topic, table in TABLE_OF_TELEMETRY.items():
        produced = ends[topic] - int(dead.get(topic, 0))
        count, unique = rows[table]
        found.produced, found.rows, found.unique = found.produced + produced, found.rows + count, found.unique + unique
        if not produced == count == unique:
            found.failures.append(f"{table}: {produced} produced, {count} rows, {unique} origins")
    refused = sum(map(int, dead.values()))
    if refused * DEAD_ONE_IN_MIN > sum(ends.values()):
        found.failures.append(f"{refused} dead letters are more than the load has bad inputs")
    for child in plant.children:
        bad = [status for _, status in child.own_exits if status not in ENDS_ALLOWED]
        found.failures += [f"{child.name} ended by itself with status {status}" for status in bad]


def _ends(log: Log) -> dict[str, int]:
    """Records by topic of telemetry."""
    return {topic: sum(log.end(topic, number) for number in log.partitions(topic)) for topic in TABLE_OF_TELEMETRY}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
