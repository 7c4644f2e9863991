"""``estop triggers history``, ``rollback``, ``promote``: a trigger's versions, and the ways between them."""

from __future__ import annotations

import argparse
import asyncio
import json
import uuid
from collections.abc import Callable, Mapping

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.config import Settings
from emergency_stop.control.cli.output import moment, plain, say, show_json, show_table
from emergency_stop.control.cli.triggers import author, no_trigger
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_OK
from emergency_stop.control.installation import Installation
from emergency_stop.control.trigger_texts import condition, watched
from emergency_stop.domain.messages import AuditRecord
from emergency_stop.domain.topics import AUDIT, TRIGGER_HISTORY, TRIGGERS, trigger_history_key
from emergency_stop.domain.triggers import Trigger
from emergency_stop.rules.versions import Author, differences, promoted, rolled_back
from emergency_stop.wire.codec import WireError
from emergency_stop.wire.registry import UnknownSchemaError

#: (the version in force, every kept version by number) → the next version.
Step = Callable[[Trigger, Mapping[int, Trigger]], Trigger]


def run_history(options: argparse.Namespace, settings: Settings) -> int:
    """Every version: who made it, when, and what changed against the one before."""
    installation = Installation(settings)
    standing = asyncio.run(_standing(installation, options.trigger_id))
    if standing is None:
        return _refuse("history", _unknown(installation, options.trigger_id))
    versions = list(asyncio.run(_history(installation, standing)).values())
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
    except ValueError as error:
        return _refuse(options.verb, str(error))
    if options.json:
        show_json(plain(found))
    else:
        print(f"{found.trigger_id} version {found.version}: {condition(found)}; {watched(found)}")
    return EXIT_OK


async def _carry_out(options: argparse.Namespace, installation: Installation, by: Author, step: Step) -> Trigger:
    """Into force first, then into the audit: nothing delays a change that may be urgent. Raises ``ValueError``."""
    standing = await _standing(installation, options.trigger_id)
    if standing is None:
        raise ValueError(_unknown(installation, options.trigger_id))
    newer = step(standing, await _history(installation, standing))
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


async def _standing(installation: Installation, trigger_id: str) -> Trigger | None:
    """The newest version of a trigger, be it a removal."""
    async with installation.following(TRIGGERS):
        pass
    known = {trigger.trigger_id: trigger for trigger in installation.all_of(TRIGGERS, Trigger)}
    return known.get(trigger_id)


async def _history(installation: Installation, standing: Trigger) -> dict[int, Trigger]:
    """Every kept version up to the one in force, ascending. One beyond it was never in force."""
    found: dict[int, Trigger] = {standing.version: standing}

    def take(record: TailRecord) -> None:
        key, _, number = (record.key or b"").decode(errors="replace").rpartition("/")
        if key != standing.trigger_id or record.value is None:
            return
        try:
            one = installation.codec.decode(Trigger, record.value)
        except (WireError, UnknownSchemaError):
            say(f"warning: version {number} in {TRIGGER_HISTORY} is not readable")
            return
        if one.version < standing.version and trigger_history_key(one.trigger_id, one.version) == f"{key}/{number}":
            found[one.version] = one

    await installation.scan(TRIGGER_HISTORY, take)
    return dict(sorted(found.items()))


def _unknown(installation: Installation, trigger_id: str) -> str:
    known = [trigger.trigger_id for trigger in installation.all_of(TRIGGERS, Trigger)]
    return no_trigger(trigger_id, tuple(known))


def _refuse(verb: str, text: str) -> int:
    say(f"estop triggers {verb}: {text}")
    return EXIT_BAD_INPUT
