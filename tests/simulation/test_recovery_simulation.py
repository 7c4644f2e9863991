"""Recoveries under seeded faults, and that the judge finds bugs planted on purpose.

A failing emergency names its seed and fault: ``tests.simulation.recovery.play`` plays it again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emergency_stop.coordinate import recovery_phases, recovery_restore, recovery_rollback
from emergency_stop.coordinate.recovery_records import to_wire_recovery
from emergency_stop.coordinate.tables import EMERGENCY, EmergencyEvent
from tests.simulation.recovery import campaign, play, summary
from tests.simulation.recovery_faults import Fault

SEED = 20_260_701
EMERGENCIES = 1_000


def test_whoever_is_well_recovers_and_whoever_is_not_is_stopped_again() -> None:
    verdicts = campaign(SEED, EMERGENCIES)
    assert [one for one in verdicts if one.problem or one.half_open] == []
    assert summary(verdicts, SEED) == {
        "emergencies": 2 * EMERGENCIES,
        "recovered": EMERGENCIES,
        "rolled_back": EMERGENCIES,
        "half_open": 0,
        "seed": SEED,
    }


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
