"""Requests as commands and programs make them: what is too long is cut at once, and said."""

from __future__ import annotations

import argparse

import pytest

from emergency_stop.control.cli.asking import request_of
from emergency_stop.domain.texts import NAME_LENGTH_MAX, TEXT_LENGTH_MAX
from emergency_stop.domain.values import Action, StopLevel


@pytest.mark.parametrize(
    ("reason", "sent"), [("looks wrong", "looks wrong"), ("a file named \udcff", "a file named \\udcff")]
)
def test_a_reason_goes_out_as_it_is_or_as_it_can_be_sent(
    reason: str, sent: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = argparse.Namespace(reason=reason, by="ann")
    request = request_of(options, Action.STOP, "global", level=StopLevel.GRACEFUL, services=())
    assert (request.reason, request.requested_by) == (sent, "ann")
    assert ("--reason has" in "".join(capsys.readouterr())) == (reason != sent)


def test_a_reason_that_is_too_long_is_cut_and_the_stop_goes_out(capsys: pytest.CaptureFixture[str]) -> None:
    options = argparse.Namespace(reason="w" * 5_000, by="n" * 5_000)
    request = request_of(options, Action.STOP, "global", level=StopLevel.GRACEFUL, services=())
    assert (len(request.reason), len(request.requested_by)) == (TEXT_LENGTH_MAX, NAME_LENGTH_MAX)
    said = "".join(capsys.readouterr())
    assert "--reason has 5000 characters, allowed are at most 1000 that UTF-8 can carry; it goes out as: www" in said
