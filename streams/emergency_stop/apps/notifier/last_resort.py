"""The configured last resort, for emergencies that end without proof: when it is due, and what became of it. Pure.

Theory of operation. Whether it is due follows from the newest record of an emergency, not from a message: PARTIAL, and
no drill. It is tried until the endpoint accepts it, the patience is over, or the emergency needs it no longer, because
the proof came or a person resumed it. Each ends on record; success and failure are pages. What succeeded is never done
again for the same emergency, whatever becomes of that. A crash between the endpoint's answer and the record of it tries
once more, under the same idempotency key: the emergency's id.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from emergency_stop.apps.notifier.telling import RETRY_MS, StateError
from emergency_stop.domain.ids import derived_id
from emergency_stop.domain.messages import AuditRecord, Emergency, Notice
from emergency_stop.domain.values import AckState, EmergencyState, NoticeKind

VERSION: Final = 1
KEY_PREFIX: Final = b"last-resort:"
#: Posts at once.
AT_ONCE_MAX: Final = 4
#: How long it is remembered of an emergency that has ended: old records of it may be read again.
REMEMBERED_MS: Final = 7 * 86_400_000
ACTOR: Final = "notifier"


class Standing(StrEnum):
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


@dataclass(slots=True)
class _Resort:
    """``emergency`` is ``None`` until its record was read again after a restart."""

    emergency_id: str
    since: int
    emergency: Emergency | None = None
    standing: Standing = Standing.WAITING
    attempts: int = 0
    next_at: int = 0
    busy: bool = False
    #: Whether how it ended is on record; until then the state calls it waiting.
    is_recorded: bool = True
    #: When the emergency was resolved; then all may be forgotten in time.
    resolved_at: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended for an emergency, for the record."""

    emergency: Emergency
    standing: Standing
    attempts: int
    detail: str
    at: int


def body_of(emergency: Emergency) -> dict[str, Any]:
    """What the endpoint gets."""
    missing = [one for one in emergency.instances if one.state is not AckState.STOPPED]
    return {
        "event": "last_resort",
        "emergency_id": emergency.emergency_id,
        "correlation_id": emergency.correlation_id,
        "scope": emergency.scope,
        "account_id": emergency.account_id,
        "level": emergency.level.value,
        "reason": emergency.reason,
        "services_unproven": sorted({one.service for one in missing}),
        "instances_unproven": [
            {"service": one.service, "instance_id": one.instance_id, "state": one.state.value, "reason": one.reason}
            for one in missing
        ],
        "started_at": emergency.started_at,
        "completed_at": emergency.completed_at,
    }


def audit_of(outcome: Outcome) -> AuditRecord:
    """The outcome on record; the same one always under the same id."""
    emergency = outcome.emergency
    action = f"last_resort_{outcome.standing.value}"
    return AuditRecord(
        audit_id=derived_id("audit", action, emergency.emergency_id, emergency.completed_at or 0),
        at=outcome.at,
        actor=ACTOR,
        action=action,
        subject=emergency.emergency_id,
        reason=f"{outcome.detail} ({outcome.attempts} attempts)",
        correlation_id=emergency.correlation_id,
        after=json.dumps({"scope": emergency.scope, "attempts": outcome.attempts}),
    )


def notice_of(outcome: Outcome) -> Notice | None:
    """The page about it; none where it was not needed any more."""
    if outcome.standing is Standing.WITHDRAWN:
        return None
    emergency = outcome.emergency
    done = outcome.standing is Standing.DONE
    subject = f"last resort for {emergency.scope} {'was carried out' if done else 'FAILED'}"
    next_step = (
        "Its session or proxy is revoked by your endpoint's word. The hold stays in force until it is resumed."
        if done
        else "Nothing proved that it stopped, and its session or proxy may still work: revoke it by hand, now."
    )
    return Notice(
        notice_id=derived_id("notice", "last-resort", emergency.emergency_id, outcome.standing.value),
        kind=NoticeKind.PAGE,
        at=outcome.at,
        subject=subject,
        text=f"{outcome.detail} ({outcome.attempts} attempts)\n{next_step}",
        scope=emergency.scope,
        correlation_id=emergency.correlation_id,
        emergency_id=emergency.emergency_id,
        trigger_id=emergency.trigger_id,
    )


