"""What a reference service gives up when a stop comes: what is held for the accounts that the stop concerns."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import KafkaTimeoutError

from emergency_stop.adapters.kafka import KafkaPublisher
from emergency_stop.domain.messages import Command
from emergency_stop.domain.topics import ACTIVITY
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


class Takes:
    """A publisher that takes what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.fails = False
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def publish(self, *_: object, **__: object) -> None:
        self.asked.set()
        await self.may_answer.wait()
        if self.fails:
            raise KafkaTimeoutError

    async def publish_all(self, *_: object, **__: object) -> None:
        raise AssertionError("activity is written one by one")

    async def append(self, *_: object, **__: object) -> list[int]:
        raise AssertionError("nobody asks where activity lies")


@pytest.fixture
async def takes() -> Takes:
    return Takes()


@pytest.fixture
async def service(takes: Takes) -> AccountHealthMonitor:
    guard = StopGuard(AccountHealthMonitor.service, "127.0.0.1:9", instance_id="i1")
    guard._gate.loop = asyncio.get_running_loop()
    guard._gate.open()
    return AccountHealthMonitor(guard, takes, Codec(LocalRegistry()), ACCOUNTS, 1_000.0)


FETCH = Operation("fetch_metrics", 0)
STATE = f"{ACTIVITY}/accountHealthMonitor/i1"
OTHERS = f"{ACTIVITY}/accountHealthMonitor/i2@0"


async def test_saved_state_is_good_when_the_broker_has_every_record_up_to_it(
    service: AccountHealthMonitor, takes: Takes
) -> None:
    await service.act("a", FETCH)
    assert await service.save_state("corr") == f"{STATE}@1"
    assert service.verify_state(f"{STATE}@1")
    takes.may_answer.clear()
    takes.asked.clear()
    acting = asyncio.create_task(service.act("b", FETCH))
    await takes.asked.wait()
    saving = asyncio.create_task(service.save_state("corr"))
    await asyncio.sleep(0)
    assert not saving.done(), "what is on its way belongs to the state"
    assert not service.verify_state(f"{STATE}@2"), "the second record is still on its way"
    assert service.verify_state(f"{STATE}@1")
    takes.may_answer.set()
    await acting
    assert await saving == f"{STATE}@2"
    assert service.verify_state(f"{STATE}@2")
    takes.fails = True
    with pytest.raises(KafkaTimeoutError):
        await service.act("a", FETCH)
    assert not service.verify_state(f"{STATE}@3"), "the third never came"
    assert service.verify_state(f"{STATE}@2")


@pytest.mark.parametrize("reference", ["", "@0", f"{STATE}@x", f"{STATE}@7", OTHERS])
async def test_what_is_no_state_of_the_instance_is_not_good(service: AccountHealthMonitor, reference: str) -> None:
    assert not service.verify_state(reference)


async def test_a_service_whose_activity_nobody_can_see_says_so_until_it_is_seen_again(
    service: AccountHealthMonitor, takes: Takes
) -> None:
    takes.fails = True
    assert await after_an_action_of(service, takes) == "the broker takes no record of its activity: KafkaTimeoutError()"
    takes.fails = False
    assert await after_an_action_of(service, takes) == ""


async def after_an_action_of(service: AccountHealthMonitor, takes: Takes) -> str:
    """What the service says of itself when it has acted once more and is about to act again."""
    work = asyncio.create_task(service.run())
    async with asyncio.timeout(20):
        for _ in range(2 * len(ACCOUNTS)):
            takes.asked.clear()
            await takes.asked.wait()
    problem = service.health()
    work.cancel()
    await asyncio.wait([work])
    return problem
