"""``estop triggers history``, ``rollback``, ``promote``: a trigger's versions, and the ways between them."""

from __future__ import annotations

import argparse
import asyncio
import json
import uuid
from collections.abc import Callable, Mapping

from emergency_stop.config import Settings
from emergency_stop.control.cli.output import moment, plain, say, show_json, show_table
from emergency_stop.control.cli.triggers import author
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_OK
from emergency_stop.control.installation import Installation
from emergency_stop.control.trigger_lookup import NoTriggerError, look_up
from emergency_stop.control.trigger_texts import condition, watched
from emergency_stop.domain.messages import AuditRecord
from emergency_stop.domain.topics import AUDIT
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.versions import Author, differences, promoted, rolled_back

#: (the version in force, every kept version by number) → the next version.
Step = Callable[[Trigger, Mapping[int, Trigger]], Trigger]


def run_history(options: argparse.Namespace, settings: Settings) -> int:
    """Every version: who made it, when, and what changed against the one before."""
    installation = Installation(settings)
    try:
        versions = list(asyncio.run(look_up(installation, options.trigger_id)).versions.values())
    except NoTriggerError as error:
        return _refuse("history", str(error))
    if installation.unreadable:
        say(f"warning: {installation.unreadable} versions are not readable")
    changes = [differences(before, now) for before, now in zip([None, *versions], versions, strict=False)]
    if options.json:
        told = [plain(one) | {"changes": lines} for one, lines in zip(versions, changes, strict=True)]
        show_json(told)
        return EXIT_OK
    rows = [
        (one.version, moment(one.updated_at), one.updated_by, "; ".join(lines))
        for one, lines in zip(versions, changes, strict=True)
    ]
    show_table(("VERSION", "WHEN", "WHO", "CHANGES"), rows)
    return EXIT_OK


def run_rollback(options: argparse.Namespace, settings: Settings) -> int:
    """Publish an earlier version's content as the next version. Detectors follow at once."""
    by = author(options.by)
    return _step(options, settings, by, lambda standing, history: rolled_back(standing, history, by, options.to))


def run_promote(options: argparse.Namespace, settings: Settings) -> int:
    """Let a canary watch every account."""
    by = author(options.by)
    return _step(options, settings, by, lambda standing, _: promoted(standing, by))


def _step(options: argparse.Namespace, settings: Settings, by: Author, step: Step) -> int:
    installation = Installation(settings)
    try:
        found = asyncio.run(_carry_out(options, installation, by, step))
    except (NoTriggerError, ValueError) as error:
        return _refuse(options.verb, str(error))
    if options.json:
        show_json(plain(found))
    else:
        print(f"{found.trigger_id} version {found.version}: {condition(found)}; {watched(found)}")
    return EXIT_OK


async def _carry_out(options: argparse.Namespace, installation: Installation, by: Author, step: Step) -> Trigger:
    """Into force first, then into the audit: nothing delays a change that may be urgent."""
    found = await look_up(installation, options.trigger_id)
    standing = found.standing
    newer = step(standing, found.versions)
    await installation.publish_versions([newer], [standing])
    subject, change_id = f"trigger:{newer.trigger_id}", str(uuid.uuid4())
    record = AuditRecord(
        audit_id=change_id,
        at=by.at_ms,
        actor=by.name,
        action=f"trigger_{options.verb}",
        subject=subject,
        reason=options.reason,
        correlation_id=change_id,
        before=json.dumps({"version": standing.version}),
        after=json.dumps({"version": newer.version, "changes": differences(standing, newer)}, ensure_ascii=False),
    )
    await installation.publish(AUDIT, subject, record)
    return newer


def _refuse(verb: str, text: str) -> int:
    say(f"estop triggers {verb}: {text}")
    return EXIT_BAD_INPUT
