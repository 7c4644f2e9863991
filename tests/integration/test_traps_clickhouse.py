"""Traps of ClickHouse that lose rows in silence, each shown, and shown not to catch the sink."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.adapters.sink_ledger import FrozenRange, SinkLedger, StoredRange
from emergency_stop.apps.sink.blocks import BlockMaker
from emergency_stop.apps.sink.intake import Intake
from emergency_stop.apps.sink.ranges import Place
from emergency_stop.apps.sink.store import RangeInsert, Storing, freeze, plan_inserts, take_over
from emergency_stop.columnar.block import Block
from emergency_stop.columnar.container import container, row_from_body
from emergency_stop.wire.registry import LocalRegistry
from emergency_stop.wire.schemas import schemas_root
from tests.unit.columnar.test_bad_inputs import GOOD

pytestmark = pytest.mark.needs("chdb")

TOPIC = "telemetry.health"
TABLE = "health_events"
HERE = Place(TOPIC, 0)
TABLES = {TOPIC: TABLE}
SCHEMA = json.loads((schemas_root() / "avro" / "ids.json").read_text())["HealthEvent"]


@pytest.fixture
def database(tmp_path: Path, lay_tables: Callable[[Path, int], None]) -> Iterator[ClickHouse]:
    lay_tables(tmp_path, 3_650)
    database = ClickHouse(None, tmp_path)
    try:
        yield database
    finally:
        database.close()


def intake(first: int, following: int, partition: int = 0) -> Intake:
    made = Intake(TOPIC, partition, first, following)
    for offset in range(first, following):
        made.add(SCHEMA, row_from_body((TOPIC, partition), offset, 1_700_000_000_000, GOOD[5:]), 1)
    return made


def block(first: int, following: int, partition: int = 0) -> RangeInsert:
    (insert,) = plan_inserts(BlockMaker(LocalRegistry()), [intake(first, following, partition)], {TOPIC: "HealthEvent"})
    return insert


def rows_of(insert: RangeInsert) -> Block:
    assert insert.block is not None
    return insert.block


def store(database: ClickHouse, first: int, following: int, cluster: str = "main") -> None:
    Storing([block(first, following)], [intake(first, following)], cluster, late=lambda: False).run(database)


def counts(database: ClickHouse) -> tuple[int, int]:
    ((rows, unique),) = database.rows(f"SELECT count(), uniqExact(_topic, _partition, _offset) FROM {TABLE}")  # noqa: S608
    return int(rows), int(unique)


def test_a_reused_token_drops_other_rows_and_a_range_is_no_token_for_another(database: ClickHouse) -> None:
    database.insert_block(TABLE, rows_of(block(0, 10)), "one token")
    database.insert_block(TABLE, rows_of(block(10, 30)), "one token")
    assert counts(database) == (10, 10), "the trap: twenty rows are gone, and no error says so"
    store(database, 10, 30)
    store(database, 30, 35)
    assert counts(database) == (35, 35)
    tokens = {block(0, 10).token, block(0, 11).token, block(1, 11).token, block(0, 10, partition=1).token}
    assert len(tokens) == 4


def test_a_range_with_other_bounds_is_doubled_and_the_same_range_is_not(database: ClickHouse) -> None:
    store(database, 0, 10)
    store(database, 0, 10)
    assert counts(database) == (10, 10)
    store(database, 5, 15)
    assert counts(database) == (20, 15), "the trap: what was interrupted must be repeated with its own bounds"


def test_inserts_are_synchronous_whatever_the_server_prefers(database: ClickHouse) -> None:
    """An asynchronous insert is acknowledged before it is stored, and a repeated one may be stored twice."""
    database.command("SET async_insert = 1, wait_for_async_insert = 0")
    for first in range(0, 50, 10):
        store(database, first, first + 10)
        assert counts(database) == (first + 10, first + 10), "acknowledged, so it is there"
        store(database, first, first + 10)
    assert counts(database) == (50, 50)


def test_one_range_is_one_part_so_that_half_of_it_is_never_seen(database: ClickHouse) -> None:
    store(database, 0, 70_000)  # more than the rows that ClickHouse reads as one block by itself
    ((parts,),) = database.rows(f"SELECT count() FROM system.parts WHERE table = '{TABLE}' AND active")  # noqa: S608
    assert (int(parts), counts(database)) == (1, (70_000, 70_000))


def test_a_claim_that_is_newer_makes_the_former_owner_give_its_range_up(database: ClickHouse) -> None:
    ledger = SinkLedger(database, "main")
    former = take_over(database, "main", [HERE], "paused", TABLES)[HERE]
    latter = take_over(database, "main", [HERE], "newcomer", TABLES)[HERE]
    assert latter.claim > former.claim
    assert not freeze(ledger, [FrozenRange(*HERE, 0, 10, former.claim)])
    assert freeze(ledger, [FrozenRange(*HERE, 0, 15, latter.claim)])
    third = take_over(database, "main", [HERE], "third", TABLES)[HERE]
    assert [(one.first_offset, one.next_offset) for one in third.pending] == [(0, 15)]


def test_a_range_that_was_frozen_in_time_is_repeated_by_whoever_comes_next(database: ClickHouse) -> None:
    """And its first owner, which wakes up later, stores nothing twice."""
    ledger = SinkLedger(database, "main")
    former = take_over(database, "main", [HERE], "paused", TABLES)[HERE]
    assert freeze(ledger, [FrozenRange(*HERE, 0, 10, former.claim)])
    latter = take_over(database, "main", [HERE], "newcomer", TABLES)[HERE]
    assert [(one.first_offset, one.next_offset) for one in latter.pending] == [(0, 10)]
    store(database, 0, 10)
    store(database, 10, 25)
    store(database, 0, 10)  # the one that was paused
    assert counts(database) == (25, 25)


def test_a_range_is_the_same_insert_in_another_format(database: ClickHouse) -> None:
    """A sink of a former version, which wrote Avro, died in this range."""
    rows = container(BlockMaker(LocalRegistry()).container_schema(SCHEMA), 10, intake(0, 10).rows[SCHEMA])
    database.insert_block(TABLE, Block("Avro", rows), f"main:{block(0, 10).token}")
    assert rows_of(block(0, 10)).form == "Native"
    store(database, 0, 10)
    assert counts(database) == (10, 10)


def test_what_is_stored_is_not_pending_whether_or_not_it_was_recorded(database: ClickHouse) -> None:
    """Of a range with rows all is stored, also its last offsets that became none."""
    ledger = SinkLedger(database, "main")
    claim = take_over(database, "main", [HERE], "a", TABLES)[HERE].claim
    assert freeze(ledger, [FrozenRange(*HERE, 0, 12, claim)])  # two of them are dead letters
    database.insert_block(TABLE, rows_of(block(0, 10)), f"main:{block(0, 10).token}")
    after_rows = take_over(database, "main", [HERE], "b", TABLES)[HERE]
    assert (after_rows.position, after_rows.pending) == (12, ())
    ledger.record([StoredRange(*HERE, 12, 10, 2)])
    after_record = take_over(database, "main", [HERE], "c", TABLES)[HERE]
    assert (after_record.position, after_record.pending) == (12, ())


def test_rows_from_before_there_were_claims_are_not_read_again(database: ClickHouse) -> None:
    """An installation that is brought up to date after a crash between rows and position."""
    database.insert_block(TABLE, rows_of(block(0, 10)), "a former token")
    assert take_over(database, "main", [HERE], "a", TABLES)[HERE].position == 10
