"""What `make bench-stop` measures with, short: on the embedded broker, two services, few emergencies, one death."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from emergency_stop.config import Settings
from emergency_stop.domain.values import EmergencyState, StopLevel
from emergency_stop.testing.brokers import EmbeddedBroker
from tests.bench.stop import accounting, crowds
from tests.bench.stop.causes import FEW_SERVICES, LEVELS
from tests.bench.stop.installation import READY_MS, Installation
from tests.bench.stop.probes import Probe, Probes
from tests.bench.stop.witness import until

pytestmark = pytest.mark.needs("broker")
CROWD = 40
READ_S = 60.0
#: Nobody who lives may miss it on a busy machine; both deadlines of an immediate stop pass when somebody is dead.
DEADLINE_MS = 4_000


@pytest.fixture
async def installation(tmp_path: Path) -> AsyncIterator[Installation]:
    with EmbeddedBroker(tmp_path) as broker:
        settings = Settings(
            brokers=broker.bootstrap,
            data_dir=tmp_path,
            services=FEW_SERVICES,
            immediate_stop_timeout_ms=DEADLINE_MS,
            graceful_stop_timeout_ms=5 * DEADLINE_MS,
        )
        sizes = {crowds.BURST: CROWD, crowds.ALL: CROWD}
        async with Installation(settings, tmp_path, accounts=50, crowds=sizes) as running:
            yield running


async def test_times_answers_and_gates_of_stops_by_a_real_detector_and_coordinator(installation: Installation) -> None:
    probes = Probes(installation, LEVELS)
    witness = installation.witness
    sent = await probes.run(2 * len(LEVELS), 0.02)
    report = probes.report(sent)
    assert [report[f"{level}_ms"]["max"] > 0 for level in LEVELS] == [True] * len(LEVELS)
    assert (report["emergencies"], report["partial"]) == (len(sent), 0)
    assert {probe.level: probes.outcome(probe) for probe in sent} == dict.fromkeys(LEVELS, "stopped")
    # Read from two topics apart from each other, so neither must come first.
    assert min(report["last_stopped_read_ms"]["p50"], report["emergency_ended_read_ms"]["p50"]) > 0
    assert {probes.emergency(probe).occurred_at - probe.sent_ms for probe in sent} == {0}

    await _with_a_dead_instance(installation, probes)

    burst = await crowds.burst(installation, probes)
    everybody = await crowds.everybody(installation, probes)
    for crowd in (burst, everybody):
        assert (crowd["permits_refused"], crowd["permits_granted"]) == (4 * CROWD, 0)
        assert 0 < crowd["first_instance_ms"] <= crowd["last_gate_ms"]
    assert witness.effects_after_stop() == 0
    # The coordinator may have read a proof before the witness does.
    await until(lambda: not witness.clock_contradictions(), lambda: f"{witness.clock_contradictions()}", READ_S)
    assert len(witness.activity) > 0


async def _with_a_dead_instance(installation: Installation, probes: Probes) -> None:
    """Nobody answers for it, and every command is accounted for: it is UNKNOWN in each emergency, with the reason."""
    _, name = installation.who[0]
    victim = installation.children[name]
    victim.kill()
    sent = [probes.next(StopLevel.IMMEDIATE.value) for _ in range(3)]
    for probe in sent:
        await probes.send(probe)
    await probes.ended(sent)
    states = Counter(probes.emergency(probe).state for probe in sent)
    assert states == {EmergencyState.PARTIAL: len(sent)}
    found = _tally(installation, sent)
    assert found["acks_accounted"] == found["acks_expected"] == 2 * found["commands"] > 0
    assert found["how"]["recorded_unknown"] >= len(sent)
    assert found["claims_without_ack"] == 0
    victim.start()
    await victim.ready(READY_MS)


def _tally(installation: Installation, sent: list[Probe]) -> dict[str, Any]:
    witness, scopes = installation.witness, {probe.scope for probe in sent}
    commands = [one for one in witness.stop_commands.values() if one.scope in scopes]
    return accounting.tally(commands, [witness.by_scope[scope] for scope in scopes], installation.who)
