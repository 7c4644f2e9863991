"""What people must hear of, derived from what a coordinator is about to publish. Pure; decides nothing about stops.

Theory of operation. Every decision leaves an audit record, and recoveries and latches show in their own records. A
notice follows from exactly one of these, and its id is derived from that record's: an effect that is published again,
by the same coordinator or its successor, gives the same notice again, and whoever reads it recognises it. Details come
from the emergency's own record, which travels with the decision; where it does not, the notice says less and is sent
all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from emergency_stop.coordinate.blindness import BECAME_BLIND, SEES_AGAIN
from emergency_stop.coordinate.state import Effect
from emergency_stop.domain.ids import derived_id
from emergency_stop.domain.messages import AuditRecord, Emergency, Hit, InstanceStop, Notice, Recovery
from emergency_stop.domain.values import GLOBAL_SCOPE, AckState, NoticeKind, RecoveryOutcome, is_scope

#: Of a notice's text, characters; what is longer is on record in full.
TEXT_LENGTH_MAX: Final = 4_000
#: Of its one line.
SUBJECT_LENGTH_MAX: Final = 200
#: The last second of the year 9999, milliseconds since the epoch.
_AT_MAX: Final = 253_402_300_799_000
#: Instances named in a text.
_NAMED_MAX: Final = 20
_TRIGGER: Final = "trigger:"
#: Emergencies of this priority are opened without a warning.
_PRIORITY_LOW: Final = 1

Emergencies = Mapping[str, Emergency]
#: (kind, subject, text, what to do next); the text may be empty.
_Said = tuple[NoticeKind, str, str, str]


def notices_of(effects: Sequence[Effect | Hit]) -> list[Notice]:
    """The notices of effects that are published together, in their order and each once."""
    emergencies = {effect.emergency_id: effect for effect in effects if isinstance(effect, Emergency)}
    found: dict[str, Notice] = {}
    for effect in effects:
        for notice in _of(effect, emergencies):
            found.setdefault(notice.notice_id, notice)
    return list(found.values())


def unproven(emergency: Emergency) -> list[InstanceStop]:
    """The instances that did not prove that they stopped."""
    return [one for one in emergency.instances if one.state is not AckState.STOPPED]


def _of(effect: Effect | Hit, emergencies: Emergencies) -> Iterator[Notice]:
    if isinstance(effect, AuditRecord):
        say = _DECISIONS.get(effect.action)
        if say is not None:
            emergency = emergencies.get(effect.subject)
            yield _of_decision(effect, emergency, say(effect, emergency))
    elif isinstance(effect, Recovery):
        yield from _of_recovery(effect, emergencies.get(effect.emergency_id))
    elif isinstance(effect, Emergency) and effect.latched and effect.failed_recoveries:
        yield _latched(effect)


def _of_decision(record: AuditRecord, emergency: Emergency | None, said: _Said) -> Notice:
    own_trigger = record.actor.removeprefix(_TRIGGER) if record.actor.startswith(_TRIGGER) else None
    scope = emergency.scope if emergency else record.subject if is_scope(record.subject) else str(GLOBAL_SCOPE)
    return _notice(
        ("decision", record.audit_id), said, record.at, scope, record.correlation_id,
        emergency_id=record.subject if record.action in _OF_EMERGENCIES else None,
        trigger_id=emergency.trigger_id if emergency else own_trigger,
    )  # fmt: skip


def _opened(record: AuditRecord, emergency: Emergency | None) -> _Said:
    minor = emergency is not None and (emergency.drill or emergency.priority <= _PRIORITY_LOW)
    kind = NoticeKind.INFO if minor else NoticeKind.WARNING
    return kind, f"{_what(emergency)} of {_where(emergency)} begins", record.reason, "Nothing need be done yet."


def _scheduled(record: AuditRecord, emergency: Emergency | None) -> _Said:
    starts_at = emergency.starts_at if emergency else None
    at = _utc(starts_at) if starts_at is not None else "a time that its record names"
    scope = emergency.scope if emergency else "SCOPE"
    return (
        NoticeKind.INFO, f"{_what(emergency)} of {_where(emergency)} is planned for {at}", record.reason,
        f"Planned by {record.actor}. Until then 'estop resume {scope} --emergency {record.subject}' calls it off.",
    )  # fmt: skip


def _called_off(record: AuditRecord, emergency: Emergency | None) -> _Said:
    subject = f"the planned {_what(emergency)} of {_where(emergency)} was called off by {record.actor}"
    return NoticeKind.INFO, subject, record.reason, ""


def _escalated(record: AuditRecord, emergency: Emergency | None) -> _Said:
    return (
        NoticeKind.WARNING, f"{_what(emergency)} of {_where(emergency)} was not proven in time and is escalated",
        record.reason, "Look at these services now: without their proof the emergency ends PARTIAL.",
    )  # fmt: skip


def _partial(record: AuditRecord, emergency: Emergency | None) -> _Said:
    missing = unproven(emergency) if emergency else []
    named = ", ".join(f"{one.service}/{one.instance_id or '-'}" for one in missing[:_NAMED_MAX])
    more = f" and {len(missing) - _NAMED_MAX} more" if len(missing) > _NAMED_MAX else ""
    is_drill = emergency is not None and emergency.drill
    next_step = (
        "Nothing was to stop, but a real stop would go the same way: look at these. 'estop drills' has the table."
        if is_drill
        else "Stop these by other means. The hold stays in force. 'estop emergencies --json' has every instance."
    )
    return (
        NoticeKind.WARNING if is_drill else NoticeKind.PAGE,
        f"{_what(emergency)} of {_where(emergency)} is NOT PROVEN: PARTIAL",
        f"{record.reason}\nWithout proof: {named or 'see the emergency'}{more}",
        next_step,
    )


def _stopped(record: AuditRecord, emergency: Emergency | None) -> _Said:
    took = emergency.time_to_stop_ms if emergency else None
    in_time = f" after {took} ms" if took is not None else ""
    subject = f"{_what(emergency)} of {_where(emergency)} is proven{in_time}"
    is_drill = emergency is not None and emergency.drill
    return NoticeKind.INFO, subject, record.reason, "" if is_drill else "When the cause is mended: 'estop resume'."


def _resumed(record: AuditRecord, emergency: Emergency | None) -> _Said:
    del emergency  # a resume is of a scope
    return NoticeKind.INFO, f"{record.subject} was resumed by {record.actor}", record.reason, ""


def _approved(record: AuditRecord, emergency: Emergency | None) -> _Said:
    del emergency  # an approval is of a scope
    subject = f"{record.actor} wants {record.subject} undone, and another person must ask for the same"
    return (
        NoticeKind.WARNING,
        subject,
        record.reason,
        "Look at 'estop status' first. A hold of everything needs you both.",
    )


def _warned(record: AuditRecord, emergency: Emergency | None) -> _Said:
    del emergency  # none was opened
    next_step = "Nothing was stopped: the trigger's mode is warn."
    return NoticeKind.WARNING, f"{record.actor} fired for {record.subject}", record.reason, next_step


def _blind(record: AuditRecord, emergency: Emergency | None) -> _Said:
    del emergency  # none yet; those of triggers that hold have notices of their own
    return (
        NoticeKind.PAGE, f"nobody evaluates {record.subject}", record.reason,
        "Nothing that happens there stops anybody, but for triggers with on_blind: hold. Start detectors.",
    )  # fmt: skip


def _sees_again(record: AuditRecord, emergency: Emergency | None) -> _Said:
    del emergency
    return NoticeKind.INFO, f"{record.subject} is evaluated again", record.reason, ""


_OF_EMERGENCIES: Final[Mapping[str, Callable[[AuditRecord, Emergency | None], _Said]]] = {
    "emergency_opened": _opened,
    "stop_scheduled": _scheduled,
    "stop_called_off": _called_off,
    "stop_escalated": _escalated,
    "emergency_partial": _partial,
    "emergency_stopped": _stopped,
    "drill_opened": _opened,
    "drill_partial": _partial,
    "drill_stopped": _stopped,
}
_DECISIONS: Final[Mapping[str, Callable[[AuditRecord, Emergency | None], _Said]]] = {
    **_OF_EMERGENCIES,
    "resumed": _resumed,
    "resume_approved": _approved,
    "recover_approved": _approved,
    "hit_warn": _warned,
    BECAME_BLIND: _blind,
    SEES_AGAIN: _sees_again,
}


def _of_recovery(recovery: Recovery, emergency: Emergency | None) -> Iterator[Notice]:
    if recovery.outcome is RecoveryOutcome.ROLLED_BACK:
        said = (
            NoticeKind.WARNING,
            f"recovery {recovery.attempt} of {recovery.scope} failed in {recovery.phase.value}: stopped again",
            recovery.detail, "See what failed before the next attempt; after three the hold is latched.",
        )  # fmt: skip
    elif recovery.outcome is RecoveryOutcome.COMPLETED:
        said = (NoticeKind.INFO, f"{recovery.scope} has recovered", recovery.detail, "")
    else:
        return
    yield _notice(
        ("recovery", recovery.recovery_id, recovery.outcome.value), said, recovery.ended_at or recovery.started_at,
        recovery.scope, recovery.correlation_id, emergency_id=recovery.emergency_id,
        trigger_id=emergency.trigger_id if emergency else None,
    )  # fmt: skip


def _latched(emergency: Emergency) -> Notice:
    count = emergency.failed_recoveries
    said = (
        NoticeKind.PAGE, f"{emergency.scope} is latched after {count} failed recoveries", emergency.reason,
        "It does not recover by itself any more. Mend the cause, then reset and resume it.",
    )  # fmt: skip
    return _notice(
        ("latched", emergency.emergency_id, count), said, emergency.completed_at or emergency.started_at,
        emergency.scope, emergency.correlation_id, emergency_id=emergency.emergency_id, trigger_id=emergency.trigger_id,
    )  # fmt: skip


def _what(emergency: Emergency | None) -> str:
    if emergency is None:
        return "a stop"
    return f"{emergency.level.value} {'drill' if emergency.drill else 'stop'}"


def _where(emergency: Emergency | None) -> str:
    return emergency.scope if emergency else "a scope that its record names"


def _utc(at_ms: int) -> str:
    """To the second; what no calendar has is the last moment that one does."""
    moment = datetime.fromtimestamp(min(max(at_ms, 0), _AT_MAX) / 1000, UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _notice(  # the parts that differ; the rest follows from them
    cause: tuple[str | int, ...],
    said: _Said,
    at: int,
    scope: str,
    correlation_id: str,
    *,
    emergency_id: str | None,
    trigger_id: str | None,
) -> Notice:
    kind, subject, text, next_step = said
    told = "\n".join(part for part in (_cut(text, TEXT_LENGTH_MAX - len(next_step) - 1), next_step) if part)
    return Notice(
        notice_id=derived_id("notice", *cause),
        kind=kind,
        at=at,
        subject=_cut(" ".join(subject.split()), SUBJECT_LENGTH_MAX),
        text=told,
        scope=scope,
        correlation_id=correlation_id,
        emergency_id=emergency_id,
        trigger_id=trigger_id,
    )


def _cut(text: str, length_max: int) -> str:
    return text if len(text) <= length_max else text[: length_max - 1] + "…"
