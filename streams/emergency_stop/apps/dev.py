"""``estop dev``: the whole system on this machine, staying up. For trying things, not for production."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Final

from emergency_stop.adapters.embedded_broker import BrokerUnavailableError
from emergency_stop.adapters.kafka_sign_in import KafkaSignInError
from emergency_stop.apps.process import run_until_signal
from emergency_stop.apps.sink.query import ADDRESS_FILE
from emergency_stop.apps.stack.child import StackError
from emergency_stop.apps.stack.stack import Stack
from emergency_stop.config import EXIT_CONFIG, Settings, SettingsError

EXIT_UNAVAILABLE: Final = 69
_ACCOUNTS: Final = 20
_RATE: Final = 20.0


def say(text: str) -> None:
    """A line for the person at the terminal; standard output stays free for results."""
    print(text, file=sys.stderr, flush=True)


def uses_embedded_broker() -> bool:
    """An explicit ESTOP_BROKERS means: that broker. Otherwise the embedded one."""
    return not os.environ.get("ESTOP_BROKERS")


def run_dev(settings: Settings) -> int:
    """Keep the stack up until SIGINT or SIGTERM; blocking. Returns the exit code."""
    try:
        return run_until_signal(lambda stop: _serve(settings, stop))
    except (BrokerUnavailableError, StackError) as error:
        say(f"estop dev: {error}")
        return EXIT_UNAVAILABLE
    except (KafkaSignInError, SettingsError) as error:
        say(f"estop dev: {error}")
        return EXIT_CONFIG


async def _serve(settings: Settings, stop: asyncio.Event) -> int:
    stack = Stack(settings, say, embedded=uses_embedded_broker(), accounts=_ACCOUNTS, rate=_RATE)
    async with stack:
        for line in guidance(stack):
            say(line)
        await stop.wait()
        say("stopping everything")
    return 0


def guidance(stack: Stack) -> list[str]:
    """Where everything listens, and the next commands to type."""
    query = json.loads((stack.settings.data_dir / ADDRESS_FILE).read_text())["url"]
    listening = [f"  {child.name:<22} {child.url}/metrics  /livez  /readyz" for child in stack.children.values()]
    environment = f"export ESTOP_BROKERS={stack.settings.brokers} ESTOP_DATA_DIR={stack.settings.data_dir}"
    return [
        "",
        "Everything is up. NOT FOR PRODUCTION: one machine, broker in memory, keys on disk.",
        "",
        f"  {'broker':<22} {stack.settings.brokers}",
        f"  {'SQL (read-only)':<22} {query}",
        *listening,
        "",
        "In another terminal, type:",
        f"  {environment}",
        "  estop status",
        "  estop produce --accounts 20 --rate 50 --seconds 10 --incident detection:acc-000007",
        "  estop emergencies",
        "  estop stop account:acc-000003 --level immediate --reason 'trying it' --wait",
        "  curl -s --data-binary 'SELECT scope, state, time_to_stop_ms FROM emergencies' " + query,  # noqa: S608  (a hint to type)
        "",
        "Ctrl-C ends everything.",
    ]
