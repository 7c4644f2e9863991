"""``estop privacy status`` and ``rotate-master``: the master keys, what they wrap, and what waits for their end."""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.config import Settings
from emergency_stop.control.cli.output import moment, say, show_json, show_table
from emergency_stop.control.cli.privacy import configured_keys, record_of
from emergency_stop.control.cli.privacy_arguments import STEPS
from emergency_stop.control.errors import EXIT_FAILED, EXIT_OK
from emergency_stop.control.installation import Installation
from emergency_stop.control.privacy.changes import Rewrap, destroyable, rewrap_all, unshredded
from emergency_stop.control.privacy.key_log import KeyLog
from emergency_stop.domain.topics import AUDIT
from emergency_stop.wire.account_keys import AccountKeyBook
from emergency_stop.wire.privacy_keys import PrivacyKeys
from emergency_stop.wire.signing import KeyFileError
from emergency_stop.wire.trusted_keys import CHECK_MS

_SUBJECT: Final = "privacy"
#: Producers look at the file once a second; a key that one of them makes meanwhile is on the topic by then.
TAKEN_OVER_MS: Final = 3 * CHECK_MS
_DAY_MS: Final = 86_400_000
#: What the General Data Protection Regulation gives for answering a request (article 12, paragraph 3): a month.
SHRED_WITHIN_DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class _Standing:
    accounts: int
    wrapped_by: dict[str, int]
    #: Live keys that no master key here opens.
    closed: int
    erased: int
    #: Accounts whose erased keys an old copy of the topic and a master key that is here would give back.
    unshredded: int
    unshredded_since: int | None
    #: Accounts of which erased keys lie in the log still: an erasure broke off.
    unfinished: int
    unreadable: int


def run_status(options: argparse.Namespace, settings: Settings) -> int:
    """1 where something is to be done: an erasure broke off or waits for too long, or keys cannot be opened here."""
    path, keys = configured_keys(settings)
    standing = asyncio.run(_standing(settings, keys))
    problems = _problems(standing, SystemClock().now_ms())
    if options.json:
        show_json(_document(path, keys, standing) | {"problems": problems})
    else:
        _show(keys, standing)
        for problem in problems:
            print(problem)
    return EXIT_FAILED if problems else EXIT_OK


async def _standing(settings: Settings, keys: PrivacyKeys) -> _Standing:
    log = KeyLog(Installation(settings))
    async with log.following():
        return _stand(log.book, keys, log.unreadable)


def _stand(book: AccountKeyBook, keys: PrivacyKeys, unreadable: int) -> _Standing:
    wrapped, waiting = book.wrapped_by(), unshredded(book, keys)
    return _Standing(
        accounts=sum(1 for name in book if book.keys(name)),
        wrapped_by=dict(wrapped),
        closed=sum(count for master_id, count in wrapped.items() if master_id not in keys.master_ids),
        erased=sum(1 for name in book if book.erasures(name)),
        unshredded=len(waiting),
        unshredded_since=min((one.at for erasures in waiting.values() for one in erasures), default=None),
        unfinished=sum(1 for name in book if book.void(name)),
        unreadable=unreadable,
    )


def _problems(standing: _Standing, now_ms: int) -> list[str]:
    problems = []
    if standing.unfinished:
        problems.append(
            f"{standing.unfinished} erasures broke off: the keys are void, and lie in the log still; `estop privacy"
            " rotate-master --step rewrap` takes them out, or the same erase again"
        )
    since = standing.unshredded_since
    if since is not None and now_ms - since > SHRED_WITHIN_DAYS * _DAY_MS:
        problems.append(
            f"erased keys of {standing.unshredded} accounts can be unwrapped from old copies of the topic, the first"
            f" since {moment(since)}; `estop privacy rotate-master` ends that"
        )
    if standing.closed:
        problems.append(
            f"{standing.closed} keys of accounts are wrapped by master keys that are not in this file; take the file of"
            " the machine on which the master key was rotated, or, where that key is destroyed, `estop privacy"
            " rotate-account` the accounts"
        )
    if standing.unreadable:
        problems.append(f"{standing.unreadable} records of estop.account-keys are no account keys")
    return problems


