"""Whether a notice is hidden, and by what. Pure: hides notices, never state, and in doubt nothing.

A **silence** hides what it matches from its start until it expires. **Inhibition** hides a notice that a wider one
makes noise of: while an emergency is under way that was told on the same channel and is at least as grave. What was
itself hidden inhibits nothing, so that no two can hide each other; and a page is hidden by a silence only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from emergency_stop.domain.messages import Notice, Silence
from emergency_stop.domain.values import NoticeKind, Scope, ScopeKind, is_scope

GRAVITY: Final = {NoticeKind.INFO: 0, NoticeKind.WARNING: 1, NoticeKind.PAGE: 2}
_ACCOUNT: Final = f"{ScopeKind.ACCOUNT}:"


class Reason(StrEnum):
    """Why a notice was not told on a channel."""

    SILENCED = "silenced"
    INHIBITED = "inhibited"
    DISABLED = "disabled"
    OVERFLOWED = "overflowed"


@dataclass(frozen=True, slots=True)
class Hidden:
    """One notice that one channel does not tell. ``by``: a silence with its author, or the notice that inhibits."""

    notice: Notice
    channel: str
    reason: Reason
    by: str


@dataclass(frozen=True, slots=True)
class Inhibitor:
    """A notice of an emergency, told on some channel."""

    notice_id: str
    emergency_id: str
    kind: NoticeKind
    scope: str
    at: int


def problem_with(silence: Silence) -> str:
    """Why this is no silence; empty where it is one. Such a record hides nothing."""
    if not silence.author.strip():
        return "author is empty; a silence names who is responsible for it"
    if not silence.reason.strip():
        return "reason is empty; a silence says why"
    if silence.expires_at <= silence.starts_at:
        return f"expires_at {silence.expires_at} is not after starts_at {silence.starts_at}; a silence ends"
    if silence.scope and not is_scope(silence.scope):
        return f"scope {silence.scope[:100]!r} is not one of: global, service:<name>, account:<id>"
    return ""


def silence_of(silences: Iterable[Silence], notice: Notice, now_ms: int) -> Silence | None:
    """The silence that hides ``notice`` now, the one that lasts longest where there are several."""
    hiding = (one for one in silences if _is_active(one, now_ms) and _matches(one, notice) and not problem_with(one))
    return max(hiding, key=lambda one: (one.expires_at, one.silence_id), default=None)


def _is_active(silence: Silence, now_ms: int) -> bool:
    return silence.starts_at <= now_ms < silence.expires_at


def _matches(silence: Silence, notice: Notice) -> bool:
    return (
        silence.scope in ("", notice.scope)
        and silence.trigger_id in ("", notice.trigger_id)
        and silence.service in ("", service_of(notice))
    )


def service_of(notice: Notice) -> str | None:
    """The one service that a notice is about, if it is about one."""
    if notice.service is not None or not is_scope(notice.scope):
        return notice.service
    scope = Scope.parse(notice.scope)
    return scope.name if scope.kind is ScopeKind.SERVICE else None


def scopes_that_inhibit(notice: Notice) -> tuple[str, ...]:
    """Where to look for its inhibitors: its own scope, and those that are wider."""
    wider = [f"{ScopeKind.SERVICE}:{notice.service}"] if notice.service and notice.scope.startswith(_ACCOUNT) else []
    if notice.scope != ScopeKind.GLOBAL:
        wider.append(ScopeKind.GLOBAL.value)
    return (notice.scope, *wider)


def inhibits(one: Inhibitor, notice: Notice, under_way: Collection[str], *, window_ms: int, lead_ms: int) -> bool:
    """Whether ``one``, whose scope is among ``scopes_that_inhibit``, hides ``notice`` on the channel that told it.

    Of the same scope only a graver notice of another emergency does: that something began hides not how it ends.
    ``lead_ms``: how much later than the notice it may have come, as long as both waited.
    """
    if notice.kind is NoticeKind.PAGE or one.emergency_id not in under_way:
        return False
    if not one.at - lead_ms <= notice.at < one.at + window_ms:
        return False
    if one.scope != notice.scope:
        return GRAVITY[one.kind] >= GRAVITY[notice.kind]
    is_another = notice.emergency_id is not None and notice.emergency_id != one.emergency_id
    return is_another and GRAVITY[one.kind] > GRAVITY[notice.kind]
