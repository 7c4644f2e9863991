"""The coordinator's recoveries and the SDK's gate, together: what is recovered is open, and all else is shut."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from emergency_stop.domain.values import AckState, RecoveryOutcome
from tests.simulation.recovery_faults import Fault, Plan
from tests.simulation.recovery_with_sdk import SdkWorld

SEED = 20_261_125
RECOVERIES = 40
ROLLBACKS = 10


def played(seed: int, fault: Fault) -> SdkWorld:
    world = SdkWorld(seed, Plan.drawn(random.Random(f"plan {seed} {fault}"), fault))
    world.run()
    world.settle()
    assert world.oddities == [], f"seed {seed}, {fault}"
    return world


def test_whoever_is_well_is_let_in_share_by_share_and_is_open_in_the_end() -> None:
    admitted: Counter[int] = Counter()
    for seed in range(SEED, SEED + RECOVERIES):
        world = played(seed, Fault.NONE)
        told = world.published.recovery
        assert told is not None, f"seed {seed}"
        assert told.outcome is RecoveryOutcome.COMPLETED, f"seed {seed}: {told.detail}"
        assert {guard.gate.percent_of(world.scope) for guard in world.guards} == {100}, f"seed {seed}"
        assert world.told[AckState.READY] > 0
        assert world.told[AckState.REFUSED] == 0, f"seed {seed}"
        admitted += world.admitted
    partly = {share: times for share, times in admitted.items() if 0 < share < 100}
    assert len(partly) >= 2, f"several shares were in force: {admitted}"
    assert admitted[0] > 0


@pytest.mark.parametrize(
    "fault", [Fault.REFUSED_PROBE, Fault.UNHEALTHY, Fault.ANEW, Fault.FAILING, Fault.HIT, Fault.NEWER_STOP]
)
def test_whatever_fails_is_shut_again_at_every_instance(fault: Fault) -> None:
    for seed in range(SEED, SEED + ROLLBACKS):
        world = played(seed, fault)
        told = world.published.recovery
        assert told is not None, f"seed {seed}"
        assert told.outcome in (RecoveryOutcome.ROLLED_BACK, RecoveryOutcome.ABANDONED), f"seed {seed}: {told.detail}"
        concerned = [
            guard for guard in world.guards if world.scope in ("account:a", "global", f"service:{guard.service}")
        ]
        assert {guard.gate.percent_of(world.scope) for guard in concerned} == {0}, f"seed {seed}"
