"""What is done about an account that has become too large for the broker, in spite of the bounds on what comes in.

A record that no broker takes would end its coordinator, and then each successor at the same place, with the stops of
all other scopes in their hands. So what is published says less; and a scope whose state does not fit any more is held
as a whole, once and for all, until a person lifts that: when in doubt, stop. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from emergency_stop.coordinate.audit import decision
from emergency_stop.coordinate.holds import hold_of
from emergency_stop.coordinate.lifecycle import Change, to_wire_emergency
from emergency_stop.coordinate.state import Case, Effect, ScopeState
from emergency_stop.coordinate.tables import Phase
from emergency_stop.domain.frozen import replace
from emergency_stop.domain.ids import derived_id
from emergency_stop.domain.messages import AuditRecord, Command, Emergency, Hold, HoldCause, Recovery
from emergency_stop.domain.texts import TEXT_LENGTH_MAX, fit
from emergency_stop.domain.values import (
    ALL_SERVICES,
    LEVEL_SEVERITY,
    AckState,
    Scope,
    ScopeKind,
    StopLevel,
    TriggerType,
)

#: Of a published record; topics and producers take twice as much.
RECORD_BYTES_MAX: Final = 4 * 1024 * 1024
#: Of a scope's state record, packed. The state's topic and its producer take 8 MiB, keys and batch included.
STATE_BYTES_MAX: Final = 6 * 1024 * 1024
#: What is left of the instances of an emergency, of a hold's causes, and of their reasons, where all do not fit.
INSTANCES_TOLD_MAX: Final = 1_000
CAUSES_TOLD_MAX: Final = 1_000
SHORT_LENGTH_MAX: Final = 100
#: Of the emergencies that a whole hold takes the place of so many are told to be over, and of what waits to be put on
#: record so much is: the newest.
CLOSED_TOLD_MAX: Final = 1_000

Published = Hold | Command | Emergency | Recovery | AuditRecord


def shrunk(effect: Published) -> Published:
    """``effect`` in fewer bytes: it stops as much as before, and says what it does not tell any more."""
    if isinstance(effect, Emergency):
        return _shrunk_emergency(effect)
    if isinstance(effect, Hold):
        return _shrunk_hold(effect)
    if isinstance(effect, Recovery):
        reasons = tuple(fit(reason, SHORT_LENGTH_MAX) for reason in effect.reasons)
        return replace(effect, reasons=reasons, detail=fit(effect.detail))
    if isinstance(effect, AuditRecord):
        return replace(
            effect, reason=fit(effect.reason), before=_shrunk_summary(effect.before),
            after=_shrunk_summary(effect.after),
        )  # fmt: skip
    return effect


def _shrunk_emergency(effect: Emergency) -> Emergency:
    """Who has not stopped is named first."""
    owing_first = sorted(effect.instances, key=lambda one: one.state is AckState.STOPPED)
    told = tuple(replace(one, reason=fit(one.reason, SHORT_LENGTH_MAX)) for one in owing_first[:INSTANCES_TOLD_MAX])
    note = f" ({len(told)} of {len(effect.instances)} instances are listed)"
    return replace(effect, instances=told, reason=fit(effect.reason, TEXT_LENGTH_MAX - len(note)) + note)


def _shrunk_hold(hold: Hold) -> Hold:
    if len(hold.causes) <= CAUSES_TOLD_MAX:
        shorter = (replace(one, reason=fit(one.reason, SHORT_LENGTH_MAX)) for one in hold.causes)
        return replace(hold, causes=tuple(shorter))
    newest = max(hold.causes, key=lambda cause: cause.epoch)
    level = max((cause.level for cause in hold.causes), key=LEVEL_SEVERITY.__getitem__)
    reason = f"{len(hold.causes)} emergencies hold the scope, too many to list"
    return replace(hold, causes=(HoldCause(newest.emergency_id, level, (ALL_SERVICES,), reason, newest.epoch),))


def _shrunk_summary(text: str) -> str:
    return text if len(text) <= TEXT_LENGTH_MAX else json.dumps({"too_long": len(text)})


def held_whole(state: ScopeState, outbox: Sequence[Effect], now_ms: int) -> Change:
    """(the scope with one emergency in the place of all that hold it, the effects in the place of ``outbox``).

    It stops everything of the scope at once, and is unproven: nobody can tell any more who has stopped. No trigger and
    no recovery lifts it. A scope that nothing holds forgets what is over, and its lifted hold still goes out. Plans
    stay, what was decided is known, and what was to be put on record is.
    """
    plans = tuple(case for case in state.cases if case.phase is Phase.SCHEDULED)
    former = [case for case in state.cases if case.phase not in (Phase.SCHEDULED, Phase.RESOLVED)]
    notes = [shrunk(one) for one in outbox if isinstance(one, AuditRecord)][-CLOSED_TOLD_MAX:]
    if not state.in_force:
        # what is not on record must not run again, so the lifted hold goes behind
        lifted = [one for one in outbox if isinstance(one, Hold)][-1:]
        over = [_over(one, "", now_ms) for one in former[-CLOSED_TOLD_MAX:]]
        return replace(state, cases=plans, approvals=()), [*notes, *lifted, *over]
    case = _whole(state, now_ms)
    held = replace(state, epoch=case.epoch, stop_epoch=case.epoch, cases=(*plans, case), approvals=())
    note = decision(
        at=now_ms, actor="coordinator", action="emergency_partial", subject=case.emergency_id, reason=case.reason,
        correlation_id=case.correlation_id, cause=case.cause, before=state, after=held,
    )  # fmt: skip
    over = [_over(one, case.emergency_id if one.in_force else "", now_ms) for one in former[-CLOSED_TOLD_MAX:]]
    return held, [hold_of(held, case.reason, now_ms), to_wire_emergency(case), note, *notes, *over]


def _whole(state: ScopeState, now_ms: int) -> Case:
    scope, epoch = Scope.parse(state.scope), state.epoch + 1
    cause = f"oversize:{state.scope}:{epoch}"
    known_as = derived_id("emergency", cause)
    return Case(
        emergency_id=known_as, phase=Phase.PARTIAL, scope=state.scope,
        account_id=scope.name if scope.kind is ScopeKind.ACCOUNT else None, level=StopLevel.IMMEDIATE, epoch=epoch,
        priority=max((case.priority for case in state.in_force), default=0),
        reason=f"the account of {len(state.in_force)} emergencies of this scope became too large to keep, so all of it"
        " is held as one, and nothing is proven; look at its services, then resume it",
        cause=cause, trigger_id=None, trigger_type=TriggerType.MANUAL_TRIGGER, services=(ALL_SERVICES,),
        correlation_id=known_as, occurred_at=now_ms, started_at=now_ms, completed_at=now_ms, success=False,
        asked_level=StopLevel.IMMEDIATE,
    )  # fmt: skip


def _over(case: Case, held_on_as: str, now_ms: int) -> Emergency:
    why = f"held on as emergency {held_on_as}" if held_on_as else "too large to keep, and nothing is held by it"
    ended = replace(case, phase=Phase.RESOLVED, targets=(), recovery=None, resolved_at=now_ms)
    return replace(
        to_wire_emergency(ended), success=False, time_to_stop_ms=None, completed_at=case.completed_at or now_ms,
        reason=fit(f"{why}: {case.reason}"),
    )  # fmt: skip
