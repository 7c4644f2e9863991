"""What ``estop recover`` asks for, says, and returns."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emergency_stop.control.cli.main import main
from emergency_stop.control.cli.recover import find_emergency, progress, report, why_not
from emergency_stop.control.errors import (
    EXIT_FAILED,
    EXIT_NOT_PROVEN,
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_UNAVAILABLE,
)
from emergency_stop.coordinate.holds import hold_of
from emergency_stop.coordinate.lifecycle import to_wire_emergency
from emergency_stop.domain.messages import AuditRecord, Emergency, Recovery, Share
from emergency_stop.domain.values import AckState, EmergencyState, RecoveryOutcome, RecoveryPhase
from tests.unit.coordinate.scenario import SCOPE, ack, after, command_to, hit, opened, request

STATE = after(opened(hit()), [request("r2")])
FIRST, SECOND = (to_wire_emergency(case) for case in STATE.cases)
HELD = hold_of(STATE, "", 0)
RECOVERY = Recovery(
    "rec", FIRST.emergency_id, SCOPE, "corr", 1, "standard_recovery", ("why",), RecoveryPhase.VALIDATION,
    RecoveryOutcome.UNDER_WAY, "ann", 0, 1, 2, (), "every check passed so far",
)  # fmt: skip


def found(target: str) -> Emergency | str:
    by_id = {one.emergency_id: one for one in (FIRST, SECOND)}
    return find_emergency(target, lambda scope: HELD if scope == SCOPE else None, by_id.get)


def test_a_scope_means_the_newest_emergency_that_holds_it_and_an_id_itself() -> None:
    assert found(SCOPE) == SECOND
    assert found(FIRST.emergency_id) == FIRST


@pytest.mark.parametrize(
    ("target", "why"), [("account:b", "nothing holds account:b"), ("e9", "'e9' is no scope and no emergency")]
)
def test_what_is_not_held_cannot_recover(target: str, why: str) -> None:
    assert why in str(found(target))


def test_a_stop_under_way_or_latched_is_refused_before_anybody_is_asked() -> None:
    stopped = after(opened(hit()), [])
    stopped = after(stopped, [ack(command_to(stopped.cases[0], name), AckState.STOPPED) for name in "xy"])
    emergency = to_wire_emergency(stopped.cases[0])
    assert emergency.state is EmergencyState.STOPPED
    assert why_not(emergency) == ""
    assert why_not(FIRST).endswith("is stopping; it must be stopped or partial")
    assert "latched after 3 failed recoveries" in why_not(replace(emergency, latched=True, failed_recoveries=3))


def test_progress_says_where_it_is() -> None:
    assert progress(RECOVERY) == "standard_recovery, validation (2 checks passed): every check passed so far"
    later = replace(RECOVERY, phase=RecoveryPhase.GRADUAL_RESTORE, shares=(Share("x", 10),), detail="admits 10 % of x")
    assert progress(later) == "standard_recovery, gradual_restore [x 10 %]: admits 10 % of x"


@pytest.mark.parametrize(
    ("outcome", "code", "said"),
    [
        (None, EXIT_NOT_PROVEN, "HAS NOT BEGUN: no coordinator has answered; the request is in the log and may still"),
        (RecoveryOutcome.UNDER_WAY, EXIT_NOT_PROVEN, "still under way"),
        (RecoveryOutcome.COMPLETED, EXIT_OK, "account:a has recovered"),
        (RecoveryOutcome.ROLLED_BACK, EXIT_FAILED, "HAS NOT RECOVERED: rolled_back in validation"),
        (RecoveryOutcome.ABANDONED, EXIT_FAILED, "HAS NOT RECOVERED: abandoned in validation"),
    ],
)
def test_only_a_completed_one_returns_0(
    outcome: RecoveryOutcome | None, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(FIRST, replace(RECOVERY, outcome=outcome) if outcome else None) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("action", "code"), [("recover_approved", EXIT_NOT_PROVEN), ("recovery_refused", EXIT_REFUSED)]
)
def test_where_none_began_it_passes_on_the_coordinator_s_word(
    action: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    word = AuditRecord("a", 1, "coordinator", action, "account:a", "1 of 2 people", "c", "", "")
    assert report(FIRST, None, word) == code
    assert "HAS NOT BEGUN: 1 of 2 people" in capsys.readouterr().err


def test_without_a_broker_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESTOP_BROKERS", "127.0.0.1:1")
    monkeypatch.setattr("emergency_stop.control.installation.READ_WITHIN_S", 0.2)
    assert main(["recover", SCOPE, "--reason", "x"]) == EXIT_UNAVAILABLE
