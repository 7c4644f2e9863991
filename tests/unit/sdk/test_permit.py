"""Permits in real tasks: what enters, what is cancelled, and as what it comes out."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from emergency_stop.sdk.gate import Stopped
from emergency_stop.sdk.permit import Permit, PermitGate, finish
from tests.unit.sdk.scenario import GRACEFUL, IMMEDIATE, half_open, held


@pytest.fixture
async def gate() -> PermitGate:
    gate = PermitGate("sessionManager", lambda: 42)
    gate.loop = asyncio.get_running_loop()
    gate.open()
    return gate


def stop(gate: PermitGate, scope: str = "account:a") -> None:
    gate.apply_hold(held(scope, level=IMMEDIATE), trusted=True)
    gate.revoke(scope)


async def test_a_permit_counts_as_in_flight_until_its_end_and_notes_when_that_was(gate: PermitGate) -> None:
    async with Permit(gate, "a"):
        assert gate.in_flight("account:a") == gate.in_flight("global") == 1
        assert gate.in_flight("account:b") == 0
    assert gate.in_flight("global") == 0
    assert (gate.last_side_effect_at("account:a", 99), gate.last_side_effect_at("account:b", 99)) == (42, None)


async def test_a_plain_with_does_the_same(gate: PermitGate) -> None:
    with Permit(gate, "a"):
        assert gate.in_flight("account:a") == 1
    assert gate.in_flight("account:a") == 0
    stop(gate)
    with pytest.raises(Stopped), Permit(gate, "a"):
        pytest.fail("it must not get here")


async def test_an_error_in_the_action_comes_out_unchanged(gate: PermitGate) -> None:
    with pytest.raises(ZeroDivisionError):
        async with Permit(gate, "a"):
            _ = 1 / 0
    with pytest.raises(ZeroDivisionError), Permit(gate, "a"):
        _ = 1 / 0
    assert gate.in_flight("global") == 0


async def test_work_cancelled_by_a_stop_ends_as_stopped_and_its_task_lives_on(gate: PermitGate) -> None:
    async def work() -> str:
        try:
            async with Permit(gate, "a"):
                await asyncio.sleep(60)
        except Stopped as stopped:
            await asyncio.sleep(0)  # a task that is still being cancelled could not
            return stopped.reason
        return "went through"

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    stop(gate)
    assert await task == "held at 1"
    assert task.cancelling() == 0
    assert gate.revoked == {}


async def test_nested_permits_end_as_stopped_once(gate: PermitGate) -> None:
    async def work() -> None:
        async with Permit(gate, "a"), Permit(gate, None):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    stop(gate, "global")
    with pytest.raises(Stopped):
        await task
    assert gate.in_flight("global") == 0


async def test_a_cancellation_from_elsewhere_stays_one_even_beside_a_stop(gate: PermitGate) -> None:
    async def work() -> None:
        async with Permit(gate, "a"):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    stop(gate)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_only_the_stopped_account_is_cancelled(gate: PermitGate) -> None:
    async def work(account_id: str) -> str:
        async with Permit(gate, account_id):
            await asyncio.sleep(0.01)
        return account_id

    tasks = [asyncio.create_task(work(account_id)) for account_id in "ab"]
    await asyncio.sleep(0)
    stop(gate)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], Stopped)
    assert results[1] == "b"


async def test_what_must_be_finished_keeps_the_action_in_flight_through_cancellations(gate: PermitGate) -> None:
    sent: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        async with Permit(gate, "a"):
            await finish(sent)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    stop(gate)
    gate.revoke("account:a", again=True)
    await asyncio.wait([task], timeout=0.02)
    assert gate.in_flight("account:a") == 1, "the request is on the wire: nobody may say it has ended"
    sent.set_result("delivered")
    with pytest.raises(Stopped):
        await task
    assert gate.in_flight("account:a") == 0


async def test_finish_gives_the_result_and_the_error_of_the_work() -> None:
    async def fails() -> None:
        raise OSError("gone")

    assert await finish(asyncio.sleep(0, "value")) == "value"
    with pytest.raises(OSError, match="gone"):
        await finish(fails())


@pytest.mark.parametrize("scope", ["global", "account:a"])
async def test_a_lease_that_has_run_out_unnoticed_refuses_what_a_half_open_hold_admits(
    gate: PermitGate, scope: str
) -> None:
    """The lease's own timer may be late; the permit asks, whatever else it finds."""

    def lapsed() -> bool:
        gate.take_lease_away(GRACEFUL, "its lease has run out")
        return True

    gate.apply_hold(half_open(99, scope), trusted=True)
    for _ in range(2):  # of one account's attempts the first has no budget yet
        with contextlib.suppress(Stopped), Permit(gate, "a"):
            pass
    assert gate.permitted > 0
    gate.lapsed = lapsed
    with pytest.raises(Stopped, match="its lease has run out"), Permit(gate, "a"):
        pytest.fail("it must not get here")