def _document(path: Path, keys: PrivacyKeys, standing: _Standing) -> dict[str, Any]:
    masters = [
        {"master_key": one.master_id, "created_at": one.created_at, "wraps": standing.wrapped_by.get(one.master_id, 0)}
        for one in keys.masters
    ]
    return {
        "file": str(path), "master_keys": masters, "accounts": standing.accounts, "closed": standing.closed,
        "erased": standing.erased, "unshredded": standing.unshredded, "unshredded_since": standing.unshredded_since,
        "unfinished": standing.unfinished,
    }  # fmt: skip


def _show(keys: PrivacyKeys, standing: _Standing) -> None:
    show_table(
        ("MASTER KEY", "SINCE", "WRAPS", ""),
        [
            [one.master_id, moment(one.created_at), standing.wrapped_by.get(one.master_id, 0),
             "the newest" if one is keys.newest else ""]
            for one in keys.masters
        ],
    )  # fmt: skip
    print(
        f"{standing.accounts} accounts have keys; {standing.erased} were erased, {standing.unshredded} of them waiting"
    )
    if standing.unshredded:
        print("for a master key to be destroyed: until then, old copies of the topic and this file would open them")


def run_rotate_master(options: argparse.Namespace, settings: Settings) -> int:
    """A new master key, everything wrapped by it, the older ones destroyed: or one of these steps alone."""
    path, keys = configured_keys(settings)
    steps = (options.step,) if options.step else STEPS
    if "add" in steps:
        keys = _saved(path, keys.with_new_master(SystemClock().now_ms()))
    if steps == STEPS:
        say(
            f"waiting {TAKEN_OVER_MS / 1000:g} s, until every producer that shares {path} wraps with the new master key"
        )
        time.sleep(TAKEN_OVER_MS / 1000)
    rewrap, destroyed = asyncio.run(_rewrap_and_destroy(options, settings, path, keys, steps))
    left = PrivacyKeys.load(path).master_ids
    if options.json:
        show_json({
            "newest": keys.newest.master_id, "rewrapped": rewrap.rewrapped, "removed": rewrap.removed,
            "closed": rewrap.closed, "destroyed": list(destroyed), "master_keys": list(left),
        })  # fmt: skip
    else:
        print(f"master key {keys.newest.master_id} wraps; {rewrap.rewrapped} keys of accounts were wrapped anew")
        print(f"destroyed: {', '.join(destroyed) or 'none'}; left in {path}: {', '.join(left)}")
    if rewrap.closed:
        say(f"{rewrap.closed} keys could not be opened with this file, and stay as they are: `estop privacy status`")
    return EXIT_FAILED if rewrap.closed or ("destroy" in steps and len(left) > 1) else EXIT_OK


async def _rewrap_and_destroy(
    options: argparse.Namespace, settings: Settings, path: Path, keys: PrivacyKeys, steps: tuple[str, ...]
) -> tuple[Rewrap, tuple[str, ...]]:
    installation = Installation(settings)
    log, rewrap = KeyLog(installation), Rewrap(0, 0, 0)
    destroyed: tuple[str, ...] = ()
    async with log.following():
        if "rewrap" in steps:
            rewrap = await rewrap_all(log, keys, SystemClock().now_ms())
        if "destroy" in steps:
            destroyed = destroyable(log.book, keys)
    if "destroy" in steps:
        _saved(path, keys.without(destroyed))
    done = {"steps": list(steps), "rewrapped": rewrap.rewrapped, "destroyed": list(destroyed)}
    after = {"newest": keys.newest.master_id} | done
    await installation.publish(AUDIT, _SUBJECT, record_of(options, "master_key_rotated", _SUBJECT, after))
    return rewrap, destroyed


def _saved(path: Path, keys: PrivacyKeys) -> PrivacyKeys:
    try:
        keys.save(path, replace=True)
    except OSError as error:
        raise KeyFileError(f"privacy keys {path} cannot be written: {error.strerror}; nothing was rotated") from error
    return keys
