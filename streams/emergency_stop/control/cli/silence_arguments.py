"""How ``estop silence`` and ``estop notices`` are spelled."""

from __future__ import annotations

import argparse
import re
from typing import Any, Final

from emergency_stop.domain.values import NoticeKind, Scope

DURATION_MS_MIN: Final = 60_000
DURATION_MS_MAX: Final = 7 * 86_400_000
_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SILENCES: Final = "emergency_stop.control.cli.silences"
_NOTICES: Final = "emergency_stop.control.cli.notices"


def add_to(commands: Any) -> None:
    """Add both to argparse's subparsers."""
    silence = commands.add_parser("silence", help="hide notices for a while, never state: add, list, remove")
    verbs = silence.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add(verbs)
    listing = verbs.add_parser("list", help="the silences in force")
    listing.add_argument("--all", action="store_true", help="those that are over or have not begun too")
    listing.set_defaults(run=f"{_SILENCES}:run_list")
    remove = verbs.add_parser("remove", help="end a silence now")
    remove.add_argument("silence_id", metavar="ID", help="or how it begins")
    remove.add_argument("--by", default="", help="who asks; default: the user at this terminal")
    remove.set_defaults(run=f"{_SILENCES}:run_remove")
    notices = commands.add_parser("notices", help="what people were told, or should have been")
    notices.add_argument("--limit", type=_count, default=20, help="how many of the newest; default: 20")
    notices.add_argument("--kind", choices=[kind.value for kind in NoticeKind], help="only these")
    notices.add_argument("--follow", action="store_true", help="go on as they come, until Ctrl-C")
    notices.set_defaults(run=f"{_NOTICES}:run_notices")
    for command in (*verbs.choices.values(), notices):
        command.add_argument("--json", action="store_true", help="JSON on standard output; with --follow one per line")


def _add(verbs: Any) -> None:
    add = verbs.add_parser("add", help="hide notices that match all of what is named")
    add.add_argument("--reason", required=True, type=_text, help="why; kept in the audit")
    add.add_argument(
        "--for", required=True, type=duration_ms, dest="for_ms", metavar="2h", help="30m, 2h, 1d; 7d at most"
    )
    add.add_argument("--scope", type=_scope, help="only of exactly this scope")
    add.add_argument("--trigger", default="", metavar="ID", help="only of this trigger")
    add.add_argument("--service", default="", metavar="NAME", help="only of this service")
    add.add_argument("--everything", action="store_true", help="instead of these three: hide every notice, pages too")
    add.add_argument("--by", default="", help="its author; default: the user at this terminal")
    add.set_defaults(run=f"{_SILENCES}:run_add")


def duration_ms(text: str) -> int:
    """``90s``, ``30m``, ``2h``, ``1d`` as milliseconds, within bounds."""
    found = re.fullmatch(r"(\d{1,9})([smhd])", text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; allowed: a number and s, m, h or d, as in 2h")
    value = int(found[1]) * _UNITS_MS[found[2]]
    if not DURATION_MS_MIN <= value <= DURATION_MS_MAX:
        raise argparse.ArgumentTypeError(f"{text} is out of range; allowed: 1m to 7d")
    return value


def _text(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; say why")
    return text


def _scope(text: str) -> str:
    try:
        return str(Scope.parse(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= 10_000:  # noqa: PLR2004  # said in the message
        raise argparse.ArgumentTypeError(f"{text!r} is out of range; allowed: 1 to 10000")
    return int(text)