class LastResort:
    """Not thread-safe. ``due`` hands out emergencies; each is answered by ``succeeded`` or ``failed``, and an outcome
    by ``recorded`` once it is on record.
    """

    def __init__(self, patience_ms: int) -> None:
        self._patience_ms = patience_ms
        self._resorts: dict[str, _Resort] = {}
        self._dirty: dict[str, None] = {}

    def observe(self, emergency: Emergency, now_ms: int) -> Outcome | None:
        """Take in an emergency's newest record. An outcome where a last resort under way is needed no longer."""
        resort = self._resorts.get(emergency.emergency_id)
        if emergency.state is EmergencyState.PARTIAL:
            if not emergency.drill:
                self._wants(resort, emergency, now_ms)
            return None
        if resort is None or emergency.state in (EmergencyState.SCHEDULED, EmergencyState.STOPPING):
            return None
        if emergency.state is EmergencyState.RESOLVED and resort.resolved_at is None:
            resort.resolved_at = now_ms
            self._dirty[resort.emergency_id] = None
        if resort.standing is not Standing.WAITING:
            return None
        return self._end(resort, emergency, Standing.WITHDRAWN, f"the emergency is {emergency.state.value}", now_ms)

    def missing(self, known: Iterable[str]) -> list[str]:
        """Emergencies for which it is under way, and of which ``known`` has none: they ended while nobody looked."""
        there = set(known)
        return [
            one.emergency_id
            for one in self._resorts.values()
            if one.standing is Standing.WAITING and one.emergency is None and one.emergency_id not in there
        ]

    def drop(self, emergency_id: str, now_ms: int) -> None:
        """The emergency is gone from the topic of emergencies in force: nothing is left to do for it."""
        resort = self._resorts[emergency_id]
        resort.standing, resort.resolved_at = Standing.WITHDRAWN, now_ms
        self._dirty[emergency_id] = None

    def due(self, now_ms: int) -> list[Emergency]:
        """Emergencies to post now."""
        room = AT_ONCE_MAX - sum(one.busy for one in self._resorts.values())
        waiting = (one for one in self._resorts.values() if one.standing is Standing.WAITING and not one.busy)
        ready = sorted((one.next_at, one.emergency_id) for one in waiting if one.emergency and one.next_at <= now_ms)
        found: list[Emergency] = []
        for _, emergency_id in ready[: max(0, room)]:
            resort = self._resorts[emergency_id]
            if resort.emergency is not None:
                resort.busy = True
                found.append(resort.emergency)
        self._forget(now_ms)
        return found

    def succeeded(self, emergency: Emergency, detail: str, now_ms: int) -> Outcome | None:
        """The endpoint accepted it; also where it was withdrawn meanwhile, because it was carried out."""
        resort = self._answered(emergency)
        return self._end(resort, emergency, Standing.DONE, detail, now_ms) if resort else None

    def failed(self, emergency: Emergency, detail: str, now_ms: int) -> Outcome | None:
        """The endpoint did not; an outcome where it is not tried any more."""
        resort = self._answered(emergency)
        if resort is None or resort.standing is not Standing.WAITING:
            return None
        if now_ms - resort.since >= self._patience_ms:
            return self._end(resort, emergency, Standing.FAILED, detail, now_ms)
        resort.next_at = now_ms + RETRY_MS[min(resort.attempts - 1, len(RETRY_MS) - 1)]
        return None

    def recorded(self, outcome: Outcome) -> None:
        """``outcome`` is on record: from now on the state says so too."""
        resort = self._resorts.get(outcome.emergency.emergency_id)
        if resort is not None and resort.standing is outcome.standing:
            resort.is_recorded = True
            self._dirty[resort.emergency_id] = None

    def take_dirty(self) -> list[tuple[bytes, bytes | None]]:
        """State records changed since the last call; ``None`` for what was forgotten."""
        dirty, self._dirty = self._dirty, {}
        return [(KEY_PREFIX + one.encode(), _record(self._resorts.get(one))) for one in dirty]

    def restore(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Load what ``take_dirty`` gave. Raises ``StateError``. The emergencies' records come by ``observe``."""
        for key, value in records:
            resort = _read(key, value)
            self._resorts[resort.emergency_id] = resort

    def _wants(self, resort: _Resort | None, emergency: Emergency, now_ms: int) -> None:
        if resort is None:
            resort = _Resort(emergency.emergency_id, now_ms, next_at=now_ms)
            self._resorts[emergency.emergency_id] = resort
            self._dirty[emergency.emergency_id] = None
        elif resort.standing is Standing.WITHDRAWN:  # in doubt again; a post may still be on its way
            resort.standing, resort.since, resort.next_at, resort.resolved_at = Standing.WAITING, now_ms, now_ms, None
            resort.is_recorded = True
            self._dirty[emergency.emergency_id] = None
        if resort.standing is Standing.WAITING:
            resort.emergency = emergency

    def _answered(self, emergency: Emergency) -> _Resort | None:
        resort = self._resorts.get(emergency.emergency_id)
        if resort is not None:
            resort.busy = False
            resort.attempts += 1
        return resort

    def _end(self, resort: _Resort, emergency: Emergency, standing: Standing, detail: str, now_ms: int) -> Outcome:
        resort.standing, resort.emergency, resort.is_recorded = standing, None, False
        return Outcome(emergency, standing, resort.attempts, detail, now_ms)

    def _forget(self, now_ms: int) -> None:
        old = [
            one.emergency_id
            for one in self._resorts.values()
            if one.resolved_at is not None and one.resolved_at <= now_ms - REMEMBERED_MS and not one.busy
        ]
        for emergency_id in old:
            del self._resorts[emergency_id]
            self._dirty[emergency_id] = None


def _record(resort: _Resort | None) -> bytes | None:
    if resort is None:
        return None
    standing = resort.standing if resort.is_recorded else Standing.WAITING
    content = {
        "version": VERSION, "emergency_id": resort.emergency_id, "since": resort.since,
        "standing": standing.value, "attempts": resort.attempts, "resolved_at": resort.resolved_at,
    }  # fmt: skip
    return json.dumps(content, separators=(",", ":")).encode()


def _read(key: bytes, value: bytes) -> _Resort:
    try:
        content = json.loads(value)
        if content["version"] != VERSION:
            raise StateError(f"state record {key!r} has version {content['version']!r}; known is {VERSION}")
        return _Resort(
            content["emergency_id"], int(content["since"]), standing=Standing(content["standing"]),
            attempts=int(content["attempts"]), resolved_at=content["resolved_at"],
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"state record {key!r} does not hold a last resort: {error}") from error
