"""``estop audit``: export the history of decisions with its proof, and verify it, offline."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emergency_stop.adapters.audit_ledger import AuditReader
from emergency_stop.apps.sink.audit_key import audit_keys_file
from emergency_stop.config import EXIT_CONFIG, Settings
from emergency_stop.control.cli.output import say, show_json, show_table
from emergency_stop.control.database import selecting
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_OK, EXIT_REFUSED
from emergency_stop.wire.audit_file import AuditFileError, Item, export_lines, read_export, read_heads
from emergency_stop.wire.audit_verify import PartitionVerdict, Verification
from emergency_stop.wire.signing import KeyFileError, Verifier


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
        with selecting(settings) as select, options.file.open("x", encoding="utf-8", newline="\n") as file:
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
        with selecting(settings) as select:
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
