"""Many accounts stopped at once: how long until the last gate of the last instance refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from emergency_stop.domain.values import StopLevel
from tests.bench.stop.causes import EVERYBODY
from tests.bench.stop.figures import percentiles
from tests.bench.stop.installation import Installation
from tests.bench.stop.instance import crowd_names, report_path
from tests.bench.stop.probes import Probe, Probes
from tests.bench.stop.witness import now_ms, until

#: Each account has an event and a hit of its own.
BURST: Final = "burst"
#: One event is the cause for all of them.
ALL: Final = "all"
GATES_S: Final = 120.0
CONFIRM_S: Final = 600.0


async def burst(installation: Installation, probes: Probes) -> dict[str, Any]:
    """One event for each account, all at one moment; a hold, five commands and an emergency for each."""
    at_ms, level = now_ms(), StopLevel.IMMEDIATE.value
    sent = [Probe(account, level, at_ms) for account in crowd_names(BURST, installation.crowds[BURST])]
    await asyncio.gather(*map(probes.send, sent))
    found = {"produced_within_ms": now_ms() - at_ms}
    found |= await _gates(installation, BURST, at_ms)
    await probes.ended(sent, CONFIRM_S)
    times = [time_ms for probe in sent if (time_ms := probes.emergency(probe).time_to_stop_ms) is not None]
    return found | {"time_to_stop_ms": percentiles(times)}


async def everybody(installation: Installation, probes: Probes) -> dict[str, Any]:
    """One event over a bound for all accounts together: one hold of everything."""
    cause = Probe("all-000000", EVERYBODY, now_ms())
    await probes.send(cause)
    found = await _gates(installation, ALL, cause.sent_ms)
    witness = installation.witness
    await until(lambda: witness.has_ended("global"), lambda: "the stop of everything has not ended", CONFIRM_S)
    return found | {"time_to_stop_ms": witness.by_scope["global"].account.time_to_stop_ms}


async def _gates(installation: Installation, crowd: str, since_ms: int) -> dict[str, Any]:
    """Wait until every instance has reported the crowd. Raises ``TimeoutError`` naming who has not."""
    paths = {who: report_path(installation.folder, crowd, who) for _, who in installation.who}

    def missing() -> list[str]:
        return [who for who, path in paths.items() if not path.exists()]

    await until(lambda: not missing(), lambda: f"gates of {crowd} are open in {missing()}", GATES_S)
    reports = [json.loads(path.read_text()) for path in paths.values()]
    return {"accounts": installation.crowds[crowd], "instances": len(reports)} | _summary(reports, since_ms)


def _summary(reports: Sequence[Mapping[str, int]], since_ms: int) -> dict[str, int]:
    return {
        "last_gate_ms": max(one["shut_at"] for one in reports) - since_ms,
        "first_instance_ms": min(one["shut_at"] for one in reports) - since_ms,
        "permits_refused": sum(one["refused"] for one in reports),
        "permits_granted": sum(one["accounts"] - one["refused"] for one in reports),
    }
