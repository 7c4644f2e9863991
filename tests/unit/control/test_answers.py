"""What a request's exit code says: 0 done, 77 refused, and 75 while it may still be carried out."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

import pytest

from emergency_stop.control.cli import reset
from emergency_stop.control.cli.stop import report_call_off, report_resume
from emergency_stop.control.errors import EXIT_NOT_PROVEN, EXIT_OK, EXIT_REFUSED
from emergency_stop.coordinate.holds import hold_of
from emergency_stop.domain.messages import AuditRecord, Hold
from emergency_stop.domain.values import Action, HoldState
from tests.unit.coordinate.scenario import SCOPE, hit, opened, request, resume

PLAIN = Namespace(json=False)
HELD = hold_of(opened(hit()), "", 0)
RUNS = replace(HELD, epoch=HELD.epoch + 1, state=HoldState.RUNNING, causes=())
STILL = replace(HELD, epoch=HELD.epoch + 1)
MAY_STILL = "no coordinator has answered; the request is in the log and may still be carried out"


def word(action: str) -> AuditRecord:
    return AuditRecord("a", 1, "coordinator", action, SCOPE, "its word", "c")


@pytest.mark.parametrize(
    ("after", "action", "code", "said"),
    [
        (RUNS, "resumed", EXIT_OK, "runs again"),
        (RUNS, None, EXIT_OK, "runs again"),
        (HELD, "resume_refused", EXIT_REFUSED, "IS STILL HELD (epoch 1, 1 causes): its word"),
        (HELD, "request_refused", EXIT_REFUSED, "IS STILL HELD (epoch 1, 1 causes): its word"),
        (HELD, "resume_approved", EXIT_NOT_PROVEN, "your word is on record: its word"),
        (STILL, "resumed", EXIT_NOT_PROVEN, "IS STILL HELD (epoch 2, 1 causes); see estop emergencies"),
        (HELD, None, EXIT_NOT_PROVEN, f"IS STILL HELD (epoch 1, 1 causes); {MAY_STILL}"),
    ],
    ids=["lifted", "lifted by another", "refused", "not taken", "one of two people", "held by others", "unanswered"],
)
def test_a_resume(after: Hold, action: str | None, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = word(action) if action else None
    assert report_resume(PLAIN, resume("r", HELD.epoch), after, answer) == code
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("action", "code", "said"),
    [
        ("stop_called_off", EXIT_OK, "the planned stop is called off"),
        ("request_refused", EXIT_REFUSED, "NOT CALLED OFF: its word"),
        (None, EXIT_NOT_PROVEN, f"NOT CALLED OFF: {MAY_STILL}"),
    ],
)
def test_calling_off_a_plan(action: str | None, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert report_call_off(PLAIN, resume("r", None, "e"), word(action) if action else None) == code
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("action", "code", "said"),
    [
        ("reset", EXIT_OK, "is reset; it is still held"),
        ("request_refused", EXIT_REFUSED, "is not reset: its word"),
        (None, EXIT_NOT_PROVEN, f"is not reset: {MAY_STILL}"),
    ],
)
def test_a_reset(action: str | None, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert reset.report(PLAIN, request("r", Action.RESET), word(action) if action else None) == code
    told = capsys.readouterr()
    assert said in told.out + told.err
