"""``estop privacy``: what an account's data says and how it goes, and the keys that seal it.

Who asked is on record in the audit, under a pseudonym of the account: the audit outlives the erasure.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.bootstrap import load
from emergency_stop.config import EXIT_CONFIG, Settings
from emergency_stop.control.cli.output import moment, say, show_json
from emergency_stop.control.database import changing
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_OK, EXIT_REFUSED, UnavailableError
from emergency_stop.control.installation import Installation
from emergency_stop.control.privacy.changes import KeyErasure, erase_keys, renew_key
from emergency_stop.control.privacy.key_log import KeyLog
from emergency_stop.control.privacy.rows import delete_rows, tables_of
from emergency_stop.domain.messages import AccountKey, AuditRecord
from emergency_stop.domain.topics import AUDIT
from emergency_stop.wire.privacy_keys import PrivacyKeys
from emergency_stop.wire.signing import KeyFileError

Verb = Callable[[argparse.Namespace, Settings], int]
_CLI: Final = "emergency_stop.control.cli"
_ELSEWHERE: Final = {
    "status": f"{_CLI}.privacy_masters:run_status",
    "rotate-master": f"{_CLI}.privacy_masters:run_rotate_master",
    "export": f"{_CLI}.privacy_export:run_export",
}
_VARIABLE: Final = "ESTOP_PRIVACY_KEYS"


class RefusedError(ValueError):
    """What was asked for cannot be done so; nothing was changed. The text says why."""


def run_privacy(options: argparse.Namespace, settings: Settings) -> int:
    """Carry out one of the verbs."""
    verbs: dict[str, Verb] = {"generate": _generate, "erase": _erase, "rotate-account": _rotate_account}
    try:
        verb: Verb = verbs.get(options.verb) or load(_ELSEWHERE[options.verb])
        return verb(options, settings)
    except KeyFileError as error:
        return _complain(error, EXIT_CONFIG)
    except FileExistsError as error:
        return _complain(f"{error.filename} exists; it is never overwritten, so name another file", EXIT_REFUSED)
    except RefusedError as error:
        return _complain(error, EXIT_BAD_INPUT)


def _complain(error: object, code: int) -> int:
    print(f"estop privacy: {error}", file=sys.stderr)
    return code


def configured_keys(settings: Settings) -> tuple[Path, PrivacyKeys]:
    """The file of master keys, and what is in it. Raises ``KeyFileError``."""
    path = settings.privacy_keys_file
    if path is None:
        raise KeyFileError(
            f"{_VARIABLE} is not set: nothing here is sealed, and accounts have no pseudonyms; `estop privacy generate"
            f" FILE` makes a file for it, which every producer needs too"
        )
    return path, PrivacyKeys.load(path)


def record_of(options: argparse.Namespace, action: str, subject: str, after: dict[str, Any]) -> AuditRecord:
    """What the audit keeps of a command."""
    audit_id = str(uuid.uuid4())
    return AuditRecord(
        audit_id=audit_id,
        at=SystemClock().now_ms(),
        actor=options.by or f"cli:{getpass.getuser()}",
        action=action,
        subject=subject,
        reason=options.reason,
        correlation_id=audit_id,
        after=json.dumps(after, separators=(",", ":")),
    )


def subject_of(pseudonym: str) -> str:
    return f"pseudonym:{pseudonym}"


def _check_words(options: argparse.Namespace) -> None:
    """The audit outlives the erasure, so it must not get to know whose it was."""
    for name in ("reason", "by"):
        if options.account in getattr(options, name):
            raise RefusedError(f"--{name} names the account itself, and the audit keeps it for ever; leave the id out")


def _generate(options: argparse.Namespace, settings: Settings) -> int:
    del settings
    keys = PrivacyKeys.generate(SystemClock().now_ms())
    try:
        keys.save(options.file, replace=False)
    except FileExistsError:
        raise
    except OSError as error:
        raise KeyFileError(f"privacy keys {options.file} cannot be written: {error.strerror}") from error
    if options.json:
        show_json({"file": str(options.file), "master_key": keys.newest.master_id})
        return EXIT_OK
    print(f"{options.file} has master key {keys.newest.master_id}")
    say(f"set {_VARIABLE} to it for producers and for `estop privacy`; a copy that is kept too long undoes erasures")
    return EXIT_OK


def _erase(options: argparse.Namespace, settings: Settings) -> int:
    _check_words(options)
    _, keys = configured_keys(settings)
    erasure = asyncio.run(_erase_keys(options, settings, keys))
    left = [one for one in erasure.master_ids if one in keys.master_ids]
    rows: Counter[str] = Counter()
    if not options.keys_only:
        rows = _erase_rows(options, settings, keys)
    if options.json:
        show_json({"keys": erasure.keys, "rows": dict(rows), "shredded": not left, "master_keys": left})
        return EXIT_OK
    print(f"{erasure.keys} keys are erased: nothing that they sealed opens any more, wherever it lies")
    if not options.keys_only:
        print(f"{rows.total()} rows are deleted" + "".join(f"\n  {rows[name]:>8}  {name}" for name in sorted(rows)))
    if left:
        print(
            f"Old copies of estop.account-keys could still be unwrapped with master key {', '.join(left)}: complete"
            " when `estop privacy rotate-master` has destroyed it"
        )
    return EXIT_OK


async def _erase_keys(options: argparse.Namespace, settings: Settings, keys: PrivacyKeys) -> KeyErasure:
    installation, pseudonym = Installation(settings), keys.pseudonym(options.account)
    log = KeyLog(installation)
    async with log.following():
        erasure = await erase_keys(log, pseudonym, SystemClock().now_ms())
    after = {"keys": erasure.keys, "master_keys": list(erasure.master_ids)}
    subject = subject_of(pseudonym)
    await installation.publish(AUDIT, subject, record_of(options, "account_keys_erased", subject, after))
    return erasure


def _erase_rows(options: argparse.Namespace, settings: Settings, keys: PrivacyKeys) -> Counter[str]:
    try:
        with changing(settings) as database:
            tables = tables_of(database.rows, options.account, audit=False)
            rows = Counter({one.table: count for one in tables if (count := delete_rows(database, one))})
    except UnavailableError as error:
        raise UnavailableError(
            f"the account's keys are erased, so nothing sealed opens any more; its rows are not deleted: {error}. Then"
            " run the same command again"
        ) from error
    subject = subject_of(keys.pseudonym(options.account))
    record = record_of(options, "account_rows_erased", subject, {"rows": dict(rows)})
    asyncio.run(Installation(settings).publish(AUDIT, subject, record))
    return rows


def _rotate_account(options: argparse.Namespace, settings: Settings) -> int:
    _check_words(options)
    _, keys = configured_keys(settings)
    key = asyncio.run(_renew(options, settings, keys))
    if options.json:
        show_json({"key_id": key.key_id, "version": key.version, "at": key.at})
    else:
        print(f"key {key.key_id}, version {key.version}, seals the account's texts since {moment(key.at)}")
    return EXIT_OK


async def _renew(options: argparse.Namespace, settings: Settings, keys: PrivacyKeys) -> AccountKey:
    installation, pseudonym = Installation(settings), keys.pseudonym(options.account)
    log = KeyLog(installation)
    async with log.following():
        key = await renew_key(log, keys, pseudonym, SystemClock().now_ms())
    subject, after = subject_of(pseudonym), {"key_id": key.key_id, "version": key.version}
    await installation.publish(AUDIT, subject, record_of(options, "account_key_rotated", subject, after))
    return key
