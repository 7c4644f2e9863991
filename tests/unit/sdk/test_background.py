"""The guard's own tasks: what ends one, and who hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from emergency_stop.sdk.background import is_told_to_end, watched

WITHIN_S = 10.0


async def cancels_its_own_worker() -> None:
    """As a service's handler may: what it raises is not about the task that called it."""
    worker = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    worker.cancel()
    await worker


async def fails() -> None:
    raise OSError("broken")


async def ends() -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("work", "problems"),
    [
        (cancels_its_own_worker, ["CancelledError: cancelled, though nobody told it to end"]),
        (fails, ["OSError: broken"]),
        (ends, []),
    ],
)
async def test_an_end_that_nobody_wanted_is_told(
    work: Callable[[], Coroutine[None, None, None]], problems: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    told = [f"the work ended unexpectedly ({problem})" for problem in problems]
    failures: list[str] = []
    task = watched(work(), "the work", failures.append)
    await asyncio.wait({task}, timeout=WITHIN_S)
    await asyncio.sleep(0)
    assert failures == told
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == told


async def test_an_end_that_somebody_ordered_is_not() -> None:
    failures: list[str] = []

    async def waits() -> None:
        await asyncio.Event().wait()

    task = watched(waits(), "the work", failures.append)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=WITHIN_S)
    await asyncio.sleep(0)
    assert failures == []


async def test_whether_the_task_itself_is_told_to_end() -> None:
    said: list[bool] = []

    async def asks() -> None:
        try:
            await cancels_its_own_worker()
        except asyncio.CancelledError:
            said.append(is_told_to_end())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            said.append(is_told_to_end())
            raise

    task = asyncio.create_task(asks())
    async with asyncio.timeout(WITHIN_S):
        while not said:  # noqa: ASYNC110  # whatever a test waits for
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=WITHIN_S)
    assert said == [False, True]
