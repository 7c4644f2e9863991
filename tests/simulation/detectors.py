"""Who answers for a trigger's condition: clearly, late, wrongly, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emergency_stop.domain.messages import ConditionAnswer, ConditionQuestion
from emergency_stop.domain.values import ConditionState

if TYPE_CHECKING:
    from tests.simulation.world import SimulatedWorld

LATE_MS = 4_000


class Detectors:
    def __init__(self, world: SimulatedWorld) -> None:
        self._world = world

    def asked(self, question: ConditionQuestion) -> None:
        """One question; after the faults only those that a recovery under way asks, so that the schedule ends."""
        world, engine = self._world, self._world.engine
        weather = world.weather.undoing
        if weather is None or engine.chance(weather.deaf):
            return
        if world.is_healed and not world.judge.recoveries.is_under_way(question.emergency_id):
            return
        state = ConditionState.CLEAR
        if engine.chance(weather.holds):
            state = engine.random.choice((ConditionState.HOLDS, ConditionState.UNKNOWN))
        answer = ConditionAnswer(
            question.question_id, question.trigger_id, question.scope, question.emergency_id, state, "as seen",
            engine.now_ms, subjects=1,
        )  # fmt: skip
        lag_ms = engine.random.randrange(500, LATE_MS) if engine.chance(weather.late) else world.lag_ms()
        engine.after(lag_ms, world.take_input, answer)
        if engine.chance(world.weather.repeat):
            engine.after(lag_ms + engine.random.randrange(LATE_MS), world.take_input, answer)
