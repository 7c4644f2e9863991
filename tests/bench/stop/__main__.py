"""``make bench-stop``: from an event to the last instance's proof that it has stopped, on Apache Kafka.

A detector, a coordinator and two instances of each of five services, all processes of their own, on this machine with
the broker. Emergencies one after the other: with nothing else to do, with the only broker restarted, beside ten times
the usual telemetry, and while detectors and coordinators join and leave. Then ten thousand accounts at once, and fifty
thousand commands while instances are killed. Then the same installation on a cluster of three brokers, as production
has it: each is restarted in turn, each is killed, and each hangs. Prints one line of JSON; ends with 1 where a bound is
missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from emergency_stop.config import Settings
from emergency_stop.domain.values import StopLevel
from emergency_stop.testing.brokers import ApacheKafka
from emergency_stop.testing.kafka_cluster import NODES, KafkaCluster
from tests.bench.permit_cost import ASYNC_WITH, HOLDS, WITH, permit_costs_us
from tests.bench.stop import accounting, crowds, verdict
from tests.bench.stop.causes import FEW_SERVICES, LEVELS
from tests.bench.stop.installation import Installation
from tests.bench.stop.phase_names import ON_A_CLUSTER, ON_ONE_BROKER, UNLOADED
from tests.bench.stop.phases import WARM_UP, Bench, say
from tests.bench.stop.probes import Probes

_ON_ONE_BROKER: Final = (*ON_ONE_BROKER, "accounting", "crowds")
#: Levels that are measured; all are tried in the warm-up, to tell what becomes of them.
_MEASURED: Final = (StopLevel.IMMEDIATE.value, StopLevel.GRACEFUL.value, StopLevel.SERVICE_SPECIFIC.value)
_TIMES: Final = frozenset(f"{level}_ms" for level in LEVELS)
_ACKS: Final = ("acks_expected", "acks_accounted")


def main() -> int:
    options = _options()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # brokers go on purpose
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="estop-stop-") as name:
        if wanted := [phase for phase in _ON_ONE_BROKER if phase in options.phases]:
            folder = _folder(name, "one")
            with ApacheKafka(_folder(name, "kafka")) as kafka:
                report |= asyncio.run(_on_one_broker(kafka, folder, wanted, options))
        if wanted := [phase for phase in ON_A_CLUSTER if phase in options.phases]:
            folder = _folder(name, "three")
            with KafkaCluster(_folder(name, "cluster")) as cluster:
                report["cluster"] = asyncio.run(_on_a_cluster(cluster, folder, wanted, options))
    failures = verdict.failures(report)
    for failure in failures:
        say(f"FAILED: {failure}")
    print(json.dumps(_headline(report) | report | {"failures": failures}))
    return 1 if failures else 0


def _headline(report: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked first: times with nothing else to do, and whether all answers are accounted for."""
    times = {name: found for name, found in report.get(UNLOADED, {}).items() if name in _TIMES}
    counts = {name: report["accounting"][name] for name in _ACKS if "accounting" in report}
    return times | counts


def _folder(parent: str, name: str) -> Path:
    folder = Path(parent) / name
    folder.mkdir()
    return folder


def _options() -> argparse.Namespace:
    phases = (*_ON_ONE_BROKER, *ON_A_CLUSTER)
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stop", description=__doc__)
    parser.add_argument("--emergencies", type=int, default=1_000, help="in each phase that has them one by one")
    parser.add_argument("--gap-ms", type=int, default=100, help="between their events")
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=_MEASURED)
    parser.add_argument("--phases", nargs="+", choices=phases, default=phases)
    parser.add_argument("--crowd", type=int, default=10_000, help="accounts that are stopped at once")
    parser.add_argument("--commands", type=int, default=50_000, help="at least so many, while instances are killed")
    parser.add_argument("--seed", type=int, default=1, help="of whom to kill, and when")
    return parser.parse_args()


async def _on_one_broker(
    kafka: ApacheKafka, folder: Path, phases: Sequence[str], options: argparse.Namespace
) -> dict[str, Any]:
    settings = Settings(brokers=kafka.bootstrap, data_dir=folder)
    killed = _emergencies_for(options.commands, options.levels, len(settings.services))
    accounts = WARM_UP + len(ON_ONE_BROKER) * options.emergencies + killed
    sizes = {crowds.BURST: options.crowd, crowds.ALL: options.crowd} if "crowds" in phases else {}
    report: dict[str, Any] = {}
    async with Installation(settings, folder, accounts, sizes) as installation:
        probes = Probes(installation, options.levels)
        bench = Bench(kafka, installation, probes, options)
        report["levels"] = await bench.warm_up()
        for phase in ON_ONE_BROKER:
            if phase in phases:
                report[phase] = await bench.phase(phase)
        if "accounting" in phases:
            say(f"{killed} emergencies while instances are killed")
            report["accounting"] = await accounting.account(installation, probes, killed, options.seed)
        if "crowds" in phases:
            report |= await bench.crowds()
        report |= await bench.totals()
    costs = await permit_costs_us()
    return report | {"permit_us": {"holds": HOLDS, **{form: round(costs[form], 2) for form in (ASYNC_WITH, WITH)}}}


async def _on_a_cluster(
    cluster: KafkaCluster, folder: Path, phases: Sequence[str], options: argparse.Namespace
) -> dict[str, Any]:
    settings = Settings(brokers=cluster.bootstrap, data_dir=folder, replication_factor=NODES)
    accounts = WARM_UP + len(phases) * options.emergencies
    async with Installation(settings, folder, accounts, {}) as installation:
        bench = Bench(cluster, installation, Probes(installation, options.levels), options)
        report: dict[str, Any] = {"levels": await bench.warm_up()}
        for phase in phases:
            report[phase] = await bench.phase(phase)
        return report | await bench.totals()


def _emergencies_for(commands: int, levels: Sequence[str], services: int) -> int:
    """How many emergencies, the levels in turn, give at least so many commands."""
    few = sum(level == StopLevel.SERVICE_SPECIFIC.value for level in levels)
    each_turn = services * (len(levels) - few) + len(FEW_SERVICES) * few
    return -(-commands // each_turn) * len(levels)


if __name__ == "__main__":
    sys.exit(main())
