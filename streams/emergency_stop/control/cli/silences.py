"""``estop silence``: who hides which notices, why, and until when. On record in the audit before it hides anything."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import uuid
from collections.abc import Sequence
from dataclasses import replace

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.config import Settings, did_you_mean
from emergency_stop.control.cli.output import moment, plain, say, show_json, show_table
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_OK
from emergency_stop.control.installation import Installation
from emergency_stop.domain.default_triggers import builtin_triggers
from emergency_stop.domain.ids import derived_id
from emergency_stop.domain.messages import AuditRecord, Silence
from emergency_stop.domain.topics import AUDIT, SILENCES, TRIGGERS
from emergency_stop.domain.triggers import Trigger


def run_add(options: argparse.Namespace, settings: Settings) -> int:
    """Hide what matches from now on. A name that matches nothing is refused: it would hide nothing, in silence."""
    named = (options.scope, options.trigger, options.service)
    if any(named) == options.everything:
        both = (
            "excludes --scope, --trigger and --service"
            if options.everything
            else "is needed for a silence without them"
        )
        return _refuse("add", f"--everything {both}; a silence names what it hides")
    if options.service and options.service not in settings.services:
        hint = did_you_mean(options.service, settings.services)
        allowed = ", ".join(settings.services)
        return _refuse(
            "add", f"--service has unknown name {options.service!r}{hint}; allowed: {allowed} (ESTOP_SERVICES)"
        )
    return asyncio.run(_add(options, Installation(settings)))


async def _add(options: argparse.Namespace, installation: Installation) -> int:
    if options.trigger:
        known = await _trigger_ids(installation)
        if options.trigger not in known:
            hint = did_you_mean(options.trigger, known)
            return _refuse(
                "add", f"--trigger has unknown id {options.trigger!r}{hint}; 'estop triggers list' has them all"
            )
    now_ms = SystemClock().now_ms()
    silence = Silence(
        silence_id=str(uuid.uuid4()), author=_author(options), reason=options.reason, starts_at=now_ms,
        expires_at=now_ms + options.for_ms, scope=options.scope or "", trigger_id=options.trigger,
        service=options.service,
    )  # fmt: skip
    await _write(installation, silence, "silence_added", _author(options), now_ms)
    if options.json:
        show_json(plain(silence))
    else:
        print(f"silence {silence.silence_id} hides notices of {_matches(silence)} until {moment(silence.expires_at)}")
    return EXIT_OK


async def _trigger_ids(installation: Installation) -> tuple[str, ...]:
    async with installation.following(TRIGGERS):
        written = installation.all_of(TRIGGERS, Trigger)
    builtin = builtin_triggers(installation.settings.preventive_stop_level)
    return tuple(one.trigger_id for one in (*builtin, *written))


def run_list(options: argparse.Namespace, settings: Settings) -> int:
    """The silences in force, those that end first at the top."""
    installation = Installation(settings)
    found = asyncio.run(_read(installation))
    now_ms = SystemClock().now_ms()
    shown = [one for one in found if options.all or one.starts_at <= now_ms < one.expires_at]
    if options.json:
        show_json([plain(one) for one in shown])
    elif shown:
        rows = [(one.silence_id, _matches(one), moment(one.expires_at), one.author, one.reason) for one in shown]
        show_table(("SILENCE", "HIDES", "UNTIL", "AUTHOR", "REASON"), rows)
    else:
        print("No silence is in force.")
    if installation.unreadable:
        say(f"warning: {installation.unreadable} silences could not be read; they hide nothing")
    return EXIT_OK


def run_remove(options: argparse.Namespace, settings: Settings) -> int:
    """End a silence now. What it has hidden stays hidden; it is in 'estop notices'."""
    return asyncio.run(_remove(options, Installation(settings)))


async def _remove(options: argparse.Namespace, installation: Installation) -> int:
    now_ms = SystemClock().now_ms()
    standing = [one for one in await _read(installation) if one.expires_at > now_ms]
    found = [one for one in standing if one.silence_id.startswith(options.silence_id)]
    if len(found) != 1:
        known = tuple(one.silence_id for one in standing)
        what = f"names {len(found)} silences" if found else f"is no silence{did_you_mean(options.silence_id, known)}"
        return _refuse("remove", f"{options.silence_id!r} {what}; 'estop silence list --all' has them all")
    ended = replace(found[0], starts_at=min(found[0].starts_at, now_ms - 1), expires_at=now_ms)
    await _write(installation, ended, "silence_removed", _author(options), now_ms)
    if options.json:
        show_json(plain(ended))
    else:
        print(f"silence {ended.silence_id} has ended; notices of {_matches(ended)} are told again")
    return EXIT_OK


async def _read(installation: Installation) -> Sequence[Silence]:
    async with installation.following(SILENCES):
        pass
    return sorted(installation.all_of(SILENCES, Silence), key=lambda one: (one.expires_at, one.silence_id))


async def _write(installation: Installation, silence: Silence, action: str, actor: str, now_ms: int) -> None:
    record = AuditRecord(
        audit_id=derived_id("audit", action, silence.silence_id), at=now_ms, actor=actor, action=action,
        subject=silence.silence_id, reason=silence.reason, correlation_id=silence.silence_id,
        after=f"{_matches(silence)} until {moment(silence.expires_at)}",
    )  # fmt: skip
    await installation.publish(AUDIT, record.subject, record)
    await installation.publish(SILENCES, silence.silence_id, silence)


def _matches(silence: Silence) -> str:
    named = (("scope", silence.scope), ("trigger", silence.trigger_id), ("service", silence.service))
    return ", ".join(f"{name} {value}" for name, value in named if value) or "everything"


def _author(options: argparse.Namespace) -> str:
    return options.by.strip() or f"cli:{getpass.getuser()}"


def _refuse(verb: str, text: str) -> int:
    say(f"estop silence {verb}: {text}")
    return EXIT_BAD_INPUT
