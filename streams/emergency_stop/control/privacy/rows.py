"""An account's rows in ClickHouse: which there are, what they say, and how they go.

The tables are found by their columns, so that one which a later migration adds is not forgotten: a row is an
account's where its ``account_id`` or its ``scope`` names it. The audit stays, and so does what proves it: it is kept
as evidence of who stopped what and why, and none of its texts comes from a sensitive field.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from emergency_stop.adapters.audit_ledger import Select
from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.control.errors import UnavailableError
from emergency_stop.domain.values import Scope

AUDIT: Final = "audit"
DEAD_LETTERS: Final = "dead_letters"
MUTATION_WITHIN_S: Final = 3_600.0
_POLL_S: Final = 0.2
_PAGE_ROWS: Final = 5_000
_PLACE: Final = ("_topic", "_partition", "_offset")
#: Columns that hold bytes and no text; told as hexadecimal digits.
_BYTES: Final = frozenset(
    {("commands", "signature"), ("holds", "signature"), (DEAD_LETTERS, "key"), (DEAD_LETTERS, "value")}
)


@dataclass(frozen=True, slots=True)
class AccountRows:
    """The rows of one account in one table; ``where`` chooses them."""

    table: str
    columns: tuple[str, ...]
    where: str


def tables_of(select: Select, account_id: str, *, audit: bool) -> list[AccountRows]:
    """Every table that may name the account, in order; ``audit`` says whether its audit is one."""
    found = select(
        "SELECT table, groupArray(name) FROM (SELECT table, name FROM system.columns WHERE database = currentDatabase()"
        " AND table IN (SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree')"
        " ORDER BY table, position) GROUP BY table ORDER BY table"
    )
    made = (AccountRows(str(table), tuple(names), _where(str(table), names, account_id)) for table, names in found)
    return [one for one in made if one.where and (audit or one.table != AUDIT)]


def _where(table: str, columns: Sequence[str], account_id: str) -> str:
    scope = str(Scope.account(account_id))
    if table == AUDIT:
        return f"subject = {quoted(scope)}"
    if table == DEAD_LETTERS:
        return _in_dead_letter(account_id, scope)
    choices = {"account_id": account_id, "scope": scope}
    return " OR ".join(f"{name} = {quoted(text)}" for name, text in choices.items() if name in columns)


def _in_dead_letter(account_id: str, scope: str) -> str:
    """By its key, or by a text within its value: as Avro writes it, its length in front, or quoted as JSON does. What
    only begins with the id is another account's.
    """
    texts = (account_id, scope)
    keys = " OR ".join(f"trimBoth(ifNull(key, '')) = {quoted(text)}" for text in texts)
    forms = [form for text in texts for form in (_avro_string(text), json.dumps(text, ensure_ascii=False).encode())]
    values = " OR ".join(f"position(ifNull(value, ''), unhex('{form.hex()}')) > 0" for form in forms)
    return f"{keys} OR {values}"


def _avro_string(text: str) -> bytes:
    """Its length as a zigzag variable-length integer, then UTF-8."""
    data = text.encode()
    length, prefix = len(data) << 1, bytearray()
    while length > 0x7F:  # noqa: PLR2004  (seven bits a byte)
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes((*prefix, length)) + data


def quoted(text: str) -> str:
    """A string literal of ClickHouse."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def read_rows(select: Select, rows: AccountRows) -> Iterator[dict[str, Any]]:
    """Each row once, in the order of the topics, as JSON has it; a page at a time. Raises what ``select`` raises."""
    cells = ", ".join(_cell(rows.table, name) for name in rows.columns)
    place, after = ", ".join(_PLACE), ""
    while True:
        page = select(
            f"SELECT {cells} FROM {rows.table} FINAL WHERE ({rows.where}){after} ORDER BY {place} LIMIT {_PAGE_ROWS}"  # noqa: S608  (texts are quoted)
        )
        found: list[dict[str, Any]] = [
            {name: None if cell is None else json.loads(cell) for name, cell in zip(rows.columns, row, strict=True)}
            for row in page
        ]
        yield from found
        if len(found) < _PAGE_ROWS:
            return
        last = found[-1]
        after = f" AND ({place}) > ({quoted(last['_topic'])}, {int(last['_partition'])}, {int(last['_offset'])})"


def _cell(table: str, column: str) -> str:
    return f"toJSONString(hex({column}))" if (table, column) in _BYTES else f"toJSONString({column})"


def count_rows(select: Select, rows: AccountRows) -> int:
    """How many there are, repeated ones too: all of them must go."""
    return int(select(f"SELECT count() FROM {rows.table} WHERE {rows.where}")[0][0])  # noqa: S608  (texts are quoted)


def delete_rows(database: ClickHouse, rows: AccountRows) -> int:
    """Delete them, and wait until their parts were written anew without them; returns how many there were.

    An ``ALTER … DELETE`` and no lightweight one, which would only mask them. Replicas follow by themselves. A repeat
    after a crash finds the mutation that is under way, or none left to do. Raises ``UnavailableError`` where it does
    not end.
    """
    count = count_rows(database.rows, rows)
    if count:
        database.command(f"ALTER TABLE {rows.table} DELETE WHERE {rows.where}")
    _await_mutations(database, rows.table)
    return count


def _await_mutations(database: ClickHouse, table: str) -> None:
    deadline = time.monotonic() + MUTATION_WITHIN_S
    while True:
        ((left, why),) = database.rows(
            "SELECT count(), any(latest_fail_reason) FROM system.mutations"  # noqa: S608  (the name is the database's)
            f" WHERE database = currentDatabase() AND table = {quoted(table)} AND NOT is_done"
        )
        if not left:
            return
        if why or time.monotonic() > deadline:
            raise UnavailableError(
                f"rows of {table} are not deleted yet ({why or 'it takes long'}); ClickHouse goes on with it, and the"
                " same command looks again; the table system.mutations tells more"
            )
        time.sleep(_POLL_S)
