"""Triggers as the SDK changes them: definitions in, the next version out. Decisions only; ``system`` publishes them.

Rules and calendars have grammars of their own, which the SDK installs without. Where a definition has one, give
``emergency_stop.rules.definitions.read_trigger`` as the reader; it comes with the extra ``server``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from emergency_stop.config import did_you_mean
from emergency_stop.domain.default_triggers import BUILTIN_KINDS, builtin_triggers
from emergency_stop.domain.definition_reader import DEFINITION_FIELDS, DefinitionReader, InvalidTriggerError
from emergency_stop.domain.triggers import PERCENT_ALL, Trigger
from emergency_stop.domain.values import StopLevel
from emergency_stop.wire.codec import to_plain

#: Beside ``trigger_id`` and ``version``, which say which one it is.
_CHANGEABLE = tuple(name for name in DEFINITION_FIELDS if name not in ("trigger_id", "version"))


class TriggerReader(Protocol):
    """A definition → a trigger; raises ``InvalidTriggerError`` with all that is wrong with it."""

    def __call__(
        self, definition: Mapping[str, Any], *, services: Sequence[str], updated_by: str, updated_at: int
    ) -> Trigger: ...


class TriggerChangeError(ValueError):
    """There is no such change of triggers; the text says why, and what there is instead."""


class TriggerDesk:
    """The triggers that stand, by id, and what may follow them."""

    def __init__(self, read: TriggerReader, services: Sequence[str], author: str) -> None:
        self._read = read
        self._services = tuple(services)
        self._author = author
        self._standing: dict[str, Trigger] = {}

    def take(self, trigger: Trigger) -> None:
        """A record of ``estop.triggers``; an older version than what stands changes nothing."""
        standing = self._standing.get(trigger.trigger_id)
        if standing is None or trigger.version >= standing.version:
            self._standing[trigger.trigger_id] = trigger

    def forget(self, trigger_id: str) -> None:
        """A tombstone of ``estop.triggers``."""
        self._standing.pop(trigger_id, None)

    def active(self) -> int:
        """How many triggers are watched for, the built-in ones included."""
        mine = sum(one.is_active and not one.removed for one in self._standing.values())
        return mine + len(builtin_triggers(StopLevel.GRACEFUL))

    def added(self, definition: Mapping[str, Any], at_ms: int) -> tuple[Trigger, Trigger | None]:
        """(the new trigger, the version that it supersedes). Raises ``ValueError``, also where one stands already."""
        wanted = self._new(definition, at_ms)
        standing = self._standing.get(wanted.trigger_id)
        if standing is not None and not standing.removed:
            raise TriggerChangeError(
                f"trigger_id={wanted.trigger_id!r}: stands already, as version {standing.version}; update_trigger"
                " changes it, remove_trigger takes it out of force"
            )
        return self._numbered(wanted, standing), standing

    def updated(self, trigger_id: str, changes: Mapping[str, Any], at_ms: int) -> tuple[Trigger, Trigger]:
        """(the next version, the one that stands); what ``changes`` does not name stays. Raises ``ValueError``."""
        standing = self._find(trigger_id)
        if standing.canary_percent < PERCENT_ALL:
            raise TriggerChangeError(
                f"trigger_id={trigger_id!r}: is a canary now; 'estop triggers promote' or 'rollback' ends that, then"
                " change it"
            )
        plain = to_plain(standing)
        definition = {name: plain[name] for name in _CHANGEABLE if name != "canary_percent"} | _named(changes)
        wanted = self._new(definition | {"trigger_id": trigger_id}, at_ms)
        return self._numbered(wanted, standing), standing

    def removed(self, trigger_id: str, at_ms: int) -> tuple[Trigger, Trigger]:
        """(the version that takes it out of force, the one that stands). Raises ``TriggerChangeError``."""
        standing = self._find(trigger_id)
        gone = replace(standing, is_active=False, removed=True, stable="", updated_by=self._author, updated_at=at_ms)
        return self._numbered(gone, standing), standing

    def _new(self, definition: Mapping[str, Any], at_ms: int) -> Trigger:
        trigger = self._read(definition, services=self._services, updated_by=self._author, updated_at=at_ms)
        if trigger.trigger_id in BUILTIN_KINDS:
            raise TriggerChangeError(f"trigger_id={trigger.trigger_id!r}: is built in and cannot be changed")
        if trigger.canary_percent < PERCENT_ALL:
            raise TriggerChangeError(
                f"canary_percent={trigger.canary_percent}: a canary keeps what stood before it, which the SDK does not"
                " read; use 'estop triggers add FILE --canary PERCENT'"
            )
        return trigger

    def _numbered(self, wanted: Trigger, standing: Trigger | None) -> Trigger:
        return wanted if standing is None else replace(wanted, version=standing.version + 1)

    def _find(self, trigger_id: str) -> Trigger:
        if trigger_id in BUILTIN_KINDS:
            raise TriggerChangeError(f"trigger_id={trigger_id!r}: is built in and cannot be changed")
        standing = self._standing.get(trigger_id)
        if standing is None or standing.removed:
            known = tuple(sorted(name for name, one in self._standing.items() if not one.removed))
            raise TriggerChangeError(
                f"trigger_id={trigger_id!r}: no such trigger stands{did_you_mean(trigger_id, known)}"
            )
        return standing


def _named(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Under a trigger's own names, so that they take the place of what stands. Raises ``InvalidTriggerError``."""
    reader = DefinitionReader(changes)
    for name in ("trigger_id", "version"):
        if reader.raw(name, None) is not None:
            reader.note(name, reader.raw(name), "says which trigger it is, and is not changed")
    if reader.problems:
        raise InvalidTriggerError(reader.problems)
    return {name: reader.raw(name) for name in _CHANGEABLE if name in reader.given}
