"""One system's metered run on the filled topics, and its hits held against the oracle's."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from tests.bench import stage
from tests.bench.meter import Reading
from tests.bench.oracle import Place, expected_hits
from tests.bench.peers.systems import OURS, Job, System
from tests.campaign.log import Log


def run(system: System, bootstrap: str, folder: Path) -> Reading:
    """Run ``system`` over its part of the load. Blocks; raises ``RuntimeError`` with its log when it failed."""
    own = folder / system.name
    own.mkdir()
    events = sum(_ends(system, bootstrap))
    job = Job(f"bench-{system.name}", bootstrap, system.topic(), system.hits_topic(), events, own)
    launch = system.launch(job)
    return stage.run_metered(launch.command, launch.environment, folder / f"{system.name}.log")


def hits_of(system: System, bootstrap: str) -> list[Place]:
    """Every hit in the system's topic; a doubled one shows as two."""
    if system.name == OURS:
        return stage.our_hits(bootstrap)
    with Log(bootstrap) as log:
        hits = [json.loads(message.value() or b"null") for message in log.read(system.hits_topic())]
    return [(hit["trigger_id"], hit["account_id"], hit["partition"], hit["offset"]) for hit in hits]


def wanted_of(system: System, bootstrap: str, whole: Collection[Place]) -> list[Place]:
    """What the oracle says of the system's part of the load, in order; ``whole`` is what it says of the whole.

    The topic of a share of the events got the load's first records in the same order and by the same partitioner, so
    a record has the same partition and offset in it as in the whole. A share of the accounts is asked for anew.
    """
    if system.part.by_accounts:
        return sorted(expected_hits(bootstrap, list(range(stage.PARTITIONS)), system.topic()))
    ends = _ends(system, bootstrap)
    return sorted(place for place in whole if place[3] < ends[place[2]])


def _ends(system: System, bootstrap: str) -> list[int]:
    """Where each partition of the system's topic ends."""
    with Log(bootstrap) as log:
        return [log.end(system.topic(), partition) for partition in range(stage.PARTITIONS)]
