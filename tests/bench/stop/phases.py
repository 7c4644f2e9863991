"""The phases of the bench in one installation: emergencies one after the other, each phase with its own trouble."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections import Counter
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from emergency_stop.testing.brokers import ApacheKafka
from emergency_stop.testing.kafka_cluster import KafkaCluster
from tests.bench.stop import crowds
from tests.bench.stop.causes import LEVELS
from tests.bench.stop.disturbances import NOMINAL_EVENTS_PER_S, Outages, bounces, overload, rebalances, rolling
from tests.bench.stop.figures import percentiles
from tests.bench.stop.installation import Installation
from tests.bench.stop.phase_names import LONE_BOUNCED, OVERLOAD, REBALANCE, Loss
from tests.bench.stop.probes import Probe, Probes
from tests.bench.stop.witness import until

WARM_UP: Final = 100
_BOUNCES: Final = 3
_BOUNCE_EVERY_S: Final = 20.0
_READ_S: Final = 20.0


class Bench:
    """``kafka`` is what may be bounced: the only broker there is, or one after the other of a cluster."""

    def __init__(
        self,
        kafka: ApacheKafka | KafkaCluster,
        installation: Installation,
        probes: Probes,
        options: argparse.Namespace,
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
        sent = await levels.run(WARM_UP, self._gap_s)
        found = {level: Counter[str]() for level in LEVELS}
        for probe in sent:
            found[probe.level][levels.outcome(probe)] += 1
        return {level: dict(counts) for level, counts in found.items()}

    async def phase(self, name: str) -> dict[str, Any]:
        """Emergencies one after the other, amid what ``name`` says."""
        say(f"{self._count} emergencies, {name}")
        extra: dict[str, Any] = {}
        started = time.monotonic()
        outages = Outages()
        async with self._trouble(name, outages, extra):
            sent = await self._probes.run(self._count, self._gap_s)
        if outages.spans:
            extra |= self._about(outages, sent)
        found = self._probes.report(sent) | extra | {"took_s": round(time.monotonic() - started)}
        say(json.dumps(found))
        return found

    def _trouble(self, name: str, outages: Outages, extra: dict[str, Any]) -> AbstractAsyncContextManager[None]:
        if name == OVERLOAD:
            return overload(self._kafka.bootstrap, 10 * NOMINAL_EVENTS_PER_S, extra)
        if name == REBALANCE:
            return rebalances(self._installation, extra)
        if isinstance(self._kafka, KafkaCluster):
            return rolling(self._kafka, outages, _BOUNCE_EVERY_S, Loss(name))
        if name == LONE_BOUNCED:
            return bounces(self._kafka, outages, _BOUNCES, _BOUNCE_EVERY_S)
        return contextlib.nullcontext()

    def _about(self, outages: Outages, sent: list[Probe]) -> dict[str, Any]:
        """How long a broker was away; and, where it is the only one, times that begin when it answers again."""
        found: dict[str, Any] = {"outages_ms": [back - gone for gone, back in outages.spans]}
        if isinstance(self._kafka, ApacheKafka):
            found["after_broker_answers_ms"] = percentiles(
                probe.sent_ms + time_ms - outages.since_answering(probe.sent_ms)
                for probe in sent
                if (time_ms := self._probes.emergency(probe).time_to_stop_ms) is not None
            )
        return found

    async def crowds(self) -> dict[str, Any]:
        say("a crowd, each account by an event of its own; then by one event for all")
        return {
            "crowd_burst": await crowds.burst(self._installation, self._probes),
            "crowd_by_one_cause": await crowds.everybody(self._installation, self._probes),
        }

    async def totals(self) -> dict[str, Any]:
        """What was counted over all phases; the coordinator may have read a proof before the witness does."""
        witness = self._installation.witness
        with contextlib.suppress(TimeoutError):
            await until(lambda: not witness.clock_contradictions(), lambda: "the clocks agree", _READ_S)
        return {
            "commands": len(witness.stop_commands),
            "side_effects": len(witness.activity),
            "side_effects_after_stop": witness.effects_after_stop(),
            "clock_contradictions": witness.clock_contradictions(),
        }


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)
