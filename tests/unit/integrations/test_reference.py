"""What a reference service gives up when a stop comes: what is held for the accounts that the stop concerns."""

from __future__ import annotations

import pytest

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.domain.messages import Command
from emergency_stop.integrations.account_health_monitor import AccountHealthMonitor
from emergency_stop.integrations.reference import Operation
from emergency_stop.sdk import StopGuard
from emergency_stop.wire.codec import Codec
from emergency_stop.wire.registry import LocalRegistry
from tests.unit.sdk.scenario import command, held

ACCOUNTS = ("a", "b")


@pytest.mark.parametrize(
    ("ordered", "kept"),
    [
        pytest.param(command(scope="account:a"), ["b"], id="one account"),
        pytest.param(command(scope="account:z"), ["a", "b"], id="one that it does not work for"),
        pytest.param(command(scope="global"), [], id="everything"),
        pytest.param(None, [], id="asked without a command"),
    ],
)
async def test_it_releases_what_the_stop_concerns(ordered: Command | None, kept: list[str]) -> None:
    codec = Codec(LocalRegistry())
    guard = StopGuard(AccountHealthMonitor.service, "127.0.0.1:9")
    guard._gate.open()
    service = AccountHealthMonitor(guard, KafkaPublisher("127.0.0.1:9", client_id="unused"), codec, ACCOUNTS, 1.0)
    guard.handle_stops(service.emergency_stop)
    for account in ACCOUNTS:
        service.applied(account, Operation("fetch_metrics", 8))
        guard._gate.apply_hold(held(f"account:{account}"), trusted=True)
    if ordered is None:
        await service.emergency_stop("corr")
    else:
        await guard._outgoing.handle(ordered)
    assert sorted(service.measured_at) == kept
