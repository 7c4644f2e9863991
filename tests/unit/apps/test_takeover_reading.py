"""What a coordinator reads of other coordinators' words before it takes a partition over, and how long it waits."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest

from emergency_stop.apps.coordinator import _Tails

WITHIN_S = 10.0


class FakeTail:
    """Reads up to the end when it may."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.was_asked = 0

    async def read_up(self) -> None:
        self.was_asked += 1
        await self.may_end.wait()


async def test_a_takeover_waits_until_both_books_are_read_to_their_ends() -> None:
    services, holds = FakeTail(), FakeTail()
    reading = asyncio.create_task(_Tails(cast("Any", (services, holds)), 3_600_000).read_up())
    services.may_end.set()
    await asyncio.wait({reading}, timeout=0.01)
    assert not reading.done()
    holds.may_end.set()
    await asyncio.wait_for(reading, WITHIN_S)
    assert (services.was_asked, holds.was_asked) == (1, 1)


async def test_stops_wait_no_longer_than_a_lease_for_a_topic_without_a_leader(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    await asyncio.wait_for(_Tails(cast("Any", (FakeTail(), FakeTail())), 10).read_up(), WITHIN_S)
    assert "taken over without" in caplog.text
