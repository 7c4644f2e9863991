"""The sink's retry: the same work until the database takes it, and an end when it is told to stop."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.apps.sink.database_thread import DatabaseThread, StoppedError


def thread(retried: list[None]) -> DatabaseThread:
    return DatabaseThread(cast("ClickHouse", object()), lambda: retried.append(None))


def test_work_is_repeated_until_the_database_takes_it() -> None:
    attempts: list[Any] = []
    retried: list[None] = []

    def work(database: Any) -> str:
        attempts.append(database)
        if len(attempts) < 3:
            raise OSError("no connection")
        return "stored"

    async def scenario() -> tuple[str, bool]:
        database = thread(retried)
        return await database.until_done("store", work), database.answers

    assert asyncio.run(scenario()) == ("stored", True)
    assert (len(attempts), len(retried)) == (3, 2)


def test_a_stop_ends_the_retries() -> None:
    def refuse(database: Any) -> None:
        raise OSError("no connection")

    async def scenario() -> bool:
        database, stop = thread([]), asyncio.Event()
        database.told_to(stop)
        retrying = asyncio.create_task(database.until_done("store", refuse))
        asyncio.get_running_loop().call_later(0.05, stop.set)
        with pytest.raises(StoppedError, match="could not store"):
            await asyncio.wait_for(retrying, 5)
        return database.answers

    assert asyncio.run(scenario()) is False
