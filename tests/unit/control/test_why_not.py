"""What ``estop why-not`` says where a trigger has no window of the account."""

from __future__ import annotations

from typing import Any

import pytest

from emergency_stop.control.cli.why_not import _absence
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.definitions import read_trigger


def trigger(name: str, **more: Any) -> Trigger:
    definition = {
        "trigger_id": name, "name": name, "trigger_type": "health_score_critical", "thresholds": {"healthScore": 30},
        "time_window": 60_000, "cooldown_period": 0, "stop_level": "graceful", "priority": 1, **more,
    }  # fmt: skip
    return read_trigger(definition, services=())


@pytest.mark.parametrize(
    ("asked", "account", "words"),
    [
        ("base", "acc-1", "no event of the account"),
        ("base", "acc-7", "'estop why-not own acc-7'"),
        ("new", "acc-1", "not among the 10 %"),
    ],
)
def test_who_watches_the_account_instead_is_named(asked: str, account: str, words: str) -> None:
    known = {
        one.trigger_id: one
        for one in (
            trigger("base"),
            trigger("own", account_id="acc-7", overrides="base"),
            trigger("new", canary_percent=10),
        )
    }
    (reason,) = _absence(known[asked], known, account)
    assert words in reason
