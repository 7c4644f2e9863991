"""How ``estop dead-letters`` is spelled."""

from __future__ import annotations

import argparse
import re
from datetime import datetime
from typing import Any, Final

from emergency_stop.config import did_you_mean
from emergency_stop.domain.reasons import Reject

LIMIT_MAX: Final = 10_000
SCHEMA_ID_MAX: Final = 2**31 - 1
_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SHOW: Final = "emergency_stop.control.cli.dead_letters"
_REDRIVE: Final = "emergency_stop.control.cli.redrive"


def add_to(commands: Any) -> None:
    """Add it to argparse's subparsers."""
    letters = commands.add_parser("dead-letters", help="input that was refused: list, show why, redrive after a fix")
    verbs = letters.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="the newest, each refused record once")
    listing.add_argument("--limit", type=_count, default=20, help="how many of the newest; default: 20")
    listing.add_argument("--count-by", choices=("reason", "topic"), help="only how many there are")
    listing.add_argument("--open", action="store_true", help="only those that were not redriven")
    listing.set_defaults(run=f"{_SHOW}:run_list")
    show = verbs.add_parser("show", help="what was wrong, at which byte, and what to do next")
    show.add_argument(
        "place", metavar="TOPIC-PARTITION@OFFSET", help="of the letter, or of the record that was refused"
    )
    show.set_defaults(run=f"{_SHOW}:run_show")
    redrive = verbs.add_parser("redrive", help="send them to their topic again, once, if they are accepted now")
    redrive.add_argument("places", metavar="TOPIC-PARTITION@OFFSET", nargs="*", help="as list and show name them")
    redrive.add_argument("--limit", type=_count, default=100, help="how many of the newest; default: 100")
    redrive.add_argument("--fix-key", action="store_true", help="key it by the account id in its value")
    redrive.add_argument("--trim-account-id", action="store_true", help="without white space at the account id's ends")
    redrive.add_argument("--schema-id", type=_schema_id, metavar="N", help="read its body by this writer's schema")
    redrive.add_argument("--dry-run", action="store_true", help="tell what would happen, and send nothing")
    redrive.add_argument("--note", default="", metavar="TEXT", help="what was mended; kept in the audit")
    redrive.add_argument("--by", default="", help="who asks; default: the user at this terminal")
    redrive.set_defaults(run=f"{_REDRIVE}:run_redrive")
    for command in (listing, redrive):
        command.add_argument("--reason", type=_reason, help="only what was refused for this reason")
        command.add_argument("--topic", default="", help="only what was refused on this topic")
        command.add_argument("--since", type=since, metavar="TIME", help="2h, 1d, or a time with its offset")
    for command in verbs.choices.values():
        command.add_argument("--json", action="store_true", help="one JSON document on standard output")


def since(text: str) -> tuple[str, int]:
    """("ago", ms) of ``90s``, ``2h``, ``1d``; ("at", ms since the epoch) of a time with its offset."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if found is not None:
        return "ago", int(found[1]) * _UNITS_MS[found[2]]
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = datetime.min  # noqa: DTZ901  # has no offset either, and is refused below
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a duration (90s, 30m, 2h, 1d) nor a time with an offset (2026-12-01T22:00:00Z)"
        )
    return "at", int(at.timestamp() * 1000)


def _reason(text: str) -> str:
    labels = tuple(reason.label for reason in Reject)
    if text not in labels:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no reason{did_you_mean(text, labels)}; allowed: {', '.join(labels)}"
        )
    return text


def _count(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= LIMIT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is out of range; allowed: 1 to {LIMIT_MAX}")
    return int(text)


def _schema_id(text: str) -> int:
    if not text.isdigit() or int(text) > SCHEMA_ID_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no schema id; allowed: 0 to {SCHEMA_ID_MAX}")
    return int(text)
