"""How ``estop privacy`` is spelled."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from emergency_stop.domain.values import ACCOUNT_ID_LENGTH_MAX, is_account_id

_PRIVACY: Final = "emergency_stop.control.cli.privacy"
STEPS: Final = ("add", "rewrap", "destroy")


def add_to(commands: Any) -> None:
    """Add the command and its verbs to argparse's subparsers."""
    privacy = commands.add_parser("privacy", help="an account's data exported or erased, and the keys that seal it")
    verbs = privacy.add_subparsers(dest="verb", required=True, metavar="VERB")
    generate = verbs.add_parser("generate", help="a new file of master keys, for ESTOP_PRIVACY_KEYS")
    generate.add_argument("file", type=Path, metavar="FILE", help="must not exist")
    status = verbs.add_parser("status", help="master keys, accounts' keys, and erasures that are not complete; then 1")
    export = verbs.add_parser("export", help="all that ClickHouse has about an account, opened, as lines of JSON")
    export.add_argument("account", type=_account, metavar="ACCOUNT")
    export.add_argument(
        "--file", type=Path, metavar="FILE", help="for its owner alone; must not exist; default: output"
    )
    erase = verbs.add_parser("erase", help="destroy an account's keys, and delete its rows; repeating it does no harm")
    erase.add_argument("account", type=_account, metavar="ACCOUNT")
    erase.add_argument("--keys-only", action="store_true", help="leave the rows in ClickHouse; nothing in them opens")
    renew = verbs.add_parser("rotate-account", help="a new key for an account; what the former ones sealed still opens")
    renew.add_argument("account", type=_account, metavar="ACCOUNT")
    master = verbs.add_parser(
        "rotate-master", help="a new master key; the older ones are destroyed, and backups with them"
    )
    master.add_argument(
        "--step", choices=STEPS, help="only this; default: all three, where one file serves all processes"
    )
    for verb in (erase, renew):
        verb.add_argument("--reason", required=True, help="why; kept in the audit, so without the account's id")
    for verb in (export, master):
        verb.add_argument("--reason", default="", help="why; kept in the audit")
    for verb in (export, erase, renew, master):
        verb.add_argument("--by", default="", help="who asks; default: the user at this terminal")
    for verb in (generate, status, erase, renew, master):
        verb.add_argument("--json", action="store_true", help="one JSON document on standard output")
    privacy.set_defaults(run=f"{_PRIVACY}:run_privacy")


def _account(text: str) -> str:
    if not is_account_id(text):
        raise argparse.ArgumentTypeError(
            f"{text[:80]!r} is no account id; allowed: 1 to {ACCOUNT_ID_LENGTH_MAX} characters without white space at"
            " the ends, and without the prefix account:"
        )
    return text
