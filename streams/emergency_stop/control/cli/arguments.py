"""The commands that take arguments: how they are spelled, and where they are carried out."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from emergency_stop.bootstrap import load, prepare
from emergency_stop.config import Settings
from emergency_stop.control.cli import (
    dead_letter_arguments,
    privacy_arguments,
    report_arguments,
    silence_arguments,
    trigger_arguments,
)
from emergency_stop.control.errors import UnavailableError
from emergency_stop.domain.values import LifecycleKind, Scope, StopLevel

_TIMEOUT_S_MAX: Final = 3_600
_LASTING: Final = ("service", "produce")
_EVENTS: Final = tuple(kind.value for kind in LifecycleKind)
Command = Callable[[argparse.Namespace, Settings], int]


def run(options: argparse.Namespace, settings: Settings) -> int:
    """Carry out a parsed command."""
    prepare(settings)
    if options.command not in _LASTING and settings.log_level != "debug":
        # A command that ends tells its outcome itself; what adapters and drivers met on the way would only surround it.
        for speaker in ("emergency_stop.adapters", "clickhouse_connect", "urllib3"):
            logging.getLogger(speaker).setLevel(logging.ERROR)
    command: Command = load(options.run)
    try:
        return command(options, settings)
    except UnavailableError as error:
        print(f"estop {options.command}: {error}", file=sys.stderr)
        return error.exit_code


def add_to(commands: Any) -> None:
    """Add every command to argparse's subparsers."""
    _stop(commands)
    _resume(commands)
    _reset(commands)
    _drill(commands)
    _recover(commands)
    _status(commands)
    _events(commands)
    trigger_arguments.add_to(commands)
    silence_arguments.add_to(commands)
    dead_letter_arguments.add_to(commands)
    _explain(commands)
    report_arguments.add_to(commands)
    _check(commands)
    _keys(commands)
    _audit(commands)
    privacy_arguments.add_to(commands)
    _service(commands)
    _produce(commands)


_LEVELS: Final = tuple(level.value for level in StopLevel)
_CARRIED: Final = (StopLevel.IMMEDIATE.value, StopLevel.GRACEFUL.value)
_CLI: Final = "emergency_stop.control.cli"


