"""How a flush goes on after the database failed: nothing twice, nothing left out."""

from __future__ import annotations

from typing import cast

import pytest

from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.apps.sink.intake import Intake
from emergency_stop.apps.sink.store import RangeInsert, Storing
from emergency_stop.columnar.block import Block


class Forgetful:
    """A database that stores, and may lose its answer; it knows no token."""

    def __init__(self) -> None:
        self.stored: list[tuple[str, int]] = []
        self.tokens: list[str] = []
        self.positions = 0
        self.looks = 0
        self.fail_after: set[int] = set()
        self.fail_before: set[int] = set()

    def insert_block(self, table: str, block: Block, token: str) -> None:
        first = int(block.data)
        if first in self.fail_before:
            self.fail_before.discard(first)
            raise OSError("no connection")
        self.stored.append((table, first))
        self.tokens.append(token)
        if first in self.fail_after:
            self.fail_after.discard(first)
            raise OSError("no answer")

    def has_rows(self, table: str, topic: str, partition: int, first: int, following: int) -> bool:
        self.looks += 1
        return (table, first) in self.stored

    def insert_json(self, table: str, rows: list[dict[str, object]], token: str) -> None:
        assert table == "sink_positions"
        self.positions += 1


def storing(*, late: bool = False) -> Storing:
    inserts = [
        RangeInsert("t", "topic", 0, first, first + 10, 10, Block("Native", str(first).encode()))
        for first in (0, 10, 20)
    ]
    return Storing(inserts, [Intake("topic", 0, 0, 30)], "main", late=lambda: late)


def run(flush: Storing, database: Forgetful) -> None:
    flush.run(cast("ClickHouse", database))


def test_a_flush_without_trouble_asks_nothing() -> None:
    database = Forgetful()
    run(storing(), database)
    assert database.stored == [("t", 0), ("t", 10), ("t", 20)]
    assert database.tokens[0] == "main:t:topic:0:0-9"
    assert (database.positions, database.looks) == (1, 0)


@pytest.mark.parametrize("lost", [0, 10, 20])
def test_a_range_whose_answer_was_lost_is_found_even_when_its_token_is_forgotten(lost: int) -> None:
    database, flush = Forgetful(), storing()
    database.fail_after = {lost}
    with pytest.raises(OSError, match="no answer"):
        run(flush, database)
    assert database.positions == 0
    run(flush, database)
    assert database.stored == [("t", 0), ("t", 10), ("t", 20)]
    assert (database.positions, database.looks) == (1, 1)


def test_a_range_that_was_not_stored_is_inserted_with_the_same_token() -> None:
    database, flush = Forgetful(), storing()
    database.fail_before = {10}
    with pytest.raises(OSError, match="no connection"):
        run(flush, database)
    run(flush, database)
    assert database.stored == [("t", 0), ("t", 10), ("t", 20)]
    assert database.tokens[1] == "main:t:topic:0:10-19"


def test_ranges_that_waited_long_are_looked_for_first() -> None:
    """A sink that was paused after it froze: somebody else may have stored its ranges."""
    database = Forgetful()
    database.stored = [("t", 10)]
    run(storing(late=True), database)
    assert sorted(database.stored) == [("t", 0), ("t", 10), ("t", 20)]
    assert database.looks == 3
