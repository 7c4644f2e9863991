"""Recoveries under seeded faults, and that the judge finds bugs planted on purpose.

A failing emergency names its seed and fault: ``tests.simulation.recovery_verdicts.play`` plays it again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emergency_stop.coordinate import recovery_phases, recovery_restore, recovery_rollback
from emergency_stop.coordinate.recovery_records import to_wire_recovery
from emergency_stop.coordinate.tables import EMERGENCY, EmergencyEvent
from emergency_stop.sdk import gate
from emergency_stop.sdk.shares import Budgets
from tests.simulation.recovery import campaign, summary
from tests.simulation.recovery_faults import Fault
from tests.simulation.recovery_verdicts import SDK_FAULTS, play, play_with_sdk

SEED = 20_260_701
#: Of each of the two; `make simulate-recovery` plays a thousand.
EMERGENCIES = 400


def test_whoever_is_well_recovers_and_whoever_is_not_is_stopped_again() -> None:
    verdicts = campaign(SEED, EMERGENCIES)
    assert [one for one in verdicts if one.is_bad] == []
    assert summary(verdicts, SEED) == {
        "emergencies": 2 * EMERGENCIES,
        "recovered": EMERGENCIES,
        "rolled_back": EMERGENCIES,
        "half_open": 0,
        "seed": SEED,
    }


@pytest.mark.parametrize("fault", [Fault.NONE, *SDK_FAULTS])
def test_with_the_sdks_gates_it_ends_alike(fault: Fault) -> None:
    verdict = play_with_sdk(SEED, fault)
    assert not verdict.is_bad, verdict


def test_a_gate_that_takes_any_share_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def whatever(_: Any, __: Any, percent: int) -> bool:
        return percent > 0

    monkeypatch.setattr(Budgets, "take", whatever)
    monkeypatch.setattr(gate, "cohort_of", lambda _: 0)
    assert any(play_with_sdk(SEED + number, Fault.NONE).problem for number in range(20))


def _sees_nothing(*_: Any) -> str:
    return ""


@pytest.mark.parametrize(
    # who sees nothing                                 what then passes
    ("modules", "name", "fault"),
    [
        ((recovery_phases, recovery_restore), "refused", Fault.REFUSED_PROBE),
        ((recovery_restore,), "failing", Fault.FAILING),
        ((recovery_restore,), "began_anew", Fault.ANEW),
        ((recovery_phases, recovery_restore), "doubt", Fault.WIDER_HOLD),
    ],
)
def test_a_blind_check_is_caught(
    modules: tuple[Any, ...], name: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in modules:
        monkeypatch.setattr(module, name, _sees_nothing)
    assert any(play(SEED + number, fault).problem for number in range(20))


def test_a_rollback_that_forgets_the_hold_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_if_nothing_ran(state: Any, case: Any, now_ms: int, world: Any, **_: Any) -> Any:
        event = EmergencyEvent.CONFIRMED if case.phase.value == "recovering" else EmergencyEvent.PROVEN
        case = replace(case, phase=EMERGENCY.next(case.phase, event))
        return state.with_case(case), [to_wire_recovery(case)]

    monkeypatch.setattr(recovery_rollback, "_held_again", as_if_nothing_ran)
    assert any(play(SEED + number, Fault.FAILING).half_open for number in range(20))
