"""Drills: the whole path of a stop is walked, and nothing is stopped.

A drill has targets, commands, answers, a second attempt and an end like a real stop. It is never in force: no hold, no
epoch, no place in the queue of real stops, and it ends by itself. That it was answered is its proof.
"""

from __future__ import annotations

from emergency_stop.coordinate.audit import decision
from emergency_stop.coordinate.cascade import begin_tiers
from emergency_stop.coordinate.lifecycle import Change, admit, forget_beyond_bound
from emergency_stop.coordinate.state import Case, ScopeState, World
from emergency_stop.coordinate.tables import Phase
from emergency_stop.domain.frozen import replace


def drill_under_way(state: ScopeState) -> Case | None:
    """One at a time in a scope: two at once would prove no more, and cost the services twice as much."""
    return next((case for case in state.cases if case.drill and case.phase is not Phase.RESOLVED), None)


def open_drill(state: ScopeState, case: Case, actor: str, now_ms: int, world: World) -> Change:
    """Begin it at once. ``case.drill`` is set; its commands name the scope's epoch, which stays as it is."""
    case = replace(case, epoch=max(state.epoch, world.published_epochs.get(state.scope, 0)))
    opened = decision(
        at=now_ms, actor=actor, action="drill_opened", subject=case.emergency_id, reason=case.reason,
        correlation_id=case.correlation_id, cause=case.cause,
    )  # fmt: skip
    state = forget_beyond_bound(state.with_case(case).with_seen(case.cause, now_ms))
    state, effects = admit(state, case.emergency_id, now_ms, world)
    state, more = begin_tiers(state, now_ms, world)
    return state, [opened, *effects, *more]
