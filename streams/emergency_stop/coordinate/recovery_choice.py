"""Which procedure undoes an emergency, and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emergency_stop.config import did_you_mean
from emergency_stop.coordinate.recovery_procedures import Procedure, When
from emergency_stop.domain.values import Scope

if TYPE_CHECKING:
    from emergency_stop.coordinate.state import Case, ScopeState


class UnknownProcedureError(ValueError):
    """Nobody has a procedure of that name; the text names the nearest."""


@dataclass(frozen=True, slots=True)
class History:
    """What became of earlier recoveries of the scope, as far as it is remembered."""

    failed: int = 0


def history_of(state: ScopeState) -> History:
    return History(failed=sum(case.failed_recoveries for case in state.cases))


def choose(
    case: Case, history: History, procedures: Sequence[Procedure], named: str | None = None, named_by: str = ""
) -> tuple[Procedure, tuple[str, ...]]:
    """(the procedure, why it: one line each). ``procedures`` in the order in which they are asked.

    Raises ``UnknownProcedureError`` where ``named`` is none of them, or where none applies.
    """
    names = tuple(procedure.name for procedure in procedures)
    if named is not None:
        found = next((procedure for procedure in procedures if procedure.name == named), None)
        if found is None:
            raise UnknownProcedureError(
                f"procedure {named!r} is unknown{did_you_mean(named, names)}; known: {', '.join(names)}"
            )
        return found, (f"named by {named_by or 'the request'}",)
    for procedure in procedures:
        for when in procedure.when:
            reasons = _reasons(when, case, history)
            if reasons is not None:
                return procedure, reasons or ("nothing speaks for another",)
    raise UnknownProcedureError(f"no procedure applies by itself; name one of: {', '.join(names)}")


def _reasons(when: When, case: Case, history: History) -> tuple[str, ...] | None:
    """What of ``when`` holds, one line each; ``None`` where something does not."""
    kind = Scope.parse(case.scope).kind
    priority = 0 if case.trigger_id is None else case.priority
    asked = (
        (bool(when.levels), case.level in when.levels, f"the level is {case.level.value}"),
        (
            bool(when.trigger_types),
            case.trigger_type in when.trigger_types,
            f"the trigger's type is {case.trigger_type.value}",
        ),
        (bool(when.scope_kinds), kind in when.scope_kinds, f"the scope's kind is {kind.value}"),
        (
            when.priority_min is not None,
            priority >= (when.priority_min or 0),
            f"the trigger's priority is {priority}, and {when.priority_min} or more",
        ),
        (
            when.failed_recoveries_min is not None,
            history.failed >= (when.failed_recoveries_min or 0),
            f"{history.failed} recoveries of the scope failed, and {when.failed_recoveries_min} or more",
        ),
    )
    if not all(holds for is_given, holds, _ in asked if is_given):
        return None
    return tuple(reason for is_given, _, reason in asked if is_given)
