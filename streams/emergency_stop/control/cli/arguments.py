"""The commands that take arguments: how they are spelled, and where they are carried out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emergency_stop.bootstrap import load, prepare
from emergency_stop.config import Settings
from emergency_stop.domain.values import StopLevel

Command = Callable[[argparse.Namespace, Settings], int]


def run(options: argparse.Namespace, settings: Settings) -> int:
    """Carry out a parsed command."""
    prepare(settings)
    command: Command = load(options.run)
    return command(options, settings)


def add_to(commands: Any) -> None:
    """Add every command to argparse's subparsers."""
    _service(commands)
    _produce(commands)


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


LEVELS = tuple(level.value for level in StopLevel)
