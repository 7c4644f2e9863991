"""How ``estop triggers backtest`` is spelled."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from emergency_stop.control.cli.dead_letter_arguments import since

_RUN: Final = "emergency_stop.control.cli.backtest:run_backtest"
_DAY_MS: Final = 86_400_000
_DEFAULT_SINCE: Final = ("ago", 7 * _DAY_MS)
_EXAMPLES: Final = """\
examples:
  estop triggers backtest --since 7d --compare        are the hits of a week those that a replay gives?
  estop triggers backtest new.yaml --since 30d        what would these triggers have done?
  estop triggers backtest --trigger default-suspension-risk --sweep riskScore=60:95:5
                                                      which threshold would have been right, by marked hits?
  estop triggers backtest new.yaml --sweep failures=3:9:1 --outcomes incidents.csv --json

Nothing is written, and no broker is needed. Exit code 1 says that --compare found a difference.
"""


def add_to(verbs: Any) -> None:
    """Add the verb to those of ``triggers``."""
    backtest = verbs.add_parser(
        "backtest", help="replay history from ClickHouse through the production detector", epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    backtest.add_argument(
        "file", type=Path, nargs="?", metavar="FILE",
        help="definitions to try instead of the triggers of the time; - reads stdin",
    )  # fmt: skip
    backtest.add_argument(
        "--since", type=since, default=_DEFAULT_SINCE, metavar="TIME",
        help="where hits begin to count: 2h, 7d (the default), or a time with its offset",
    )  # fmt: skip
    backtest.add_argument("--until", type=since, metavar="TIME", help="where they end to; default: now")
    backtest.add_argument(
        "--warm-up", type=since, metavar="DURATION",
        help="how much before --since fills windows; default: the longest window, for_ms and cooldown together",
    )  # fmt: skip
    backtest.add_argument("--trigger", action="append", default=[], metavar="ID", help="only this one; may be repeated")
    backtest.add_argument(
        "--sweep", action="append", default=[], metavar="NAME=LOW:HIGH:STEP",
        help="a threshold's values side by side; may be repeated: every combination",
    )  # fmt: skip
    backtest.add_argument(
        "--outcomes", type=Path, metavar="FILE",
        help="CSV with account,from,to,outcome that says what was right, in place of marks of hits",
    )  # fmt: skip
    backtest.add_argument("--compare", action="store_true", help="show how the hits differ from those on record")
    backtest.add_argument("--hits", action="store_true", help="list every hit")
    backtest.set_defaults(run=_RUN)
