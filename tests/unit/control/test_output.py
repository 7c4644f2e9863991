"""What commands print: moments, durations, tables and documents."""

from __future__ import annotations

import json

import pytest

from emergency_stop.control.cli.output import ago, moment, show_json, show_table


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (-5, "0.0 s"),
        (0, "0.0 s"),
        (440, "0.4 s"),
        (9_999, "10.0 s"),
        (10_000, "10 s"),
        (119_999, "119 s"),
        (120_000, "2 min"),
        (7_199_999, "119 min"),
        (7_200_000, "2 h"),
        (431_999_999, "119 h"),
        (432_000_000, "5 d"),
    ],
)
def test_a_duration_is_told_in_the_unit_that_people_would_use(ms: int, text: str) -> None:
    assert ago(ms) == text


def test_a_moment_is_in_utc_to_the_millisecond() -> None:
    assert moment(1_700_000_000_123) == "2023-11-14T22:13:20.123Z"


def test_columns_are_as_wide_as_their_widest_cell_and_nothing_is_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("A", "LONGER"), [("wide cell", None), ("", 0)])
    assert capsys.readouterr().out.splitlines() == ["A          LONGER", "wide cell  -", "-          0"]


def test_a_document_keeps_what_json_has_no_type_for(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"signature": b"\x01\xff", "name": "José"})
    assert json.loads(capsys.readouterr().out) == {"signature": "01ff", "name": "José"}
