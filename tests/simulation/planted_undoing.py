"""Bugs planted in what undoes: recoveries, probes, shares, latches, people, drills and tiers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from emergency_stop.coordinate import (
    authority,
    cascade,
    holds,
    lifecycle,
    plans,
    recovery_checks,
    recovery_phases,
    recovery_restore,
    recovery_rollback,
    recovery_start,
    resume,
    step,
)
from emergency_stop.coordinate.recovery_questions import heard
from emergency_stop.coordinate.recovery_records import to_wire_recovery
from emergency_stop.coordinate.recovery_state import Asked
from emergency_stop.coordinate.state import Approval, Case, ScopeState, World
from emergency_stop.coordinate.tables import EMERGENCY, EmergencyEvent, Phase
from emergency_stop.domain.messages import AuditRecord, Command, ConditionAnswer, Hold, Request
from emergency_stop.domain.values import Action, ConditionState
from emergency_stop.sdk import gate
from emergency_stop.sdk.effects import Effect as StopEffect
from emergency_stop.sdk.probes import Probes
from emergency_stop.sdk.shares import Budgets
from emergency_stop.sdk.stops import Stops
from tests.simulation.planting import SDK_KINDS, Patch, Planted
from tests.simulation.weather import ANEW_UNDOING_AT, PLANS_AT, SPECIAL_EVERY, UNDOING_EVERY
from tests.simulation.world import Parts

# ------------------------------------------------------------------------------------------------- in the SDK


class DrillingStops(Stops):
    """Takes a drill for a stop."""

    def on_command(self, command: Command, *, trusted: bool, note: str, now_ms: int) -> list[StopEffect]:
        if command.action is Action.DRILL:
            command = replace(command, action=Action.STOP)
        return super().on_command(command, trusted=trusted, note=note, now_ms=now_ms)


def _everybody_first(*_: object) -> int:
    return 0


def _takes_any_share(_: object, __: object, percent: int) -> bool:
    return percent > 0


def _no_problem(*_: object) -> str:
    return ""


# ------------------------------------------------------------------------------------------ in the coordinator

_begin_step, _restore, _hold_of, _person, _cancel = (
    recovery_restore.begin_step,
    recovery_restore.restore,
    holds.hold_of,
    authority._person,
    plans.cancel,
)


def _unrecorded(decide: Any) -> Any:
    def decided(*args: Any, **more: Any) -> Any:
        state, effects = decide(*args, **more)
        return state, [effect for effect in effects if not isinstance(effect, AuditRecord)]

    return decided


def _as_if_nothing_ran(state: ScopeState, case: Case, now_ms: int, world: World, **_: object) -> Any:
    event = EmergencyEvent.CONFIRMED if case.phase is Phase.RECOVERING else EmergencyEvent.PROVEN
    case = replace(case, phase=EMERGENCY.next(case.phase, event))
    return state.with_case(case), [to_wire_recovery(case), lifecycle.to_wire_emergency(case)]


def _proven_once(case: Case, *_: object) -> Any:
    return case.targets


def _one(*_: object) -> int:
    return 1


def _whenever(approval: Approval) -> str:
    return f"{_person(approval)} at {approval.at}"


def _with_drills(state: ScopeState, reason: str, now_ms: int) -> Hold:
    drilled = tuple(replace(case, drill=False) for case in state.cases)
    return _hold_of(replace(state, cases=drilled), reason, now_ms)


def _nothing_fails(state: ScopeState, *_: object) -> Any:
    return state, []


def _clear_anyway(*_: object) -> tuple[ConditionState, str]:
    return ConditionState.CLEAR, "as hoped"


def _any_answer(asked: Asked | None, answer: ConditionAnswer) -> Asked | None:
    return heard(asked, replace(answer, question_id=asked.question_id)) if asked else asked


def _yes(*_: object) -> bool:
    return True


def _everybody_answered(*_: object) -> tuple[()]:
    return ()


def _in(modules: tuple[object, ...], name: str, mutant: Any) -> tuple[Patch, ...]:
    return tuple((module, name, mutant) for module in modules)


def _bug(
    name: str, kinds: frozenset[str] | set[str], *patches: Patch, parts: Parts | None = None, at: int | None = None
) -> Planted:
    """``at``: the one kind of special schedule in which it can show."""
    every = UNDOING_EVERY if at is None else SPECIAL_EVERY
    return Planted(name, frozenset(kinds), parts or Parts(), patches, every=every, at=at or 0)


def _at_once(*_: object) -> tuple[bool, str]:
    return False, ""


def _called_off_in_vain(state: ScopeState, case: Case, request: Request, now_ms: int) -> Any:
    return state, _cancel(state, case, request, now_ms)[1][:1]


def _any_plan(state: ScopeState, _: Request) -> Case | None:
    return next(iter(plans.plans(state)), None)


_STEPS: Final = (recovery_phases, recovery_restore)
_UNDO: Final = (resume, recovery_start)

UNDOING_BUGS: Final = (
    _bug(
        "an instance ignores its share", {"beyond_share"}, (gate, "cohort_of", _everybody_first),
        (Budgets, "admits", _takes_any_share), (Budgets, "take", _takes_any_share),
    ),
    _bug("an instance stops for a drill", {"stuck_shut"}, parts=Parts(stops=DrillingStops)),
    _bug("ready whatever the gate admits", {"stale_probe", "unfit"}, (Probes, "_problem", _no_problem)),
    _bug("eased without audit", {"unaudited"}, *_in(_STEPS, "begin_step", _unrecorded(_begin_step))),
    _bug(
        "restored without audit", {"unaudited", "stale_resume"}, *_in(_STEPS, "restore", _unrecorded(_restore))
    ),
    _bug(
        "a failed recovery is not rolled back", {"half_open", "no_new_epoch", "stop_lost", "false_account"},
        (recovery_rollback, "_held_again", _as_if_nothing_ran),
    ),
    _bug(
        "a rollback believes former proofs", SDK_KINDS | {"false_account"}, (recovery_rollback, "enlist", _proven_once)
    ),
    _bug("a latch is ignored", {"latch_ignored"}, *_in(_UNDO, "latch_refusal", _no_problem)),
    _bug(
        "three failures do not latch", {"latch_ignored"}, (recovery_rollback, "FAILED_RECOVERIES_MAX", 1 << 30)
    ),
    _bug("one person undoes everything", {"one_person"}, *_in(_UNDO, "people_needed", _one)),
    _bug("one person counts twice", {"one_person"}, (authority, "_person", _whenever)),
    _bug("a drill holds", {"drill_holds"}, (holds, "hold_of", _with_drills)),
    _bug("a hit during a recovery is ignored", {"hit_ignored"}, (step, "fail_for_hit", _nothing_fails)),
    _bug("whatever a detector says counts as clear", {"unclear"}, (recovery_phases, "answer_of", _clear_anyway)),
    _bug("an answer to another question counts", {"unclear", "no_right"}, (recovery_start, "heard", _any_answer)),
    _bug("let run before every proof", {"eased_unproven"}, (recovery_checks, "_unproven", _no_problem)),
    _bug("a refused probe is no matter", {"unprobed"}, *_in(_STEPS, "refused", _no_problem)),
    _bug(
        "one that begins anew is taken for the one that was probed", {"unprobed"},
        *_in(_STEPS, "began_anew", _no_problem), at=ANEW_UNDOING_AT,
    ),
    _bug("an unanswered probe is no matter", {"unprobed"}, *_in(_STEPS, "unanswered", _everybody_answered)),
    _bug(
        "any emergency recovers by itself", {"no_right"},
        *_in((lifecycle, recovery_start, recovery_rollback, authority), "recovers_by_itself", _yes),
    ),
    _bug("a planned stop begins at once", {"early_plan"}, (step, "begins_later", _at_once), at=PLANS_AT),
    _bug(
        "a plan called off begins all the same", {"called_off_holds"}, (resume, "cancel", _called_off_in_vain),
        at=PLANS_AT,
    ),
    _bug("a resume of a scope calls a plan off", {"no_right"}, (resume, "planned_by_name", _any_plan), at=PLANS_AT),
    _bug("a plan never begins", {"never_ended", "stop_lost"}, (step, "begin_due", _nothing_fails), at=PLANS_AT),
    _bug("all tiers at once", {"early_tier"}, (cascade, "_is_over", _yes)),
)  # fmt: skip