def _scope(text: str) -> Scope:
    try:
        return Scope.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _moment(text: str) -> int:
    """Milliseconds since the epoch of a time with its offset."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = datetime.min  # noqa: DTZ901  # has no offset either, and is refused below
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time with an offset; for example 2026-12-01T22:00:00Z")
    return int(at.timestamp() * 1000)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= _TIMEOUT_S_MAX:
        raise argparse.ArgumentTypeError(f"{text} is out of range; allowed: more than 0 to {_TIMEOUT_S_MAX} seconds")
    return value


def _json(command: Any) -> None:
    command.add_argument("--json", action="store_true", help="one JSON document on standard output")


def _stop(commands: Any) -> None:
    command = commands.add_parser("stop", help="stop an account, a service or everything, now")
    command.add_argument("scope", type=_scope, metavar="SCOPE", help="global, service:<name> or account:<id>")
    command.add_argument("--reason", required=True, help="why; kept in the audit")
    command.add_argument("--level", choices=_LEVELS, default=_LEVELS[0])
    command.add_argument("--carries", choices=_CARRIED, help="the level of a service_specific stop; default: graceful")
    command.add_argument("--at", type=_moment, metavar="TIME", help="when a maintenance stop begins; default: now")
    command.add_argument("--services", type=_names, default=[], metavar="A,B", help="only these; default: all")
    command.add_argument("--wait", action="store_true", help="wait for the proof; 75 when it does not come")
    command.add_argument("--timeout", type=_seconds, help="seconds to wait; default: the level's deadline and 10")
    command.add_argument("--by", default="", help="who asks; default: the user at this terminal")
    _json(command)
    command.set_defaults(run=f"{_CLI}.stop:run_stop")


def _reset(commands: Any) -> None:
    command = commands.add_parser("reset", help="release a latch, so that a resume or a recovery may follow")
    command.add_argument("target", metavar="SCOPE|EMERGENCY", help="what you have looked at")
    command.add_argument("--reason", required=True, help="why; kept in the audit")
    command.add_argument("--epoch", type=int, help="the hold's epoch that you have seen; default: the newest")
    command.add_argument("--timeout", type=_seconds, help="seconds to wait for the answer; default: 30")
    command.add_argument("--by", default="", help="who asks; default: the user at this terminal")
    _json(command)
    command.set_defaults(run=f"{_CLI}.reset:run_reset")


def _drill(commands: Any) -> None:
    command = commands.add_parser("drill", help="walk the whole path of a stop, and stop nothing")
    command.add_argument("scope", type=_scope, metavar="SCOPE", help="global, service:<name> or account:<id>")
    command.add_argument("--level", choices=_LEVELS, default=_LEVELS[0])
    command.add_argument("--services", type=_names, default=[], metavar="A,B", help="only these; default: all")
    command.add_argument("--reason", default="drill", help="why; kept in the audit")
    command.add_argument("--timeout", type=_seconds, help="seconds to wait; default: twice the level's deadline and 20")
    command.add_argument("--by", default="", help="who asks; default: the user at this terminal")
    _json(command)
    command.set_defaults(run=f"{_CLI}.drill:run_drill")
    drills = commands.add_parser("drills", help="when each level was last proven for each service; 1 where long ago")
    _json(drills)
    drills.set_defaults(run=f"{_CLI}.drill:run_drills")


def _resume(commands: Any) -> None:
    command = commands.add_parser("resume", help="lift the hold of a scope; refused when a newer stop exists")
    command.add_argument("scope", type=_scope, metavar="SCOPE", help="exactly the scope that is held")
    command.add_argument("--reason", required=True, help="why; kept in the audit")
    command.add_argument("--epoch", type=int, help="the hold's epoch that you have seen; default: the newest")
    command.add_argument("--emergency", metavar="ID", help="only this emergency's part of the hold; default: all")
    command.add_argument("--timeout", type=_seconds, help="seconds to wait for the answer; default: 30")
    command.add_argument("--by", default="", help="who asks; default: the user at this terminal")
    _json(command)
    command.set_defaults(run=f"{_CLI}.stop:run_resume")


def _recover(commands: Any) -> None:
    command = commands.add_parser("recover", help="undo a stop step by step, watched, and back at any doubt")
    command.add_argument("target", metavar="SCOPE|EMERGENCY", help="the scope that is held, or an emergency's id")
    command.add_argument("--reason", required=True, help="why; kept in the audit")
    command.add_argument("--procedure", metavar="NAME", help="how; default: what fits the emergency")
    command.add_argument("--timeout", type=_seconds, help="seconds to follow it; default: 3600; it goes on by itself")
    command.add_argument("--by", default="", help="who asks; default: the user at this terminal")
    _json(command)
    command.set_defaults(run=f"{_CLI}.recover:run_recover")


def _status(commands: Any) -> None:
    status = commands.add_parser("status", help="what is held, and which services are alive")
    _json(status)
    status.set_defaults(run=f"{_CLI}.status:run_status")
    emergencies = commands.add_parser("emergencies", help="the newest emergencies")
    emergencies.add_argument("--limit", type=int, default=20, help="how many; default: 20")
    _json(emergencies)
    emergencies.set_defaults(run=f"{_CLI}.status:run_emergencies")


def _events(commands: Any) -> None:
    command = commands.add_parser("events", help="what happened: emergencies, stops of services, recoveries, triggers")
    command.add_argument("--follow", action="store_true", help="what happens from now on, until Ctrl-C; a line each")
    command.add_argument("--event", action="append", default=[], choices=_EVENTS, help="only these; default: all")
    command.add_argument("--scope", type=_scope, help="only of exactly this scope")
    command.add_argument("--limit", type=int, default=20, help="how many of the newest; default: 20")
    _json(command)
    command.set_defaults(run=f"{_CLI}.events:run_events")


def _explain(commands: Any) -> None:
    explain = commands.add_parser("explain", help="why a hit fired: version, window, threshold, margin, event")
    explain.add_argument("hit", metavar="HIT", help="id of the hit, or of its emergency; or how it begins")
    explain.set_defaults(run=f"{_CLI}.explain:run_explain")
    why_not = commands.add_parser("why-not", help="why a trigger does not fire for an account")
    why_not.add_argument("trigger_id", metavar="TRIGGER")
    why_not.add_argument("account", metavar="ACCOUNT", nargs="?", help="not needed for a trigger over all accounts")
    why_not.set_defaults(run=f"{_CLI}.why_not:run_why_not")
    condition = commands.add_parser("condition", help="whether a trigger's condition has cleared, and why not")
    condition.add_argument("trigger_id", metavar="TRIGGER")
    condition.add_argument("scope", type=_scope, metavar="SCOPE", help="global, service:<name> or account:<id>")
    condition.add_argument("--timeout", type=_seconds, help="seconds to wait for the answer; default: 10")
    condition.set_defaults(run=f"{_CLI}.condition:run_condition")
    for command in (explain, why_not, condition):
        _json(command)


def _check(commands: Any) -> None:
    command = commands.add_parser("check", help="settings, broker, topics, schemas, ClickHouse and keys, in layers")
    _json(command)
    command.set_defaults(run=f"{_CLI}.check:run_check")


def _keys(commands: Any) -> None:
    keys = commands.add_parser("keys", help="keys that commands are signed with: generate, list, trust, retire")
    verbs = keys.add_subparsers(dest="verb", required=True, metavar="VERB")
    generate = verbs.add_parser("generate", help="a new private key in FILE; prints its public half")
    generate.add_argument("file", metavar="FILE", help="must not exist")
    listed = verbs.add_parser("list", help="whom services here trust, and which key signs here")
    trust = verbs.add_parser("trust", help="add public keys to ESTOP_VERIFY_KEYS_FILE; others stay")
    trust.add_argument(
        "file", metavar="FILE", help="public keys, or a private one (its public half); -: standard input"
    )
    retire = verbs.add_parser("retire", help="take a key out of ESTOP_VERIFY_KEYS_FILE; refused while it is in use")
    retire.add_argument("key", metavar="KEY", help="its id, or how it begins")
    retire.add_argument("--offline", action="store_true", help="do not ask the broker who signed last")
    for verb in (generate, listed, trust, retire):
        _json(verb)
    keys.set_defaults(run=f"{_CLI}.keys:run_keys")


def _audit(commands: Any) -> None:
    audit = commands.add_parser("audit", help="the history of decisions, and the proof that it is whole")
    verbs = audit.add_subparsers(dest="verb", required=True, metavar="VERB")
    export = verbs.add_parser("export", help="everything that proves the audit, from ClickHouse into FILE")
    export.add_argument("file", type=Path, metavar="FILE", help="lines of JSON; must not exist")
    export.add_argument("--since", type=_moment, metavar="TIME", help="from the last head before; default: everything")
    verify = verbs.add_parser("verify", help="find what was changed, left out, put in or cut off; needs no broker")
    verify.add_argument("file", type=Path, nargs="?", metavar="FILE", help="an export; default: needs --database")
    verify.add_argument("--database", action="store_true", help="what ClickHouse has now, instead of a file")
    verify.add_argument("--keys", type=Path, metavar="FILE", help="trusted public keys; default: ESTOP_AUDIT_KEYS_FILE")
    verify.add_argument("--heads", type=Path, metavar="FILE", help="heads that were kept elsewhere: all must be there")
    verify.add_argument("--partial", action="store_true", help="it may begin at a signed head, as with export --since")
    for verb in (export, verify):
        _json(verb)
    audit.set_defaults(run=f"{_CLI}.audit:run_audit")


def _service(commands: Any) -> None:
    command = commands.add_parser("service", help="a reference service that works, and obeys")
    command.add_argument("name", metavar="NAME")
    command.add_argument("--accounts", type=int, default=100, help="how many accounts it works for")
    command.add_argument("--rate", type=float, default=20.0, help="actions per second of the whole instance")
    command.set_defaults(run="emergency_stop.control.cli.arguments:run_service")


def _produce(commands: Any) -> None:
    command = commands.add_parser("produce", help="seeded, plausible telemetry, incidents, bad input, replay")
    command.add_argument("--accounts", type=int, default=100)
    command.add_argument("--rate", type=float, default=100.0, help="events per second")
    command.add_argument("--count", type=int, help="stop after so many events")
    command.add_argument("--seconds", type=float, help="stop after so long")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--incident", action="append", default=[], metavar="KIND[:ACCOUNT]", dest="incidents")
    command.add_argument("--bad", type=int, default=0, help="how many broken messages to mix in")
    command.add_argument("--replay", type=Path, metavar="FILE", help='lines of {"topic": …, "fields": {…}}')
    command.set_defaults(run="emergency_stop.control.cli.arguments:run_produce")


def run_service(options: argparse.Namespace, settings: Settings) -> int:
    from emergency_stop.integrations.run import run_service as serve

    return serve(settings, options.name, options.accounts, options.rate)


def run_produce(options: argparse.Namespace, settings: Settings) -> int:
    from emergency_stop.apps.produce import ProduceOptions
    from emergency_stop.apps.produce import run_produce as produce

    wanted = ProduceOptions(
        accounts=options.accounts,
        rate=options.rate,
        count=options.count,
        seconds=options.seconds,
        seed=options.seed,
        incidents=tuple(options.incidents),
        bad=options.bad,
        replay=options.replay,
    )
    return produce(settings, wanted)
