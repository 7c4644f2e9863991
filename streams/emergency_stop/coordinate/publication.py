"""What of a moment's effects is worth publishing, and what of it goes first."""

from __future__ import annotations

from collections.abc import Sequence

from emergency_stop.coordinate.state import Effect
from emergency_stop.domain.messages import Command, ConditionQuestion, Emergency, Hold, Recovery


def publishable(effects: Sequence[Effect]) -> list[Effect]:
    """The effects in their order, but what shuts gates goes first; of a scope's holds, and of accounts of one
    emergency in one state, only the newest: what is superseded within the same moment would only be a risk to
    whoever reads it last.
    """
    if len(effects) <= 1:
        return list(effects)
    named = [(_identity(effect), effect) for effect in effects]
    newest = dict(named)
    kept = [effect for name, effect in named if newest[name] is effect]
    return sorted(kept, key=lambda effect: not _shuts(effect))


def _shuts(effect: Effect) -> bool:
    """A hold with a cause of its own epoch. One that a resume left over, or a recovery eased, has none, and waits for
    its audit record.
    """
    return isinstance(effect, Hold) and any(cause.epoch == effect.epoch for cause in effect.causes)


def _identity(effect: Effect) -> tuple[str, ...]:
    if isinstance(effect, Hold):
        return "hold", effect.scope
    if isinstance(effect, Command):
        return "command", effect.command_id
    if isinstance(effect, Emergency):
        return "emergency", effect.emergency_id, effect.state.value
    if isinstance(effect, Recovery):
        return "recovery", effect.recovery_id, effect.phase.value, effect.outcome.value
    if isinstance(effect, ConditionQuestion):
        return "question", effect.question_id
    return "audit", effect.audit_id
