"""``estop triggers``: what the detectors watch for. Changes reach running detectors through ``estop.triggers``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.config import Settings, did_you_mean
from emergency_stop.control.cli.output import plain, say, show_json, show_table
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_OK
from emergency_stop.control.installation import Installation
from emergency_stop.domain.default_triggers import BUILTIN_KINDS, builtin_triggers, default_pack
from emergency_stop.domain.topics import TRIGGERS
from emergency_stop.domain.trigger_definitions import InvalidTriggerError
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.definitions import read_trigger


class BadDefinitionError(ValueError):
    """The definitions cannot be taken; the text has a line per problem."""


def run_add(options: argparse.Namespace, settings: Settings) -> int:
    """Add or change triggers. All definitions are checked before the first is published."""
    now_ms = SystemClock().now_ms()
    try:
        wanted = list(default_pack(now_ms)) if options.default_pack else _read(options.file, settings, now_ms)
    except BadDefinitionError as error:
        say(f"estop triggers add: {error}")
        return EXIT_BAD_INPUT
    published = asyncio.run(_publish(Installation(settings), wanted))
    if options.json:
        show_json([plain(trigger) for trigger in published])
    else:
        for trigger in published:
            print(f"{trigger.trigger_id} version {trigger.version}: {_condition(trigger)}")
    return EXIT_OK


def run_list(options: argparse.Namespace, settings: Settings) -> int:
    """Every trigger in force, the built-in ones included."""
    installation = Installation(settings)
    found = asyncio.run(standing_triggers(installation))
    if options.json:
        show_json([plain(trigger) for trigger in found])
        return EXIT_OK
    rows = [
        (
            one.trigger_id,
            one.version,
            one.mode.value if one.is_active else "off",
            one.account_id or "every account",
            _condition(one),
            one.stop_level.value,
            ",".join(one.target_services),
        )
        for one in found
    ]
    show_table(("TRIGGER", "VERSION", "MODE", "ACCOUNT", "CONDITION", "LEVEL", "SERVICES"), rows)
    if installation.unreadable:
        say(f"warning: {installation.unreadable} records are no triggers; the detectors do not follow them either")
    return EXIT_OK


def run_remove(options: argparse.Namespace, settings: Settings) -> int:
    """Take a trigger out of force. The record of it stays."""
    installation = Installation(settings)
    if options.trigger_id in BUILTIN_KINDS:
        say(f"estop triggers remove: {options.trigger_id} is built in and cannot be removed")
        return EXIT_BAD_INPUT
    known = {trigger.trigger_id: trigger for trigger in asyncio.run(_standing(installation))}
    found = known.get(options.trigger_id)
    if found is None:
        say(f"estop triggers remove: no trigger {options.trigger_id!r}{did_you_mean(options.trigger_id, tuple(known))}")
        return EXIT_BAD_INPUT
    now_ms = SystemClock().now_ms()
    gone = replace(found, version=found.version + 1, is_active=False, removed=True, updated_by="cli", updated_at=now_ms)
    asyncio.run(installation.publish(TRIGGERS, gone.trigger_id, gone))
    if options.json:
        show_json(plain(gone))
    else:
        print(f"{gone.trigger_id} removed (version {gone.version})")
    return EXIT_OK


async def standing_triggers(installation: Installation) -> list[Trigger]:
    """Every trigger in force: the built-in ones, and what the topic holds."""
    return [*builtin_triggers(installation.settings.preventive_stop_level), *await _standing(installation)]


async def _standing(installation: Installation) -> list[Trigger]:
    async with installation.following(TRIGGERS):
        pass
    return [trigger for trigger in installation.all_of(TRIGGERS, Trigger) if not trigger.removed]


async def _publish(installation: Installation, wanted: Sequence[Trigger]) -> list[Trigger]:
    """Each with a version above the one that stands, so that no detector takes it for old."""
    async with installation.following(TRIGGERS):
        versions = {trigger.trigger_id: trigger.version for trigger in installation.all_of(TRIGGERS, Trigger)}
    published = []
    for trigger in wanted:
        newer = replace(trigger, version=max(trigger.version, versions.get(trigger.trigger_id, 0) + 1))
        await installation.publish(TRIGGERS, newer.trigger_id, newer)
        versions[newer.trigger_id] = newer.version
        published.append(newer)
    return published


def _read(path: Path | None, settings: Settings, now_ms: int) -> list[Trigger]:
    """One definition or a list of them. Raises ``BadDefinitionError`` with every problem of every one."""
    if path is None:
        raise BadDefinitionError("name a FILE with definitions, - for standard input, or --default-pack")
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
        document = json.loads(text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadDefinitionError(f"{path} is not readable JSON: {error}") from None
    definitions = document if isinstance(document, list) else [document]
    triggers, problems = [], []
    for number, definition in enumerate(definitions):
        try:
            triggers.append(_parsed(definition, settings, now_ms))
        except (InvalidTriggerError, BadDefinitionError) as error:
            where = f"definition {number + 1}" if len(definitions) > 1 else str(path)
            problems += [f"{where}: {problem}" for problem in getattr(error, "problems", (error,))]
    if problems:
        raise BadDefinitionError("nothing was added\n  " + "\n  ".join(problems))
    return triggers


def _parsed(definition: Any, settings: Settings, now_ms: int) -> Trigger:
    if not isinstance(definition, dict):
        raise BadDefinitionError("a definition must be a JSON object")
    trigger = read_trigger(definition, services=settings.services, updated_by="cli", updated_at=now_ms)
    if trigger.trigger_id in BUILTIN_KINDS:
        raise BadDefinitionError(f"trigger_id={trigger.trigger_id!r}: is built in and cannot be changed")
    return trigger


def _condition(trigger: Trigger) -> str:
    limits = " ".join(f"{name}={value:g}" for name, value in sorted(trigger.thresholds.items()))
    return f"{trigger.trigger_type.value} {limits} within {trigger.time_window / 1000:g} s"
