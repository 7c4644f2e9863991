"""One system's metered run on the filled topics, and its hits held against the oracle's."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tests.bench import stage
from tests.bench.meter import Reading
from tests.bench.oracle import Place
from tests.bench.peers.systems import OURS, Job, System
from tests.campaign.log import Log


def run(system: System, bootstrap: str, events: int, folder: Path) -> Reading:
    """Run ``system`` over its share of the load. Blocks; raises ``RuntimeError`` with its log when it failed."""
    own = folder / system.name
    own.mkdir()
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


def wanted_of(system: System, bootstrap: str, wanted: Iterable[Place]) -> list[Place]:
    """The part of the oracle's hits that lies in the share of the load that the system got, in order.

    A share's topic got the load's first records in the same order and by the same partitioner, so a record has
    the same partition and offset in it as in the whole.
    """
    with Log(bootstrap) as log:
        ends = [log.end(system.topic(), partition) for partition in range(stage.PARTITIONS)]
    return sorted(place for place in wanted if place[3] < ends[place[2]])
