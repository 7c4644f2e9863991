"""``estop privacy export``: everything that ClickHouse has about an account, its sealed texts opened."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from emergency_stop.apps.sink.tables import TABLES
from emergency_stop.config import Settings
from emergency_stop.control.cli.output import say
from emergency_stop.control.cli.privacy import configured_keys, record_of, subject_of
from emergency_stop.control.database import selecting
from emergency_stop.control.errors import EXIT_OK
from emergency_stop.control.installation import Installation
from emergency_stop.control.privacy.key_log import KeyLog
from emergency_stop.control.privacy.rows import read_rows, tables_of
from emergency_stop.domain.topics import AUDIT
from emergency_stop.wire.privacy_keys import PrivacyKeys, UnwrapError
from emergency_stop.wire.sealing import SealingKey
from emergency_stop.wire.sensitive import open_fields, sensitive_fields

_RECORD_OF: Final = {table: record for record, table in TABLES.items()}
_OWNER_ONLY: Final = 0o600


def run_export(options: argparse.Namespace, settings: Settings) -> int:
    """Lines of ``{"table": …, "row": {…}}``; ``closed`` says of a text that does not open why."""
    _, keys = configured_keys(settings)
    known = asyncio.run(_account_keys(settings, keys, options.account))
    counts: Counter[str] = Counter()
    closed = 0
    with _output(options.file) as output, selecting(settings) as select:
        for table in tables_of(select, options.account, audit=True):
            for row in read_rows(select, table):
                line = _line(table.table, row, known)
                output.write(json.dumps(line, ensure_ascii=False) + "\n")
                counts[table.table] += 1
                closed += len(line.get("closed", ()))
    subject = subject_of(keys.pseudonym(options.account))
    record = record_of(options, "account_exported", subject, {"rows": dict(counts), "closed": closed})
    asyncio.run(Installation(settings).publish(AUDIT, subject, record))
    say(f"{counts.total()} rows of {len(counts)} tables" + (f"; {closed} texts do not open" if closed else ""))
    return EXIT_OK


def _line(table: str, row: dict[str, Any], known: dict[str, SealingKey]) -> dict[str, Any]:
    record = _RECORD_OF.get(table)
    if record is None or not sensitive_fields(record):
        return {"table": table, "row": row}
    opened, closed = open_fields(record, row, known.get)
    return {"table": table, "row": opened} | ({"closed": closed} if closed else {})


async def _account_keys(settings: Settings, keys: PrivacyKeys, account_id: str) -> dict[str, SealingKey]:
    """The account's live keys by id; one that is wrapped by a master key which is not here is told, and left out."""
    log = KeyLog(Installation(settings))
    async with log.following():
        live = log.book.keys(keys.pseudonym(account_id))
    found = {}
    for key in live:
        try:
            found[key.key_id] = SealingKey(key.key_id, keys.unwrap(key))
        except UnwrapError as error:
            say(f"estop privacy export: {error}")
    return found


@contextlib.contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file for its owner alone. Raises ``FileExistsError``."""
    if path is None:
        yield sys.stdout
        return
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "w", encoding="utf-8") as file:
        yield file
