"""The demonstration keeps its promises: what README shows is what a newcomer sees."""

from __future__ import annotations

import json

import pytest

from emergency_stop.apps.demo import run_demo
from emergency_stop.config import Settings

pytestmark = pytest.mark.needs("chdb")


def test_a_short_demonstration_ends_as_promised(capfd: pytest.CaptureFixture[str]) -> None:
    run_demo(Settings.from_env({}), seconds=3.0)
    told, story = capfd.readouterr()
    # how fast it stops says more about the machine that runs the tests beside it; ``make bench-stop`` measures that
    broken = [line for line in story.splitlines() if line.startswith("NOT AS PROMISED") and "time to stop" not in line]
    assert not broken, story
    assert told, story
    assert json.loads(told.splitlines()[-1])["emergencies"] > 0
