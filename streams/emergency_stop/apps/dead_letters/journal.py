"""What is on record about redrives. The audit topic remembers; nothing is sent that is not written there first.

An attempt writes that it begins, sends, and writes that it has sent. An attempt that ended in between may have sent or
not: its intent names the partition and the offset from which the record must lie there if it was sent, and every
redriven record carries its letter's id in a header. Of two attempts at once, the one whose intent lies first goes on:
all intents of a letter have one key, so they lie in one partition.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from emergency_stop.apps.dead_letters.letter import Letter, Place
from emergency_stop.columnar.records import Headers
from emergency_stop.domain.ids import derived_id
from emergency_stop.domain.messages import AuditRecord

STARTED: Final = "dead_letter_redrive_started"
REDRIVEN: Final = "dead_letter_redriven"
#: An attempt sends within this time of its intent, or not at all.
SEND_WITHIN_MS: Final = 20_000
#: So old an attempt has ended: what it handed to the broker was acknowledged, or given up (30 s), before.
ATTEMPT_OVER_MS: Final = 60_000
HEADER: Final = "estop.redrive."
ID_HEADER: Final = HEADER + "id"
_COUNT_HEADER: Final = HEADER + "count"


@dataclass(frozen=True, slots=True)
class Attempt:
    """An intent. ``target`` is where the record would lie at the earliest."""

    attempt_id: str
    by: str
    at_ms: int
    target: Place


@dataclass(frozen=True, slots=True)
class Redriven:
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a letter stands: sent for certain, being sent by ``busy``, or perhaps sent by one of ``unsettled``."""

    redriven: Redriven | None = None
    busy: Attempt | None = None
    unsettled: tuple[Attempt, ...] = ()

    @property
    def state(self) -> str:
        """One word for lists."""
        if self.redriven:
            return "redriven"
        return "in progress" if self.busy else "interrupted" if self.unsettled else "open"


@dataclass(slots=True)
class Journal:
    """Reads audit records in their order per partition."""

    _attempts: dict[str, list[Attempt]] = field(default_factory=dict)
    _redriven: dict[str, Redriven] = field(default_factory=dict)

    def take(self, record: AuditRecord) -> None:
        """One record of the audit; others than redrives' are passed over."""
        if record.action == REDRIVEN:
            self._redriven.setdefault(record.subject, Redriven(record.actor, record.at))
        elif record.action == STARTED:
            target = _target(record)
            attempt = Attempt(record.correlation_id, record.actor, record.at, target)
            self._attempts.setdefault(record.subject, []).append(attempt)

    def standing(self, letter_id: str, now_ms: int) -> Standing:
        """As seen by somebody who has not begun an attempt."""
        if letter_id in self._redriven:
            return Standing(redriven=self._redriven[letter_id])
        attempts = self._attempts.get(letter_id, [])
        busy = next((one for one in attempts if now_ms - one.at_ms < ATTEMPT_OVER_MS), None)
        return Standing(busy=busy, unsettled=tuple(one for one in attempts if now_ms - one.at_ms >= ATTEMPT_OVER_MS))

    def standing_of_attempt(self, letter_id: str, own: str, examined: frozenset[str]) -> Standing:
        """As seen by the attempt ``own``, once its intent was read back: later ones give way to it.

        Before it only attempts may lie of which it has found out that they sent nothing, ``examined``; however old
        another one is, nobody has looked for what it sent.
        """
        if letter_id in self._redriven:
            return Standing(redriven=self._redriven[letter_id])
        attempts = self._attempts.get(letter_id, [])
        before = attempts[: [one.attempt_id for one in attempts].index(own)]
        return Standing(busy=next((one for one in before if one.attempt_id not in examined), None))

    def is_redriven(self, letter_id: str) -> bool:
        return letter_id in self._redriven

    def has(self, letter_id: str, attempt_id: str) -> bool:
        """Whether the intent of this attempt was read back."""
        return any(one.attempt_id == attempt_id for one in self._attempts.get(letter_id, ()))


def _target(record: AuditRecord) -> Place:
    """``Place("", 0, 0)`` where the record does not tell: what became of such an attempt cannot be found out."""
    try:
        return Place.parse(str(json.loads(record.after)["target"]))
    except (ValueError, KeyError, TypeError):
        return Place("", 0, 0)


@dataclass(frozen=True, slots=True)
class Order:
    """Who redrives, when, and in which attempt (one id for all letters of a command)."""

    attempt_id: str
    by: str
    reason: str
    at_ms: int


def intent(letter: Letter, order: Order, target: Place, fixes: str) -> AuditRecord:
    """To be written, acknowledged and read back before anything is sent."""
    return _record(STARTED, letter, order, target, fixes)


def done(letter: Letter, order: Order, target: Place, fixes: str) -> AuditRecord:
    """To be written once the broker has acknowledged the record, or it was found to lie there."""
    return _record(REDRIVEN, letter, order, target, fixes)


def _record(action: str, letter: Letter, order: Order, target: Place, fixes: str) -> AuditRecord:
    return AuditRecord(
        audit_id=derived_id("audit", action, letter.letter_id, order.attempt_id), at=order.at_ms, actor=order.by,
        action=action, subject=letter.letter_id, reason=order.reason, correlation_id=order.attempt_id,
        before=json.dumps({"letter": str(letter.place), "source": str(letter.source), "refused_for": letter.label}),
        after=json.dumps({"target": str(target), "fixes": fixes}),
    )  # fmt: skip


def redrive_headers(letter: Letter, order: Order) -> Headers:
    """The record's own headers, and those that say that, whence, when, by whom and how often it was redriven."""
    own = tuple((name, value) for name, value in letter.headers if not name.startswith(HEADER))
    told = {
        "id": letter.letter_id,
        "letter": str(letter.place),
        "source": str(letter.source),
        "by": order.by,
        "at": str(order.at_ms),
        "count": str(redrive_count(letter.headers) + 1),
    }
    return (*own, *((HEADER + name, text.encode()) for name, text in told.items()))


def redrive_count(headers: Sequence[tuple[str, bytes | None]]) -> int:
    """How often the record had been redriven when it was refused."""
    texts = [value.decode(errors="replace") for name, value in headers if name == _COUNT_HEADER and value]
    return int(texts[-1]) if texts and texts[-1].isascii() and texts[-1].isdigit() else 0
