"""``estop events``: what happened, and with ``--follow`` what happens, read from ``estop.lifecycle``."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from typing import Final

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.config import Settings
from emergency_stop.control.cli.output import moment, plain, say, show_json, show_table
from emergency_stop.control.errors import EXIT_OK, UnavailableError
from emergency_stop.control.installation import Installation
from emergency_stop.domain.messages import Lifecycle
from emergency_stop.domain.topics import LIFECYCLE
from emergency_stop.sdk.events import EventsStartError, LifecycleEvents
from emergency_stop.wire.codec import WireError
from emergency_stop.wire.registry import UnknownSchemaError
from emergency_stop.wire.registry_http import build_registry

_HEADER: Final = ("AT", "EVENT", "SCOPE", "SERVICE", "SUCCESS", "TOOK", "TRIGGER", "REASON")


def run_events(options: argparse.Namespace, settings: Settings) -> int:
    """The newest events that match, the newest last; or those that come, until SIGINT or SIGTERM."""
    if options.follow:
        return asyncio.run(_follow(options, settings))
    installation = Installation(settings)
    found: dict[str, Lifecycle] = {}

    def take(record: TailRecord) -> None:
        try:
            event = installation.codec.decode(Lifecycle, record.value)
        except (WireError, UnknownSchemaError):
            installation.unreadable += 1
            return
        if _matches(options, event):
            found.setdefault(event.event_id, event)

    asyncio.run(installation.scan(LIFECYCLE, take))
    events = sorted(found.values(), key=lambda one: (one.at, one.event_id))
    shown = events[max(0, len(events) - options.limit) :]
    if options.json:
        show_json([plain(event) for event in shown])
    else:
        show_table(_HEADER, [_row(event) for event in shown])
        if len(shown) < len(events):
            say(f"{len(events) - len(shown)} older ones are not shown (--limit)")
    if installation.unreadable:
        say(f"warning: {installation.unreadable} records could not be read and are not shown")
    return EXIT_OK


def _matches(options: argparse.Namespace, event: Lifecycle) -> bool:
    return (not options.event or event.event.value in options.event) and (
        options.scope is None or event.scope == str(options.scope)
    )


async def _follow(options: argparse.Namespace, settings: Settings) -> int:
    events = LifecycleEvents(settings.kafka, registry=build_registry(settings.registry_url))
    stream = events.stream(*options.event, scope=options.scope)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stream.end)
    try:
        async with events:
            say("following; what happens from now on is printed (end with Ctrl-C)")
            async for event in stream:
                print(json.dumps(plain(event), ensure_ascii=False) if options.json else _line(event), flush=True)
    except EventsStartError as error:
        raise UnavailableError(str(error)) from None
    return EXIT_OK


def _row(event: Lifecycle) -> tuple[str | None, ...]:
    success = None if event.success is None else "yes" if event.success else "no"
    took = None if event.duration_ms is None else f"{event.duration_ms} ms"
    return (
        moment(event.at), event.event.value, event.scope, event.service, success, took, event.trigger_id, event.reason,
    )  # fmt: skip


def _line(event: Lifecycle) -> str:
    return "  ".join(text for text in _row(event) if text)
