"""``estop hits mark``: what a person found out about a hit. Kept in the audit; triggers are judged by it."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import uuid

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.config import Settings
from emergency_stop.control.cli.output import plain, say, show_json
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_OK
from emergency_stop.control.hit_lookup import find_hit
from emergency_stop.control.installation import Installation
from emergency_stop.domain.ids import derived_id
from emergency_stop.domain.messages import AuditRecord, Hit
from emergency_stop.domain.topics import AUDIT

#: The view ``hit_marks`` looks for this action, and for the name in ``after``.
HIT_MARKED = "hit_marked"


def run_mark(options: argparse.Namespace, settings: Settings) -> int:
    """Write the mark down. Of several marks of one hit the newest counts; a mark changes no state."""
    return asyncio.run(_mark(options, Installation(settings)))


async def _mark(options: argparse.Namespace, installation: Installation) -> int:
    found = await find_hit(installation, options.hit)
    if isinstance(found, str):
        say(f"estop hits mark: {found}")
        return EXIT_BAD_INPUT
    record = mark(
        found,
        options.mark,
        reason=options.reason,
        by=options.by.strip() or f"cli:{getpass.getuser()}",
        now_ms=SystemClock().now_ms(),
        mark_id=str(uuid.uuid4()),
    )
    await installation.publish(AUDIT, record.subject, record)
    if options.json:
        show_json(plain(record))
    else:
        print(f"hit {found.hit_id} of {found.trigger_id} on {found.scope} is marked: {options.mark.replace('_', ' ')}")
    return EXIT_OK


def mark(hit: Hit, word: str, *, reason: str, by: str, now_ms: int, mark_id: str) -> AuditRecord:
    """The record of a mark; ``word`` is ``true_positive`` or ``false_positive``."""
    return AuditRecord(
        audit_id=derived_id("audit", HIT_MARKED, hit.hit_id, mark_id),
        at=now_ms,
        actor=by,
        action=HIT_MARKED,
        subject=hit.hit_id,
        reason=reason,
        correlation_id=hit.correlation_id,
        after=json.dumps({"mark": word, "trigger_id": hit.trigger_id, "trigger_version": hit.trigger_version}),
    )
