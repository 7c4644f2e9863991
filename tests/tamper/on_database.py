"""Tampering with ClickHouse's tables, as somebody with its password would; each is undone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.wire.audit_rows import row_columns

TABLES: Final = ("audit", "audit_chain", "audit_heads")
#: Columns of each table that can be changed in place; those of its key are changed by putting in another row.
_TEXTS: Final = {
    "audit": tuple(name for name in row_columns() if name != "at"),
    "audit_chain": ("key", "value", "chain"),
    "audit_heads": ("chain", "previous", "key_id", "signature"),
}
_NUMBERS: Final = {
    "audit": ("at", "toUnixTimestamp64Milli(_timestamp)"),
    "audit_chain": ("timestamp_ms", "records"),
    "audit_heads": ("next_offset", "records", "signed_at"),
}
_KEYS: Final = {
    "audit": "_partition, _offset",
    "audit_chain": "_partition, _offset",
    "audit_heads": "partition, number",
}
_VERBS: Final = ("change_text", "change_number", "delete", "duplicate", "move")
KINDS: Final = tuple(f"{table}.{verb}" for table in TABLES for verb in _VERBS)


@contextmanager
def tampered(database: ClickHouse, kind: str, rng: random.Random) -> Iterator[None]:
    """The table of ``kind`` with one row tampered with; afterwards it is what it was."""
    table, verb = kind.split(".")
    database.command(f"CREATE TABLE before_{table} AS {table}")
    database.command(_copied(table, f"before_{table}", ""))
    keys = [str(name) for name in _KEYS[table].split(", ")]
    row = rng.choice(list(database.rows(f"SELECT {_KEYS[table]} FROM {table} ORDER BY {_KEYS[table]}")))  # noqa: S608  (the test's own words)
    where = " AND ".join(f"{name} = {int(value)}" for name, value in zip(keys, row, strict=True))
    for statement in _statements(database, table, verb, where, rng):
        database.command(statement)
    try:
        yield
    finally:
        database.command(f"TRUNCATE TABLE {table}")
        database.command(_copied(f"before_{table}", table, ""))
        database.command(f"DROP TABLE before_{table} SYNC")


def _statements(database: ClickHouse, table: str, verb: str, where: str, rng: random.Random) -> list[str]:
    delete = f"ALTER TABLE {table} DELETE WHERE {where} SETTINGS mutations_sync = 1"
    match verb:
        case "delete":
            return [delete]
        case "duplicate":
            return [_copied(f"before_{table}", table, where)]
        case "move":
            # An offset or a number that is not taken: beyond the last one.
            name = _KEYS[table].split(", ")[1]
            ((last,),) = database.rows(f"SELECT max({name}) + 1 FROM {table}")  # noqa: S608
            return [delete, _copied(f"before_{table}", table, where, f"* REPLACE (toInt64({int(last)}) AS {name})")]
        case "change_number":
            name, bit = rng.choice(_NUMBERS[table]), 1 << rng.randrange(20)
            if name.startswith("to"):
                moved = f"fromUnixTimestamp64Milli(bitXor({name}, {bit}), 'UTC')"
                return [_update(table, "_timestamp", moved, where)]
            return [_update(table, name, f"bitXor({name}, {bit})", where)]
        case _:
            name = rng.choice(_TEXTS[table])
            return [_update(table, f"`{name}`", _other_text(database, table, name, where, rng), where)]


def _other_text(database: ClickHouse, table: str, name: str, where: str, rng: random.Random) -> str:
    """SQL of the column's bytes with one bit of them flipped, or of one byte where there was none."""
    ((digits,),) = database.rows(f"SELECT hex(`{name}`) FROM {table} WHERE {where}")  # noqa: S608
    text = bytearray.fromhex(str(digits or ""))
    if text:
        # The low bits only: text in UTF-8 stays text.
        text[rng.randrange(len(text))] ^= 1 << rng.randrange(4)
    else:
        text = bytearray(b"x")
    return f"unhex('{text.hex()}')"


def _update(table: str, name: str, value: str, where: str) -> str:
    return f"ALTER TABLE {table} UPDATE {name} = {value} WHERE {where} SETTINGS mutations_sync = 1"


def _copied(source: str, target: str, where: str, what: str = "*") -> str:
    condition = f" WHERE {where}" if where else ""
    return f"INSERT INTO {target} SELECT {what} FROM {source}{condition} SETTINGS insert_deduplicate = 0"  # noqa: S608  (the test's own words)
