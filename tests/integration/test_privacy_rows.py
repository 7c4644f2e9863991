"""An account's rows: all of its own, in whatever table, and none of an account whose id only looks like it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.control.privacy import rows as module
from emergency_stop.control.privacy.rows import count_rows, delete_rows, quoted, read_rows, tables_of

pytestmark = pytest.mark.needs("chdb")

#: What could be mistaken for one another, and what a careless literal would not survive.
ACCOUNTS = ("acc-1", "acc-10", "acc-1 ", "xacc-1", "o'brien", "o\\'brien", "a%b_c", "größe", "x" * 100)
PLACE = "'t', 0, {0}, fromUnixTimestamp64Milli(toInt64(1700000000000 + {0}), 'UTC')"


@pytest.fixture
def database(tmp_path: Path, lay_tables: Callable[[Path, int], None]) -> Iterator[ClickHouse]:
    lay_tables(tmp_path, 3_650)
    database = ClickHouse(None, tmp_path)
    try:
        yield database
    finally:
        database.close()


def insert(database: ClickHouse, table: str, offset: int, **columns: str) -> None:
    values = ", ".join([PLACE.format(offset), *(quoted(value) for value in columns.values())])
    names = ", ".join(("_topic", "_partition", "_offset", "_timestamp", *columns))
    database.command(f"INSERT INTO {table} ({names}) VALUES ({values})")  # noqa: S608  (the test's own words)


def tables(database: ClickHouse, account: str, *, audit: bool = False) -> dict[str, int]:
    found = {one.table: count_rows(database.rows, one) for one in tables_of(database.rows, account, audit=audit)}
    return {table: count for table, count in found.items() if count}


def test_each_account_has_its_own_rows_and_nobody_else_s(database: ClickHouse) -> None:
    own = {"health_events": 1, "holds": 1, "hits": 1}
    for number, account in enumerate(ACCOUNTS):
        insert(database, "health_events", number, account_id=account)
        insert(database, "holds", number, scope=f"account:{account}")
        insert(database, "hits", number, scope="global", account_id=account)
        insert(database, "audit", number, subject=f"account:{account}")
    for account in ACCOUNTS:
        assert tables(database, account) == own, account
        assert tables(database, account, audit=True) == own | {"audit": 1}, account
    for done, account in enumerate(ACCOUNTS, start=1):
        for one in tables_of(database.rows, account, audit=False):
            assert delete_rows(database, one) == (1 if one.table in own else 0)
            assert delete_rows(database, one) == 0, "repeating it finds nothing"
        assert tables(database, account, audit=True) == {"audit": 1}
        assert all(tables(database, other) == own for other in ACCOUNTS[done:])


def test_a_table_of_a_later_migration_is_not_forgotten(database: ClickHouse) -> None:
    database.command(
        "CREATE TABLE later (_topic String, _partition UInt32, _offset Int64, account_id String) ENGINE = MergeTree"
        " ORDER BY account_id"
    )
    database.command("INSERT INTO later VALUES ('t', 0, 1, 'acc-1'), ('t', 0, 2, 'acc-2')")
    assert tables(database, "acc-1") == {"later": 1}


@pytest.mark.parametrize(
    ("key", "value", "whose"),
    [
        ("acc-1", "anything", {"acc-1"}),
        (" acc-1 ", "anything", {"acc-1"}),
        ("account:acc-1", "anything", {"acc-1"}),
        ("", "\0\0\0\0i\x02x\x0aacc-1\x00", {"acc-1"}),
        ("", "\0\0\0\0i\x02x\x0cacc-10\x00", {"acc-10"}),
        ("", "\x1aaccount:acc-1", {"acc-1"}),
        ("", '{"account_id": "acc-1"}', {"acc-1"}),
        ("", '{"account_id": "acc-10"}', {"acc-10"}),
        ("", "\xc8\x01" + "x" * 100, {"x" * 100}),
        ("acc-2", "nobody", set()),
    ],
)
def test_a_dead_letter_is_an_account_s_by_its_key_or_by_a_text_in_its_value(
    database: ClickHouse, key: str, value: str, whose: set[str]
) -> None:
    database.insert_rows(
        "dead_letters",
        ("_topic", "_partition", "_offset", "_timestamp", "key", "value"),
        [("d", 0, 1, datetime.now(UTC), key.encode("latin-1"), value.encode("latin-1"))],
        "one",
    )
    found = {account for account in ("acc-1", "acc-10", "x" * 100) if tables(database, account) == {"dead_letters": 1}}
    assert found == whose


def test_rows_are_read_once_each_a_page_at_a_time(database: ClickHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAGE_ROWS", 3)
    for number in range(8):
        for _ in range(2):  # a repeated range
            insert(database, "platform_events", number, account_id="acc-1", detail=f"de'tail {number}")
    (one,) = [one for one in tables_of(database.rows, "acc-1", audit=False) if one.table == "platform_events"]
    read = list(read_rows(database.rows, one))
    assert [row["detail"] for row in read] == [f"de'tail {number}" for number in range(8)]
    assert read[0]["correlation_id"] is None
    assert read[0]["_timestamp"] == "2023-11-14 22:13:20.000"
    assert json.loads(json.dumps(read)) == read
    assert count_rows(database.rows, one) >= 8


def test_bytes_are_told_as_hexadecimal_digits(database: ClickHouse) -> None:
    database.command(
        "INSERT INTO holds (_topic, _partition, _offset, scope, signature)"
        " VALUES ('t', 0, 1, 'account:a', unhex('FF00'))"
    )
    (one,) = [one for one in tables_of(database.rows, "a", audit=False) if one.table == "holds"]
    assert [row["signature"] for row in read_rows(database.rows, one)] == ["FF00"]
