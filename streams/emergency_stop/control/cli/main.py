"""``estop``: parse, find the command, run it. Every import of weight happens inside a command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from emergency_stop.bootstrap import PROCESSES, run_process
from emergency_stop.config import EXIT_CONFIG, Settings, SettingsError
from emergency_stop.control.cli import arguments

_HELP: Final = {
    "detector": "telemetry in, hits out",
    "coordinator": "hits and requests in, holds and commands out",
    "sink": "every topic into ClickHouse",
    "notifier": "tells people, and carries out the last resort",
    "migrate": "bring the ClickHouse tables up to date",
    "dev": "the whole system on this machine, staying up; not for production",
    "demo": "the main job as a story, about a minute; ends with one line of JSON",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``estop``. Returns the exit code; 78 for wrong settings."""
    options = parser().parse_args(argv)
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        if options.command == "check":
            from emergency_stop.control.cli.check import settings_failed

            return settings_failed(error.problems, as_json=options.json)
        for problem in error.problems:
            print(f"estop: {problem}", file=sys.stderr)
        return EXIT_CONFIG
    if options.command in PROCESSES:
        how = f" {options.how}" if options.command == "migrate" and options.how else ""
        return run_process(options.command + how, settings)
    return arguments.run(options, settings)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="estop", description="Emergency stops that are proven.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in _HELP.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == "migrate":
            _migrate(command)
    arguments.add_to(commands)
    return top


def _migrate(command: argparse.ArgumentParser) -> None:
    how = command.add_mutually_exclusive_group()
    for option, text in (
        ("--dry-run", "print the statements, and change nothing"),
        ("--roles", "make the analysts' read-only role instead, on a server"),
    ):
        how.add_argument(option, dest="how", action="store_const", const=option, default="", help=text)


if __name__ == "__main__":
    sys.exit(main())
