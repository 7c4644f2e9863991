"""The machines, row by row, and their published diagrams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emergency_stop.coordinate.diagrams import documents
from emergency_stop.coordinate.tables import (
    EMERGENCY,
    HOLD,
    IN_FORCE,
    INSTANCE,
    RECOVERY,
    IllegalTransitionError,
    InstanceEvent,
    Machine,
    Phase,
)

#           received  stopping  stopped   failed    left      lost      silent    anew      resume    resumed   refused
INSTANCE_ROWS = """
pending     received  stopping  stopped   failed    stopped   unknown   unknown   pending   resuming  -         -
received    received  stopping  stopped   failed    stopped   unknown   unknown   pending   resuming  -         -
stopping    stopping  stopping  stopped   failed    stopped   unknown   unknown   pending   resuming  -         -
unknown     received  stopping  stopped   failed    stopped   unknown   unknown   pending   resuming  -         -
stopped     stopped   stopped   stopped   failed    stopped   stopped   stopped   pending   resuming  -         -
failed      failed    failed    stopped   failed    stopped   failed    failed    -         resuming  -         -
resuming    resuming  resuming  resuming  resuming  resuming  resuming  resuming  -         -         resumed   refused
resumed     resumed   resumed   resumed   resumed   resumed   resumed   resumed   -         -         resumed   resumed
refused     refused   refused   refused   refused   refused   refused   refused   -         -         resumed   refused
"""
INSTANCE_EVENTS = "received stopping stopped failed left lost silent anew resume resumed refused".split()

#          begin  cancel   admit    proven  deadline  doubt   recover   roll_back resume     release  confirmed super.
EMERGENCY_ROWS = """
scheduled  queued resolved -        -       -         -       -         -         -          -        -         -
queued     -      -        stopping -       -         -       -         -         recovering resolved -         -
stopping   -      -        -        stopped escalated -       -         -         recovering resolved -         -
escalated  -      -        -        stopped partial   -       -         -         recovering resolved -         -
stopped    -      -        -        -       -         partial restoring -         recovering resolved -         -
partial    -      -        -        stopped -         -       restoring -         recovering resolved -         -
restoring  -      -        -        stopped -         partial -         stopping  recovering resolved -         -
recovering -      -        -        -       resolved  -       -         stopping  -          -        resolved  resolved
resolved   -      -        -        -       -         -       -         -         -          -        -         -
"""
EMERGENCY_EVENTS = (
    "begin cancel admit proven deadline doubt recover roll_back resume release confirmed superseded".split()
)

#              cause_added  cause_raised  cause_eased  cause_cleared  last_cause_cleared
HOLD_ROWS = """
running        held         -             -            -              -
held           held         held          held         held           running
"""
HOLD_EVENTS = "cause_added cause_raised cause_eased cause_cleared last_cause_cleared".split()

#               validated   admit           clear        confirmed  released  endured   fail        abandon
RECOVERY_ROWS = """
validation      preparation -               -            -          -         -         rolled_back abandoned
preparation     -           gradual_restore full_restore -          -         -         rolled_back abandoned
gradual_restore -           gradual_restore full_restore -          -         -         rolled_back abandoned
full_restore    -           -               -            monitoring completed -         rolled_back abandoned
monitoring      -           -               -            -          -         completed rolled_back abandoned
completed       -           -               -            -          -         -         -           -
rolled_back     -           -               -            -          -         -         -           -
abandoned       -           -               -            -          -         -         -           -
"""
RECOVERY_EVENTS = "validated admit clear confirmed released endured fail abandon".split()


@pytest.mark.parametrize(
    ("machine", "events", "rows"),
    [
        (INSTANCE, INSTANCE_EVENTS, INSTANCE_ROWS),
        (EMERGENCY, EMERGENCY_EVENTS, EMERGENCY_ROWS),
        (HOLD, HOLD_EVENTS, HOLD_ROWS),
        (RECOVERY, RECOVERY_EVENTS, RECOVERY_ROWS),
    ],
    ids=["instance", "emergency", "hold", "recovery"],
)
def test_machine_is_exactly_this_table(machine: Machine[Any, Any], events: list[str], rows: str) -> None:
    states = [line.split() for line in rows.strip().splitlines()]
    expected = {
        (state, event): following
        for state, *row in states
        for event, following in zip(events, row, strict=True)
        if following != "-"
    }
    assert {(str(s), str(e)): str(f) for (s, e), f in machine.table.items()} == expected


def test_illegal_pair_raises_and_names_all_three() -> None:
    with pytest.raises(IllegalTransitionError, match="instance in state 'stopped' has no transition for 'resumed'"):
        INSTANCE.next(INSTANCE.table[INSTANCE.initial, InstanceEvent.STOPPED], InstanceEvent.RESUMED)


def test_whatever_holds_can_be_resumed_and_released() -> None:
    resumable = {state for state, event in EMERGENCY.table if event == "resume"}
    assert resumable == IN_FORCE == set(Phase) - {Phase.SCHEDULED, Phase.RECOVERING, Phase.RESOLVED}


def test_published_diagrams_are_those_of_the_tables() -> None:
    """Run ``python docs/state-machines/generate.py`` after a change of the tables."""
    folder = Path(__file__).parents[3] / "docs" / "state-machines"
    assert {path.name: path.read_text() for path in folder.glob("*.md")} == dict(documents())
