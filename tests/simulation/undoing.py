"""What people do in a schedule that undoes: recoveries, resets, drills, plans, and resumes by one person or by two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from emergency_stop.domain.ids import emergency_id, request_cause
from emergency_stop.domain.messages import Hit, Hold, Request
from emergency_stop.domain.values import Action, ClearRule, EmergencyState, HoldState, StopLevel

if TYPE_CHECKING:
    from tests.simulation.world import SimulatedWorld

#: Two people: the second writes her name in two ways.
PEOPLE: Final = ("ann", "bob", "Bob ")
#: So often somebody insists, and so far apart: four recoveries fail meanwhile, unless a latch forbids the last.
INSISTENT_TIMES: Final = 9
INSISTENT_EVERY_MS: Final = 2_000
_RULES: Final = (
    ClearRule.WHEN_CONDITION_CLEARS,
    ClearRule.NEVER_AUTOMATICALLY,
    ClearRule.AFTER_OPERATOR_RESET,
)


class Undoings:
    def __init__(self, world: SimulatedWorld, send: Callable[[Hit | Request], None]) -> None:
        self._world = world
        self._engine, self._random = world.engine, world.engine.random
        self._send = send
        self._number = 0

    def clear_rule(self) -> ClearRule:
        """Of a hit."""
        if self._world.weather.undoing is None:
            return ClearRule.NEVER_AUTOMATICALLY
        return self._random.choice(_RULES)

    def insist(self, at_ms: int) -> int:
        """Ask for the recovery of whatever holds, again and again; returns when the last has been asked for."""
        for _ in range(INSISTENT_TIMES):
            self._engine.after(at_ms, self._ask_all)
            at_ms += INSISTENT_EVERY_MS
        return at_ms

    def _ask_all(self) -> None:
        held = self._held()
        for person in PEOPLE[:2] if held else ():
            self._send(self._request(Action.RECOVER, held[0].scope, epoch=held[0].epoch, by=person))

    def operate(self) -> None:
        """One of them."""
        undoing = self._world.weather.undoing
        if undoing is not None and self._engine.chance(undoing.plans):
            self._plan_and_call_off()
            return
        draw = self._random.random()
        if draw < 0.15 and self._hit_again():
            return
        if draw < 0.5:
            self._ask(Action.RECOVER)
        elif draw < 0.7:
            self._ask(Action.RESUME)
        elif draw < 0.8:
            self._ask(Action.RESET)
        elif draw < 0.9:
            self._send(self._drill())
        else:
            self._plan_or_call_off()

    def _held(self) -> list[Hold]:
        return [hold for hold in self._world.judge.newest_holds.values() if hold.state is HoldState.HELD]

    def _ask(self, action: Action) -> None:
        """Of what somebody saw, mostly the newest; where two people are needed, often the second asks soon after."""
        held = self._held()
        if not held:
            return
        seen = self._random.choice(held)
        epoch: int | None = max(0, seen.epoch - self._random.choice((0, 0, 0, 0, 1, 2)))
        if action is Action.RECOVER and self._random.random() < 0.2:
            epoch = None
        one = self._random.choice(seen.causes).emergency_id if self._random.random() < 0.3 else None
        person = self._random.choice(PEOPLE)
        self._send(self._request(action, seen.scope, epoch=epoch, emergency_id=one, by=person))
        if seen.scope == "global" and self._random.random() < 0.7:
            second = self._request(action, seen.scope, epoch=epoch, emergency_id=one, by=self._random.choice(PEOPLE))
            self._engine.after(self._random.choice((10, 800)), self._send, second)

    def _hit_again(self) -> bool:
        """The trigger fires while somebody undoes what it stopped; whether there was such a one."""
        under_way = self._world.judge.recoveries.hits_under_way()
        if not under_way:
            return False
        self._number += 1
        former, now_ms = self._random.choice(under_way), self._engine.now_ms
        name = f"again{self._number}"
        again = replace(former, hit_id=name, correlation_id=f"corr-{name}", occurred_at=now_ms, detected_at=now_ms)
        # most of them while it is watched, or soon before
        self._engine.after(self._random.choice((10, 1_500, 3_000)), self._send, again)
        return True

    def _drill(self) -> Request:
        level = self._random.choice((StopLevel.IMMEDIATE, StopLevel.GRACEFUL, StopLevel.CASCADING))
        return self._request(Action.DRILL, self._random.choice(self._world.scopes), level=level)

    def _plan_or_call_off(self) -> None:
        planned = [one for one in self._world.judge.accounts.newest() if one.state is EmergencyState.SCHEDULED]
        if planned and self._random.random() < 0.3:
            one = self._random.choice(planned)
            self._send(self._request(Action.RESUME, one.scope, epoch=0, emergency_id=one.emergency_id))
            return
        asked = self._request(Action.STOP, self._random.choice(self._world.scopes), level=StopLevel.MAINTENANCE)
        starts_at = self._random.choice((None, self._engine.now_ms + self._random.choice((100, 3_000))))
        self._send(replace(asked, starts_at=starts_at))

    def _plan_and_call_off(self) -> None:
        """A plan that somebody calls off close to its time, before or after; at times without naming it."""
        scope, for_ms = self._random.choice(self._world.scopes), self._random.choice((200, 1_000, 4_000))
        asked = self._request(Action.STOP, scope, level=StopLevel.MAINTENANCE)
        self._send(replace(asked, starts_at=self._engine.now_ms + for_ms))
        if self._random.random() < 0.7:
            named = emergency_id(request_cause(asked.request_id)) if self._random.random() < 0.8 else None
            off = self._request(Action.RESUME, scope, epoch=0, emergency_id=named)
            self._engine.after(for_ms + self._random.choice((-200, -50, -5, 0, 5, 300)), self._send, off)

    def _request(
        self, action: Action, scope: str, *, level: StopLevel = StopLevel.IMMEDIATE, epoch: int | None = None,
        emergency_id: str | None = None, by: str = "ann",
    ) -> Request:  # fmt: skip
        self._number += 1
        return Request(
            f"u{self._number}", action, scope, level, ("all",), "looks right", by, self._engine.now_ms,
            f"corr-u{self._number}", epoch, emergency_id,
        )  # fmt: skip
