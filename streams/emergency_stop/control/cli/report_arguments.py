"""How ``estop hits`` and ``estop report`` are spelled."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, Final

DAYS_MAX: Final = 3_650
_HITS: Final = "emergency_stop.control.cli.hits"
_REPORT: Final = "emergency_stop.control.cli.report"


def add_to(commands: Any) -> None:
    """Add both to argparse's subparsers."""
    hits = commands.add_parser("hits", help="what people found out about hits: mark")
    verbs = hits.add_subparsers(dest="verb", required=True, metavar="VERB")
    mark = verbs.add_parser("mark", help="say whether a hit was right; triggers are judged by it")
    mark.add_argument("hit", metavar="HIT", help="id of the hit, or of its emergency; or how it begins")
    word = mark.add_mutually_exclusive_group(required=True)
    for name in ("true_positive", "false_positive"):
        word.add_argument(f"--{name.replace('_', '-')}", dest="mark", action="store_const", const=name)
    mark.add_argument("--reason", required=True, type=_text, help="why; kept in the audit")
    mark.add_argument("--by", default="", help="who says so; default: the user at this terminal")
    mark.add_argument("--json", action="store_true", help="one JSON document on standard output")
    mark.set_defaults(run=f"{_HITS}:run_mark")
    report = commands.add_parser(
        "report", help="the analysts' views as tables and plots, or as a page; needs ClickHouse"
    )
    report.add_argument("--since", type=days, default=7, metavar="7d", dest="days", help="whole days; default: 7d")
    report.add_argument("--html", type=Path, metavar="FILE", help="write a page that needs nothing else")
    report.add_argument("--json", action="store_true", help="one JSON document on standard output")
    report.set_defaults(run=f"{_REPORT}:run_report")


def days(text: str) -> int:
    """``7d`` as days, within bounds."""
    found = re.fullmatch(r"([0-9]{1,4})d", text.strip())
    if found is None or not 1 <= int(found[1]) <= DAYS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days; allowed: 1d to {DAYS_MAX}d")
    return int(found[1])


def _text(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; say why")
    return text
