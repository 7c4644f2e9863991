"""What a coordinator says at start of settings that do not go together."""

from __future__ import annotations

import pytest

from emergency_stop.apps.coordinator import _compare_with_takeover
from emergency_stop.config import Settings


@pytest.mark.parametrize(
    ("settings", "is_warned"),
    [
        (Settings(), False),
        (Settings(lease_ms=19_999), True),
        (Settings(lease_ms=20_000), False),
        (Settings(session_timeout_ms=12_000), True),
        (Settings(session_timeout_ms=2_000, lease_ms=12_000), False),
    ],
)
def test_a_lease_that_a_takeover_outlasts_is_warned_of(
    settings: Settings, is_warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    _compare_with_takeover(settings)
    assert ("ESTOP_LEASE=" in caplog.text) == is_warned
