"""``estop audit``: export the history of decisions with its proof, and verify it, offline."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from emergency_stop.adapters.audit_ledger import AuditReader, Select
from emergency_stop.apps.sink.audit_key import audit_keys_file
from emergency_stop.apps.sink.query import ADDRESS_FILE
from emergency_stop.config import EXIT_CONFIG, Settings
from emergency_stop.control.cli.output import say, show_json, show_table
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_OK, EXIT_REFUSED, UnavailableError
from emergency_stop.wire.audit_file import AuditFileError, Item, export_lines, read_export, read_heads
from emergency_stop.wire.audit_verify import PartitionVerdict, Verification
from emergency_stop.wire.signing import KeyFileError, Verifier

_ANSWER_S: Final = 60


def run_audit(options: argparse.Namespace, settings: Settings) -> int:
    """Carry out one of export and verify."""
    verbs = {"export": _export, "verify": _verify}
    try:
        return verbs[options.verb](options, settings)
    except KeyFileError as error:
        return _complain(f"{error}; --keys or ESTOP_AUDIT_KEYS_FILE names the public keys of the sinks", EXIT_CONFIG)


def _complain(text: str, code: int) -> int:
    print(f"estop audit: {text}", file=sys.stderr)
    return code


def _export(options: argparse.Namespace, settings: Settings) -> int:
    lines = 0
    try:
        with _selecting(settings) as select, options.file.open("x", encoding="utf-8", newline="\n") as file:
            for line in export_lines(AuditReader(select).items(options.since)):
                file.write(line)
                lines += 1
    except FileExistsError:
        return _complain(f"{options.file} exists; an export is never overwritten, so name another file", EXIT_REFUSED)
    except OSError as error:
        return _complain(f"{options.file} cannot be written: {error.strerror}", EXIT_BAD_INPUT)
    items = lines - 2  # its first line and its last one
    if options.json:
        show_json({"file": str(options.file), "items": items})
    else:
        print(f"{options.file} has {items} heads and records; `estop audit verify {options.file}` proves them anywhere")
    return EXIT_OK


def _verify(options: argparse.Namespace, settings: Settings) -> int:
    if (options.file is None) != options.database:
        return _complain("verify takes either FILE or --database", EXIT_BAD_INPUT)
    verifier = Verifier.load(options.keys or audit_keys_file(settings))
    try:
        witnesses = _lines_of(options.heads, read_heads) if options.heads else []
        verification = Verification(
            verifier, witnesses, partial=options.partial, committed_ids=settings.registry_url is None
        )
        with _items(options.file, settings) as items:
            for item in items:
                verification.take(item)
    except AuditFileError as error:
        return _broken_file(str(error), as_json=options.json)
    except OSError as error:
        return _complain(f"{error.filename or options.file} cannot be read: {error.strerror}", EXIT_BAD_INPUT)
    return _report(verification.finish(), as_json=options.json)


def _lines_of(path: Path, read: Any) -> Any:
    with path.open("rb") as lines:
        try:
            return read(lines)
        except AuditFileError as error:
            raise AuditFileError(f"{path}: {error}") from error


@contextlib.contextmanager
def _items(path: Path | None, settings: Settings) -> Iterator[Iterable[Item]]:
    if path is None:
        with _selecting(settings) as select:
            yield AuditReader(select).items()
    else:
        with path.open("rb") as lines:
            yield read_export(lines)


def _broken_file(text: str, *, as_json: bool) -> int:
    if as_json:
        show_json({"verified": False, "file": text, "partitions": []})
    else:
        print(f"BROKEN  {text}")
    return EXIT_FAILED


def _report(verdicts: Sequence[PartitionVerdict], *, as_json: bool) -> int:
    """The verdict on every partition, and what is wrong with it."""
    breaks = [one for verdict in verdicts for one in verdict.breaks]
    if as_json:
        show_json({"verified": not breaks, "partitions": [asdict(verdict) for verdict in verdicts]})
        return EXIT_FAILED if breaks else EXIT_OK
    show_table(
        ("TOPIC", "PARTITION", "RECORDS", "FIRST", "NEXT", "HEADS", "NOT SIGNED YET", "BEFORE THE CHAIN", "VERDICT"),
        [
            [one.topic, one.partition, one.records, one.first_offset, one.next_offset, one.heads, one.unsigned,
             one.unchained, "BROKEN" if one.breaks else "whole"]
            for one in verdicts
        ],
    )  # fmt: skip
    for one in breaks:
        where = f"offset {one.offset}" if one.offset >= 0 else "heads"
        print(
            f"{one.topic}, partition {one.partition}, {where}: {one.kind}: expected {one.expected}; found {one.found}"
        )
    if not verdicts:
        say("there is no audit here: nothing was decided yet, or this is not the sink's database")
    return EXIT_FAILED if breaks else EXIT_OK


@contextlib.contextmanager
def _selecting(settings: Settings) -> Iterator[Select]:
    """Reading statements of the server, of the sink that has chDB open, or of chDB itself where none has.

    Raises ``UnavailableError``.
    """
    address = settings.data_dir / ADDRESS_FILE
    if settings.clickhouse_url is None and address.exists():
        select = _asking(json.loads(address.read_text())["url"])
        if _answers(select):
            yield select
            return
    from emergency_stop.adapters.clickhouse import ClickHouse, ClickHouseUnavailableError

    try:
        database = ClickHouse(settings.clickhouse_url, settings.data_dir)
    except ClickHouseUnavailableError as error:
        raise UnavailableError(str(error)) from error
    try:
        yield database.rows
    finally:
        database.close()


def _asking(url: str) -> Select:
    def select(sql: str) -> list[list[Any]]:
        request = urllib.request.Request(url, data=sql.encode())  # noqa: S310  (the sink's own, on loopback)
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:  # noqa: S310
                rows: list[list[Any]] = json.loads(answer.read())["data"]
                return rows
        except urllib.error.HTTPError as error:
            raise UnavailableError(f"the sink at {url} refused: {error.read().decode(errors='replace')}") from error
        except OSError as error:
            raise UnavailableError(f"the sink at {url} does not answer: {error}") from error

    return select


def _answers(select: Select) -> bool:
    """Whether a sink is there; one that was killed left its address, and chDB to whoever opens it."""
    try:
        select("SELECT 1")
    except UnavailableError:
        return False
    return True
