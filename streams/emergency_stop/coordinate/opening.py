"""A stop that begins in a scope where recoveries may be under way."""

from __future__ import annotations

from emergency_stop.coordinate.lifecycle import Change, open_case
from emergency_stop.coordinate.recovery_rollback import give_way
from emergency_stop.coordinate.state import Case, ScopeState, World


def open_over(state: ScopeState, case: Case, actor: str, now_ms: int, world: World) -> Change:
    """Open ``case``; recoveries of the scope give way to it first."""
    state, ended = give_way(state, f"overtaken by a newer stop, of {actor}", now_ms, world)
    state, opened = open_case(state, case, actor, now_ms, world)
    return state, [*ended, *opened]
