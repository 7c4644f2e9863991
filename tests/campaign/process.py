"""One process under test: ``detector``, ``coordinator``, ``sink``, or ``service NAME ACCOUNTS RATE``."""

from __future__ import annotations

import logging
import sys

from emergency_stop.config import Settings


def main(role: str, *arguments: str) -> int:
    settings = Settings.from_env()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    match role:
        case "detector":
            from emergency_stop.apps import detector

            return detector.run(settings)
        case "coordinator":
            from emergency_stop.apps import coordinator

            return coordinator.run(settings)
        case "sink":
            from emergency_stop.apps.sink import main as sink

            return sink.run(settings)
        case _:
            from emergency_stop.integrations.run import run_service

            name, accounts, rate = arguments
            return run_service(settings, name, int(accounts), float(rate))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
