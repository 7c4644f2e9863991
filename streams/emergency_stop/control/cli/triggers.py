"""``estop triggers add``, ``list``, ``remove``: what the detectors watch for. They follow ``estop.triggers``."""

from __future__ import annotations

import argparse
import asyncio
import getpass
from collections.abc import Sequence

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.config import Settings
from emergency_stop.control.cli.output import plain, say, show_json, show_table
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_OK
from emergency_stop.control.installation import Installation
from emergency_stop.control.trigger_files import load_definitions, read_definitions
from emergency_stop.control.trigger_lookup import NoTriggerError, look_up, standing_versions
from emergency_stop.control.trigger_texts import condition, watched
from emergency_stop.domain.default_triggers import builtin_triggers, default_definitions
from emergency_stop.domain.topics import TRIGGERS
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.definitions import stable_version
from emergency_stop.rules.versions import Author, after, removed

_SHOWN_MAX = 20


def run_add(options: argparse.Namespace, settings: Settings) -> int:
    """Add or change triggers. All definitions are checked before the first is published."""
    by = author(options.by)
    try:
        definitions = default_definitions() if options.default_pack else load_definitions(options.file)
        wanted = read_definitions(definitions, settings.services, by, options.canary)
        published = asyncio.run(_publish(Installation(settings), wanted))
    except ValueError as error:
        say(f"estop triggers add: {error}")
        return EXIT_BAD_INPUT
    if options.json:
        show_json([plain(trigger) for trigger in published])
    else:
        for trigger in published[:_SHOWN_MAX]:
            print(f"{trigger.trigger_id} version {trigger.version}: {condition(trigger)}; {watched(trigger)}")
        if len(published) > _SHOWN_MAX:
            print(f"and {len(published) - _SHOWN_MAX} more")
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
            watched(one),
            condition(one),
            one.stop_level.value,
            ",".join(one.target_services),
        )
        for one in found
    ]
    show_table(("TRIGGER", "VERSION", "MODE", "WATCHES", "CONDITION", "LEVEL", "SERVICES"), rows)
    if installation.unreadable:
        say(f"warning: {installation.unreadable} records are no triggers; the detectors do not follow them either")
    return EXIT_OK


def run_remove(options: argparse.Namespace, settings: Settings) -> int:
    """Take a trigger out of force. The record of it stays."""
    installation = Installation(settings)
    try:
        found = asyncio.run(look_up(installation, options.trigger_id)).standing
    except NoTriggerError as error:
        say(f"estop triggers remove: {error}")
        return EXIT_BAD_INPUT
    if found.removed:
        say(f"estop triggers remove: {found.trigger_id} is removed already (version {found.version})")
        return EXIT_BAD_INPUT
    gone = removed(found, author(options.by))
    asyncio.run(installation.publish_versions([gone], [found]))
    if options.json:
        show_json(plain(gone))
    else:
        print(f"{gone.trigger_id} removed (version {gone.version}); 'estop triggers rollback' brings it back")
    return EXIT_OK


def author(by: str) -> Author:
    """Who types this command, now; ``by`` is what ``--by`` says."""
    return Author(by or f"cli:{getpass.getuser()}", SystemClock().now_ms())


async def standing_triggers(installation: Installation) -> list[Trigger]:
    """Every trigger in force: the built-in ones, and what the topic holds."""
    async with installation.following(TRIGGERS):
        pass
    builtin = builtin_triggers(installation.settings.preventive_stop_level)
    return [*builtin, *(trigger for trigger in installation.all_of(TRIGGERS, Trigger) if not trigger.removed)]


async def _publish(installation: Installation, wanted: Sequence[Trigger]) -> list[Trigger]:
    """Each as the version after the one that stands, so that no detector takes it for old.

    Raises ``ValueError`` where detectors would have no room for all that stands then.
    """
    standing = await standing_versions(installation, {trigger.trigger_id for trigger in wanted})
    superseded = list(standing.values())
    versions = []
    for trigger in wanted:
        newer = after(standing.get(trigger.trigger_id), trigger)
        standing[newer.trigger_id] = newer
        versions.append(newer)
    others = [one for one in await standing_triggers(installation) if one.trigger_id not in standing]
    _check_room([*others, *standing.values()])
    await installation.publish_versions(versions, superseded)
    return versions


def _check_room(triggers: Sequence[Trigger]) -> None:
    # compiled kernels: what only lists triggers should not wait for them
    from emergency_stop.detect.page_budget import NoRoomError, check_fits

    try:
        check_fits(triggers, stable_version)
    except NoRoomError:
        raise
    except (KeyError, ValueError):  # somebody else has written some that no detector takes
        check_fits([one for one in triggers if _is_usable(one)], stable_version)


def _is_usable(trigger: Trigger) -> bool:
    from emergency_stop.apps.trigger_book import check_usable

    try:
        check_usable(trigger)
    except (KeyError, ValueError):
        return False
    return True
