"""A recovery from end to end: the command line, the coordinator, a broker, and services that let in share by share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from emergency_stop.apps.stack.stack import Stack
from emergency_stop.config import Settings
from emergency_stop.control.errors import EXIT_OK, EXIT_REFUSED
from emergency_stop.domain.values import RecoveryPhase
from tests.integration.test_cli import Operator

pytestmark = pytest.mark.needs("broker", "chdb")

PROCEDURES = """
procedures:
  - name: quick
    checks: 2
    check_interval_ms: 200
    shares: [20, 100]
    soak_ms: 1000
    monitoring_ms: 1000
    preparation_timeout_ms: 10000
"""


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """The whole system with two working services, of which one needs the other, and a procedure of a few seconds."""
    file = tmp_path / "procedures.yaml"
    file.write_text(PROCEDURES)
    settings = Settings(
        data_dir=tmp_path, services=("antiDetectionManager", "sessionManager"), immediate_stop_timeout_ms=2_000,
        health_monitoring_interval_ms=1_000, procedures_file=file,
    )  # fmt: skip
    async with Stack(settings, lambda _text: None, embedded=True, accounts=3, rate=20) as running:
        yield running


async def test_an_operator_recovers_an_account_step_by_step(stack: Stack) -> None:
    operator = Operator(stack.settings)
    stopped = await operator.types("stop", "account:acc-000001", "--reason", "looks wrong", "--wait", "--json")
    assert stopped.code == EXIT_OK, stopped

    checked = await operator.types("check", "--json")
    assert checked.code == EXIT_OK, "the file of procedures is one"

    recovered = await operator.types(
        "recover", "account:acc-000001", "--reason", "it was nothing", "--procedure", "quick", "--by", "ann", "--json"
    )
    assert recovered.code == EXIT_OK, recovered
    recovery = recovered.document["recovery"]
    assert (recovery["outcome"], recovery["procedure"], recovery["started_by"]) == ("completed", "quick", "ann")
    phases = [
        line.split(", ")[1].split(" ")[0].split(":")[0] for line in recovered.err.splitlines() if "quick, " in line
    ]
    # The command reads the newest word alone, so a phase that is over at once may pass untold; none comes out of turn.
    told = list(dict.fromkeys(phases))
    assert told == [phase for phase in RecoveryPhase if phase in told], recovered.err
    assert {"gradual_restore", "monitoring"} <= set(told), recovered.err

    status = (await operator.types("status", "--json")).document
    assert [hold for hold in status["holds"] if hold["scope"] == "account:acc-000001" and hold["state"] == "held"] == []
    again = await operator.types("recover", "account:acc-000001", "--reason", "once more")
    assert again.code == EXIT_REFUSED
    assert "nothing holds account:acc-000001" in again.err
