"""One flush at a time: the next begins when the former has ended, and not at all when that went wrong."""

from __future__ import annotations

import asyncio

import pytest

from emergency_stop.apps.sink.in_flight import InFlight

WITHIN_S = 10


class Flushes:
    """Flushes that end when they are let go, and what they did, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.begun = asyncio.Event()
        self.gates: dict[str, asyncio.Event] = {}

    async def one(self, name: str, error: Exception | None = None) -> None:
        gate = self.gates.setdefault(name, asyncio.Event())
        self.told.append(f"{name} begins")
        self.begun.set()
        await gate.wait()
        if error is not None:
            raise error
        self.told.append(f"{name} ends")

    def let_go(self, name: str) -> None:
        self.gates.setdefault(name, asyncio.Event()).set()


def test_what_began_it_goes_on_while_it_runs() -> None:
    async def scenario() -> list[str]:
        flushes, flight = Flushes(), InFlight()
        await flight.begin(flushes.one("a"))
        assert flight.running
        await asyncio.wait_for(flushes.begun.wait(), WITHIN_S)
        flushes.told.append("taken in")
        flushes.let_go("a")
        await flight.ended()
        assert not flight.running
        return flushes.told

    assert asyncio.run(scenario()) == ["a begins", "taken in", "a ends"]


def test_the_next_begins_when_the_former_has_ended() -> None:
    async def scenario() -> list[str]:
        flushes, flight = Flushes(), InFlight()
        await flight.begin(flushes.one("a"))
        await asyncio.wait_for(flushes.begun.wait(), WITHIN_S)
        following = asyncio.create_task(flight.begin(flushes.one("b")))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not following.done()
        flushes.let_go("a")
        flushes.let_go("b")
        await following
        await flight.ended()
        return flushes.told

    assert asyncio.run(scenario()) == ["a begins", "a ends", "b begins", "b ends"]


def test_after_one_that_went_wrong_none_begins() -> None:
    """Its range may be stored or not: the next one's would be frozen without knowing."""

    async def scenario() -> list[str]:
        flushes, flight = Flushes(), InFlight()
        flushes.let_go("a")
        await flight.begin(flushes.one("a", OSError("no connection")))
        with pytest.raises(OSError, match="no connection"):
            await flight.begin(flushes.one("b"))
        await flight.ended()
        return flushes.told

    assert asyncio.run(scenario()) == ["a begins"]


def test_what_is_given_up_is_over_when_that_returns() -> None:
    async def scenario() -> list[str]:
        flushes, flight = Flushes(), InFlight()
        await flight.abandon()
        await flight.begin(flushes.one("a"))
        await asyncio.wait_for(flushes.begun.wait(), WITHIN_S)
        await flight.abandon()
        assert not flight.running
        await flight.ended()
        return flushes.told

    assert asyncio.run(scenario()) == ["a begins"]
