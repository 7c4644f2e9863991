"""How the commands of ``estop triggers`` are spelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from emergency_stop.control.cli import backtest_arguments

_TRIGGERS: Final = "emergency_stop.control.cli.triggers"
_VERSIONS: Final = "emergency_stop.control.cli.trigger_versions"
_TRIALS: Final = "emergency_stop.control.cli.trigger_trials"


def add_to(commands: Any) -> None:
    """Add ``triggers`` and its verbs to argparse's subparsers."""
    triggers = commands.add_parser("triggers", help="what the detectors watch for")
    verbs = triggers.add_subparsers(dest="verb", required=True, metavar="VERB")
    _in_force(verbs)
    _versions(verbs)
    _trials(verbs)
    for verb in verbs.choices.values():
        verb.add_argument("--json", action="store_true", help="one JSON document on standard output")


def _in_force(verbs: Any) -> None:
    add = verbs.add_parser("add", help="add or change triggers from JSON or YAML; running detectors follow")
    add.add_argument("file", type=Path, nargs="?", metavar="FILE", help="a definition or a list of them; - reads stdin")
    add.add_argument("--default-pack", action="store_true", help="those that a new installation starts with")
    add.add_argument("--canary", type=int, metavar="PERCENT", help="the share of accounts that they watch at first")
    _by(add)
    add.set_defaults(run=f"{_TRIGGERS}:run_add")
    listing = verbs.add_parser("list", help="the triggers in force")
    listing.set_defaults(run=f"{_TRIGGERS}:run_list")
    remove = verbs.add_parser("remove", help="take a trigger out of force")
    remove.add_argument("trigger_id", metavar="ID")
    _by(remove)
    remove.set_defaults(run=f"{_TRIGGERS}:run_remove")


def _versions(verbs: Any) -> None:
    history = verbs.add_parser("history", help="a trigger's versions: who, when, and what changed")
    rollback = verbs.add_parser("rollback", help="bring an earlier version back, as the next one")
    rollback.add_argument("--to", type=int, metavar="VERSION", help="default: what stood before")
    promote = verbs.add_parser("promote", help="let a canary watch every account")
    for verb, function in ((history, "run_history"), (rollback, "run_rollback"), (promote, "run_promote")):
        verb.add_argument("trigger_id", metavar="ID")
        verb.set_defaults(run=f"{_VERSIONS}:{function}")
    for verb in (rollback, promote):
        verb.add_argument("--reason", default="", help="why; kept in the audit")
        _by(verb)


def _trials(verbs: Any) -> None:
    test = verbs.add_parser("test", help="play cases of telemetry through the detector, without a broker")
    test.add_argument("files", type=Path, nargs="+", metavar="FILE", help="YAML; see docs/triggers.md")
    test.set_defaults(run=f"{_TRIALS}:run_test")
    lint = verbs.add_parser("lint", help="name what is valid and still unwise")
    lint.add_argument("files", type=Path, nargs="*", metavar="FILE", help="definitions or cases; default: the pack")
    lint.set_defaults(run=f"{_TRIALS}:run_lint")
    backtest_arguments.add_to(verbs)


def _by(verb: Any) -> None:
    verb.add_argument("--by", default="", help="who asks; default: the user at this terminal")
