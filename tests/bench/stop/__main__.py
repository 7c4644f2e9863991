"""``make bench-stop``: from an event to the last instance's proof that it has stopped, on Apache Kafka.

A detector, a coordinator and two instances of each of five services, all processes of their own, on this machine with
the broker. Emergencies one after the other: with nothing else to do, beside ten times the usual telemetry, with the
broker restarted, and while detectors and coordinators join and leave. Then ten thousand accounts at once, and fifty
thousand commands while instances are killed. Prints one line of JSON; ends with 1 where a bound or a count is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from emergency_stop.config import Settings
from emergency_stop.domain.values import StopLevel
from emergency_stop.testing.brokers import ApacheKafka
from tests.bench.permit_cost import ASYNC_WITH, HOLDS, WITH, permit_costs_us
from tests.bench.stop import accounting, crowds, verdict
from tests.bench.stop.causes import FEW_SERVICES, LEVELS
from tests.bench.stop.disturbances import NOMINAL_EVENTS_PER_S, Outages, bounces, overload, rebalances
from tests.bench.stop.figures import percentiles
from tests.bench.stop.installation import Installation
from tests.bench.stop.probes import Probe, Probes

#: The broker is restarted before the overload, whose gigabytes it would have to put away first.
PHASES: Final = ("unloaded", "broker_bounced", "overload", "rebalance", "accounting", "crowds")
_WARM_UP: Final = 100
_BOUNCES: Final = 3
_BOUNCE_EVERY_S: Final = 20.0
#: Levels that are measured; all are tried in the warm-up, to tell what becomes of them.
_MEASURED: Final = (StopLevel.IMMEDIATE.value, StopLevel.GRACEFUL.value, StopLevel.SERVICE_SPECIFIC.value)
_TIMES: Final = frozenset(f"{level}_ms" for level in LEVELS)
_ACKS: Final = ("acks_expected", "acks_accounted")


def main() -> int:
    options = _options()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the broker goes on purpose
    with tempfile.TemporaryDirectory(prefix="estop-stop-") as name:
        folder = Path(name)
        (folder / "kafka").mkdir()
        with ApacheKafka(folder / "kafka") as kafka:
            report = asyncio.run(_bench(kafka, folder, options))
    failures = verdict.failures(report)
    for failure in failures:
        _say(f"FAILED: {failure}")
    print(json.dumps(_headline(report) | report | {"failures": failures}))
    return 1 if failures else 0


def _headline(report: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked first: times with nothing else to do, and whether all answers are accounted for."""
    times = {name: found for name, found in report.get("unloaded", {}).items() if name in _TIMES}
    counts = {name: report["accounting"][name] for name in _ACKS if "accounting" in report}
    return times | counts


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stop", description=__doc__)
    parser.add_argument("--emergencies", type=int, default=1_000, help="in each of the first four phases")
    parser.add_argument("--gap-ms", type=int, default=100, help="between their events")
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=_MEASURED)
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=PHASES)
    parser.add_argument("--crowd", type=int, default=10_000, help="accounts that are stopped at once")
    parser.add_argument("--commands", type=int, default=50_000, help="at least so many, while instances are killed")
    parser.add_argument("--seed", type=int, default=1, help="of whom to kill, and when")
    return parser.parse_args()


async def _bench(kafka: ApacheKafka, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    settings = Settings(brokers=kafka.bootstrap, data_dir=folder)
    killed = _emergencies_for(options.commands, options.levels, len(settings.services))
    accounts = _WARM_UP + 4 * options.emergencies + killed
    sizes = {crowds.BURST: options.crowd, crowds.ALL: options.crowd} if "crowds" in options.phases else {}
    report: dict[str, Any] = {}
    async with Installation(settings, folder, accounts, sizes) as installation:
        probes = Probes(installation, options.levels)
        bench = _Bench(kafka, installation, probes, options)
        report["levels"] = await bench.warm_up()
        for phase in PHASES[:4]:
            if phase in options.phases:
                report[phase] = await bench.phase(phase)
        if "accounting" in options.phases:
            _say(f"{killed} emergencies while instances are killed")
            report["accounting"] = await accounting.account(installation, probes, killed, options.seed)
        if "crowds" in options.phases:
            report |= await bench.crowds()
        report |= bench.totals()
    costs = await permit_costs_us()
    return report | {"permit_us": {"holds": HOLDS, **{form: round(costs[form], 2) for form in (ASYNC_WITH, WITH)}}}


def _emergencies_for(commands: int, levels: Sequence[str], services: int) -> int:
    """How many emergencies, the levels in turn, give at least so many commands."""
    few = sum(level == StopLevel.SERVICE_SPECIFIC.value for level in levels)
    each_turn = services * (len(levels) - few) + len(FEW_SERVICES) * few
    return -(-commands // each_turn) * len(levels)


class _Bench:
    def __init__(
        self, kafka: ApacheKafka, installation: Installation, probes: Probes, options: argparse.Namespace
    ) -> None:
        self._kafka = kafka
        self._installation = installation
        self._probes = probes
        self._count: int = options.emergencies
        self._gap_s: float = options.gap_ms / 1000

    async def warm_up(self) -> dict[str, dict[str, int]]:
        """Every level there is, not reported: a broker whose code the JVM still interprets would be what is measured.

        Returns what became of each level that was asked for; see ``Probes.outcome``.
        """
        levels = Probes(self._installation, LEVELS)
        levels.take_names_from(self._probes)
        sent = await levels.run(_WARM_UP, self._gap_s)
        found = {level: Counter[str]() for level in LEVELS}
        for probe in sent:
            found[probe.level][levels.outcome(probe)] += 1
        return {level: dict(counts) for level, counts in found.items()}

    async def phase(self, name: str) -> dict[str, Any]:
        """One of the first four."""
        _say(f"{self._count} emergencies, {name}")
        extra: dict[str, Any] = {}
        started = time.monotonic()
        if name == "overload":
            async with overload(self._kafka.bootstrap, 10 * NOMINAL_EVENTS_PER_S, extra):
                sent = await self._run()
        elif name == "broker_bounced":
            sent = await self._bounced(extra)
        elif name == "rebalance":
            async with rebalances(self._installation, extra):
                sent = await self._run()
        else:
            sent = await self._run()
        return self._probes.report(sent) | extra | {"took_s": round(time.monotonic() - started)}

    async def _run(self) -> list[Probe]:
        return await self._probes.run(self._count, self._gap_s)

    async def _bounced(self, extra: dict[str, Any]) -> list[Probe]:
        outages = Outages()
        async with bounces(self._kafka, outages, _BOUNCES, _BOUNCE_EVERY_S):
            sent = await self._run()
        extra["outages_ms"] = [back - gone for gone, back in outages.spans]
        extra["after_broker_answers_ms"] = percentiles(
            probe.sent_ms + time_ms - outages.since_answering(probe.sent_ms)
            for probe in sent
            if (time_ms := self._probes.emergency(probe).time_to_stop_ms) is not None
        )
        return sent

    async def crowds(self) -> dict[str, Any]:
        _say("a crowd, each account by an event of its own; then by one event for all")
        return {
            "crowd_burst": await crowds.burst(self._installation, self._probes),
            "crowd_by_one_cause": await crowds.everybody(self._installation, self._probes),
        }

    def totals(self) -> dict[str, Any]:
        witness = self._installation.witness
        return {
            "commands": len(witness.stop_commands),
            "side_effects": len(witness.activity),
            "side_effects_after_stop": witness.effects_after_stop(),
            "clock_contradictions": witness.clock_contradictions(),
        }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
