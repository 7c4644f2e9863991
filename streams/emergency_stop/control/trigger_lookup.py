"""One trigger and its versions, out of topics that may hold 100,000: only what belongs to it is decoded."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from emergency_stop.adapters.kafka_tail import TailRecord
from emergency_stop.config import did_you_mean
from emergency_stop.control.installation import READ_WITHIN_S, Installation
from emergency_stop.domain.default_triggers import BUILTIN_KINDS
from emergency_stop.domain.topics import TRIGGER_HISTORY, TRIGGERS
from emergency_stop.domain.triggers import Trigger
from emergency_stop.wire.codec import WireError
from emergency_stop.wire.registry import UnknownSchemaError


class NoTriggerError(LookupError):
    """An id names no trigger that can be changed; the text says why, with the nearest one."""


@dataclass(frozen=True, slots=True)
class Found:
    """``standing`` is the newest version, be it a removal; ``versions`` are it and those before it, by number."""

    standing: Trigger
    versions: dict[int, Trigger]


async def look_up(installation: Installation, trigger_id: str) -> Found:
    """Read both topics at once. Raises ``NoTriggerError`` or ``UnavailableError``."""
    newest: dict[str, TailRecord] = {}
    kept: dict[str, TailRecord] = {}

    def take_newest(record: TailRecord) -> None:
        newest[_text(record.key)] = record

    def take_kept(record: TailRecord) -> None:
        if _text(record.key).startswith(f"{trigger_id}/"):
            kept[_text(record.key)] = record

    await asyncio.gather(
        installation.scan(TRIGGERS, take_newest, READ_WITHIN_S), installation.scan(TRIGGER_HISTORY, take_kept)
    )
    there = newest.get(trigger_id)
    standing = None if there is None else _decoded(installation, there)
    if standing is None:
        known = tuple(name for name, record in newest.items() if record.value is not None)
        raise NoTriggerError(_no_trigger(trigger_id, known))
    return Found(standing, _versions(standing, [_decoded(installation, record) for record in kept.values()]))


async def standing_versions(installation: Installation, trigger_ids: Collection[str]) -> dict[str, Trigger]:
    """The newest version of each of the triggers that there is, be it a removal. Raises ``UnavailableError``."""
    newest: dict[str, TailRecord] = {}

    def take(record: TailRecord) -> None:
        if _text(record.key) in trigger_ids:
            newest[_text(record.key)] = record

    await installation.scan(TRIGGERS, take, READ_WITHIN_S)
    decoded = {name: _decoded(installation, record) for name, record in newest.items()}
    return {name: trigger for name, trigger in decoded.items() if trigger is not None}


def _versions(standing: Trigger, kept: list[Trigger | None]) -> dict[int, Trigger]:
    """Ascending, up to the one in force: one beyond it was kept and never came into force."""
    mine = [one for one in kept if one is not None and one.trigger_id == standing.trigger_id]
    by_number = {one.version: one for one in mine if one.version < standing.version} | {standing.version: standing}
    return dict(sorted(by_number.items()))


def _decoded(installation: Installation, record: TailRecord) -> Trigger | None:
    try:
        return None if record.value is None else installation.codec.decode(Trigger, record.value)
    except (WireError, UnknownSchemaError):
        installation.unreadable += 1
        return None


def _text(key: bytes | None) -> str:
    return (key or b"").decode(errors="replace")


def _no_trigger(trigger_id: str, known: tuple[str, ...]) -> str:
    if trigger_id in BUILTIN_KINDS:
        return f"{trigger_id} is built in: it has one version, and cannot be changed or removed"
    return f"no trigger {trigger_id!r}{did_you_mean(trigger_id, known)}; 'estop triggers list' shows them"
