"""ClickHouse: a server by URL, or chDB in this process; the same client either way. All calls block."""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import clickhouse_connect

from emergency_stop.columnar.block import Block
from emergency_stop.config.values import without_secrets

#: Every insert is one synchronous, deduplicated block: all of it is stored, or nothing.
INSERT_SETTINGS: Final[dict[str, Any]] = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    # No two rows of a block have one origin: looking for them costs a third of the insert.
    "optimize_on_insert": 0,
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "max_insert_block_size": 10_000_000,
    "min_insert_block_size_rows": 10_000_000,
    "min_insert_block_size_bytes": 1 << 40,
    "input_format_parallel_parsing": 0,
    "input_format_avro_allow_missing_fields": 1,
    "input_format_skip_unknown_fields": 1,
}
_CONNECT_S: Final = 5
_ANSWER_S: Final = 20
_READ_ONLY: Final = re.compile(r"^\s*(select|with|show|describe|desc|explain|exists)\b", re.IGNORECASE)
_WRITES_FILE: Final = re.compile(r"\b(into\s+outfile|insert\s+into)\b", re.IGNORECASE)


#: Where in the data folder chDB keeps its tables.
EMBEDDED_FOLDER: Final = "clickhouse"


class ClickHouseUnavailableError(RuntimeError):
    """The database cannot be opened; the text says what to do."""


class ClickHouse:
    """One client. Not thread-safe: call it from one thread at a time."""

    def __init__(self, url: str | None, data_dir: Path, answer_s: int = _ANSWER_S) -> None:
        """Open. A server may take ``answer_s`` seconds for an answer. Raises ``ClickHouseUnavailableError``."""
        self._lock: Any = None
        folder = str(data_dir / EMBEDDED_FOLDER)
        #: As logs and errors tell it: a server without user and password.
        self.where = without_secrets(url) if url else folder
        if url is None:
            self._lock = _exclusive(data_dir)
        try:
            self._client = (
                clickhouse_connect.get_client(
                    dsn=url,
                    # The driver takes no notice of the scheme, and would send the password in the clear.
                    secure=url.startswith("https://"),
                    connect_timeout=_CONNECT_S,
                    send_receive_timeout=answer_s,
                )
                if url
                else clickhouse_connect.get_client(interface="chdb", path=folder)
            )
        except Exception as error:  # the driver raises many types; all mean the same here
            said = " ".join(str(error).split())
            raise ClickHouseUnavailableError(f"ClickHouse at {self.where} cannot be used: {said}") from error

    def close(self) -> None:
        self._client.close()
        if self._lock is not None:
            self._lock.close()

    def insert_block(self, table: str, block: Block, token: str) -> None:
        """Insert a block; columns that it lacks get defaults. Repeating it with the same token changes nothing."""
        settings = {**INSERT_SETTINGS, "insert_deduplication_token": token}
        self._client.raw_insert(table, insert_block=block.data, fmt=block.form, settings=settings)

    def insert_rows(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], token: str) -> None:
        """Insert few rows as one block; for tables without an Avro record."""
        settings = {**INSERT_SETTINGS, "insert_deduplication_token": token}
        self._client.insert(table, rows, column_names=list(columns), settings=settings)

    def insert_json(self, table: str, rows: Sequence[Mapping[str, Any]], token: str) -> None:
        """Insert few rows of numbers and names as one block; all rows have the same columns."""
        settings = {**INSERT_SETTINGS, "insert_deduplication_token": token}
        block = "\n".join(json.dumps(row) for row in rows).encode()
        columns = list(rows[0])
        self._client.raw_insert(table, column_names=columns, insert_block=block, fmt="JSONEachRow", settings=settings)

    def has_rows(self, table: str, topic: str, partition: int, first: int, following: int) -> bool:
        """Whether any row of these offsets is stored; a range is stored whole or not at all."""
        found = self.rows(
            f"SELECT 1 FROM {table} WHERE _topic = '{topic}' AND _partition = {partition}"  # noqa: S608  (names are ours)
            f" AND _offset >= {first} AND _offset < {following} LIMIT 1"
        )
        return bool(found)

    def command(self, sql: str) -> None:
        """Run one of our own statements that selects nothing."""
        self._client.command(sql)

    def rows(self, sql: str) -> Sequence[Sequence[Any]]:
        """The rows that one of our own statements selects."""
        answer: Sequence[Sequence[Any]] = self._client.query(sql).result_rows
        return answer

    def select(self, sql: str) -> dict[str, Any]:
        """Run one reading statement; the answer in ClickHouse's JSONCompact. Raises ``PermissionError``."""
        answer: dict[str, Any] = json.loads(self._read(sql, "JSONCompact"))
        return answer

    def native(self, sql: str) -> bytes:
        """As ``select``, with the answer in ClickHouse's Native format; see ``columnar.native``."""
        return self._read(sql, "Native")

    def _read(self, sql: str, form: str) -> bytes:
        if not _READ_ONLY.match(sql):
            raise PermissionError("only SELECT, WITH, SHOW, DESCRIBE, EXPLAIN and EXISTS are answered here")
        # chDB keeps a statement's settings for the whole session, and a read-only session stores nothing any more.
        settings = {"readonly": 2} if self._lock is None else {}
        if self._lock is not None and _WRITES_FILE.search(sql):
            raise PermissionError("INTO OUTFILE and INSERT are not answered here")
        answer: bytes = self._client.raw_query(sql, fmt=form, settings=settings)
        return answer


def _exclusive(data_dir: Path) -> Any:
    """One process owns a chDB path; a second one would corrupt it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    handle = (data_dir / "clickhouse.lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise ClickHouseUnavailableError(
            f"another process has the embedded ClickHouse at {data_dir} open; stop it, choose another"
            " ESTOP_DATA_DIR, or set ESTOP_CLICKHOUSE_URL to a server that many can use"
        ) from error
    return handle
