"""Versions of a trigger: what comes after what stands. Decisions; ``adapters.trigger_publishing`` carries them out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from emergency_stop.domain.triggers import PERCENT_ALL, Trigger
from emergency_stop.rules.definitions import stable_text, stable_version
from emergency_stop.wire.codec import to_plain

#: Fields that say which version it is, not what it watches.
_NOT_CONTENT: Final = frozenset({"trigger_id", "version", "updated_by", "updated_at", "stable", "removed"})


class VersionError(ValueError):
    """There is no such step between versions; the text says why, and what there is instead."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who makes a new version, and when."""

    name: str
    at_ms: int


def is_canary(trigger: Trigger) -> bool:
    """Whether a version watches a share of the accounts only."""
    return trigger.canary_percent < PERCENT_ALL


def after(standing: Trigger | None, wanted: Trigger) -> Trigger:
    """``wanted`` as the version after ``standing``: a higher number, and, as a canary, what the others keep.

    A canary of a canary keeps what was stable before both. Raises ``ValueError`` for a damaged ``stable``.
    """
    kept = standing
    if standing is not None:
        wanted = replace(wanted, version=max(wanted.version, standing.version + 1))
        kept = None if standing.removed else stable_version(standing) if is_canary(standing) else standing
    return replace(wanted, stable=stable_text(kept) if kept and is_canary(wanted) else "")


def removed(standing: Trigger, author: Author) -> Trigger:
    """The version that takes a trigger out of force, its canary and what is stable beside it too."""
    return _next(standing, replace(standing, is_active=False, removed=True, stable=""), author)


def promoted(canary: Trigger, author: Author) -> Trigger:
    """The canary for every account. Raises ``VersionError`` where it is none."""
    if not is_canary(canary):
        raise VersionError(f"version {canary.version} of {canary.trigger_id} is no canary: it watches every account")
    return _next(canary, replace(canary, canary_percent=PERCENT_ALL, stable=""), author)


def rolled_back(standing: Trigger, history: Mapping[int, Trigger], author: Author, to: int | None = None) -> Trigger:
    """The version after ``standing`` with the content of an earlier one: ``to``, or what stood before.

    Before a canary stood what it keeps as stable; before a removal the version that was removed. Raises
    ``VersionError``, or ``ValueError`` for a damaged ``stable``.
    """
    if to is None:
        return _next(standing, _before(standing, history), author)
    known = ", ".join(map(str, sorted(history))) or "none"
    if to == standing.version:
        raise VersionError(f"version {to} of {standing.trigger_id} is in force already; history has: {known}")
    if to not in history:
        raise VersionError(f"{standing.trigger_id} has no version {to}; history has: {known}")
    if history[to].removed:
        raise VersionError(f"version {to} is the removal of {standing.trigger_id}; 'estop triggers remove' removes it")
    return _next(standing, history[to], author)


def _before(standing: Trigger, history: Mapping[int, Trigger]) -> Trigger:
    name = standing.trigger_id
    if is_canary(standing) and not standing.removed:
        stable = stable_version(standing)
        if stable is None:
            raise VersionError(
                f"version {standing.version} of {name} is a canary, and its other accounts have no version;"
                " 'estop triggers remove' takes it out of force, --to names an earlier version"
            )
        return stable
    earlier = [one for number, one in history.items() if number < standing.version and not one.removed]
    if not earlier:
        raise VersionError(f"version {standing.version} of {name} has no version before it")
    return max(earlier, key=lambda one: one.version)


def _next(standing: Trigger, content: Trigger, author: Author) -> Trigger:
    return replace(content, version=standing.version + 1, updated_by=author.name, updated_at=author.at_ms)


def differences(before: Trigger | None, now: Trigger) -> list[str]:
    """What changed between two versions, a line per field: ``thresholds.healthScore: 30 → 25``."""
    if before is None:
        return ["first version"]
    if before.removed != now.removed:
        return ["removed" if now.removed else "restored"]
    old, new = dict(_content(before)), dict(_content(now))
    names = sorted(old.keys() | new.keys())
    changed = [f"{name}: {_told(old, name)} → {_told(new, name)}" for name in names if old.get(name) != new.get(name)]
    return changed or ["nothing"]


def _content(trigger: Trigger) -> Iterable[tuple[str, Any]]:
    """(field, value) of all that a version says, nested names with a dot."""
    for name, value in to_plain(trigger).items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", entry) for inner, entry in value.items())
        elif name not in _NOT_CONTENT:
            yield name, value


def _told(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    return "none" if value is None or value == "" else str(value)
