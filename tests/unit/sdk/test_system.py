"""What a program asks for: what cannot be sent is said at once, and a registry is waited for before it reads."""

from __future__ import annotations

import pytest

from emergency_stop.domain.texts import NAME_LENGTH_MAX, TEXT_LENGTH_MAX
from emergency_stop.domain.values import Action, StopLevel
from emergency_stop.sdk import EmergencyStopSystem, NotWrittenError, SystemStartError
from tests.unit.wire.falling_silent import FallingSilent

NOBODY = "127.0.0.1:9"


async def test_an_id_that_cannot_be_sent_is_refused_and_a_reason_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    system = EmergencyStopSystem(NOBODY, requested_by="n" * 5_000)
    with pytest.raises(ValueError, match=r"request_id='x.*' cannot be sent; allowed: at most 256 characters"):
        await system.manual_emergency_stop("global", "why", request_id="x" * 257)
    request = system._request(Action.STOP, "global", "w" * 5_000, StopLevel.IMMEDIATE, "r1", ("all",))
    assert (len(request.reason), len(request.requested_by)) == (TEXT_LENGTH_MAX, NAME_LENGTH_MAX)
    assert "the reason of request r1 was cut" in caplog.text


async def test_a_start_says_that_it_waits_for_the_registry() -> None:
    system = EmergencyStopSystem(NOBODY, registry=FallingSilent(is_away=True))
    with pytest.raises(SystemStartError, match=r"the schema of estop\.requests: the registry does not answer"):
        await system.start(within_ms=200)


async def test_a_request_that_the_registry_keeps_from_being_written_is_not_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def started() -> None:
        """The broker is there."""

    system = EmergencyStopSystem(NOBODY, registry=FallingSilent(is_away=True))
    monkeypatch.setattr(system._publisher, "start", started)
    with pytest.raises(NotWrittenError, match="the registry does not answer; ask again under the same id"):
        await system.manual_emergency_stop("global", "why")
