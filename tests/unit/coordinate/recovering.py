"""A scope on its way back, for tests: messages go in, time passes, and everything that came out is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from emergency_stop.coordinate.lifecycle import Tick
from emergency_stop.coordinate.recovery_procedures import Procedure, When
from emergency_stop.coordinate.services import Services
from emergency_stop.coordinate.state import Case, Effect, Policy, ScopeState, World
from emergency_stop.coordinate.step import step
from emergency_stop.domain.messages import (
    Command,
    ConditionAnswer,
    ConditionQuestion,
    Hit,
    Hold,
    Recovery,
    Request,
)
from emergency_stop.domain.values import (
    AckState,
    Action,
    ConditionState,
    HoldState,
    RecoveryOutcome,
    RecoveryPhase,
    StopLevel,
)
from tests.unit.coordinate.scenario import SCOPE, ack, command_to, instance, on_record, opened, request

#: Two checks one second apart, two shares, each watched for two seconds.
QUICK = Procedure(
    "quick", checks=2, check_interval_ms=1_000, validation_timeout_ms=5_000, preparation_timeout_ms=3_000,
    shares=(10, 100), probe_timeout_ms=3_000, soak_ms=2_000, full_restore_timeout_ms=3_000, monitoring_ms=10_000,
    when=(When(),),
)  # fmt: skip
POLICY = Policy(issued_by="coordinator-test", procedures=(QUICK,), condition_interval_ms=1_000)


class Scene:
    """One emergency of ``account:a``, stopped and proven at second 10, and the services x and y, where y needs x."""

    def __init__(self, cause: Hit | Request | None = None, policy: Policy = POLICY) -> None:
        self.policy = policy
        self.now = 10_000
        self.instances = [instance("x"), replace(instance("y"), depends_on=("x",))]
        self.wide: dict[str, Any] = {}
        self.stops_wait = False
        self.effects: list[Effect] = []
        self.state: ScopeState = opened(cause or request("r0", level=StopLevel.GRACEFUL), 0, self.world)
        for service in "xy":
            self.hears(ack(command_to(self.case, service), AckState.STOPPED))
        self.effects.clear()

    @property
    def case(self) -> Case:
        return self.state.cases[0]

    @property
    def world(self) -> World:
        services = Services(("x", "y"), self.instances)
        return World(self.policy, services, on_record, wide_holds=self.wide, stops_wait=self.stops_wait)

    @property
    def told(self) -> Recovery:
        """The newest word on the recovery."""
        return next(effect for effect in reversed(self.effects) if isinstance(effect, Recovery))

    def hears(self, message: Any) -> list[Effect]:
        """What one message leads to."""
        self.state, effects = step(self.state, message, self.now, self.world)
        self.effects += effects
        return effects

    def waits(self, ms: int, until: Any = lambda: False) -> None:
        """Time passes in steps of 100 ms; heartbeats keep coming."""
        for _ in range(0, ms, 100):
            self.now += 100
            self.instances = [
                replace(one, heartbeat_at=self.now) if one.heartbeat_at > self.now - 30_000 else one
                for one in self.instances
            ]
            self.hears(Tick(SCOPE))
            if until():
                return

    def changes(self, service: str, **changes: Any) -> None:
        """An instance announces itself anew."""
        self.instances = [replace(one, **changes) if one.service == service else one for one in self.instances]

    def loses(self, service: str) -> None:
        """Its heartbeats stop, a minute ago."""
        self.instances = [
            replace(one, heartbeat_at=self.now - 60_000) if one.service == service else one for one in self.instances
        ]

    def recovers(self, request_id: str = "recover", **changes: Any) -> list[Effect]:
        """Ann asks for it."""
        return self.hears(request(request_id, Action.RECOVER, **changes))

    def sent(self, action: Action) -> list[Command]:
        return [effect for effect in self.effects if isinstance(effect, Command) and effect.action is action]

    def answers(self, state: AckState, services: str = "xy", instance_id: str = "1") -> None:
        """Instances answer the newest probe to their service."""
        for service in services:
            probes = [command for command in self.sent(Action.PROBE) if command.service == service]
            self.hears(ack(probes[-1], state, instance_id, at=self.now))

    def question(self) -> ConditionQuestion:
        return next(effect for effect in reversed(self.effects) if isinstance(effect, ConditionQuestion))

    def detector(self, state: ConditionState) -> None:
        """A detector answers the newest question."""
        asked = self.question()
        self.hears(
            ConditionAnswer(
                asked.question_id, asked.trigger_id, asked.scope, asked.emergency_id, state, "as seen", self.now
            )
        )

    def hears_tick(self) -> None:
        """Time has passed, and no heartbeat came."""
        self.hears(Tick(SCOPE))

    def validated(self, by: str = "recover") -> Scene:
        """Every check passed; where a trigger caused it, a detector said so."""
        self.recovers(by)
        for _ in range(2):
            if self.case.trigger_id is not None:
                self.detector(ConditionState.CLEAR)
            self.waits(1_000, until=lambda: self.told.phase is not RecoveryPhase.VALIDATION)
        return self

    def prepared(self) -> Scene:
        """Everybody is ready; x admits the first share."""
        self.validated()
        self.answers(AckState.READY)
        return self

    def eased(self, steps: int) -> Scene:
        """So many of the four steps were answered for and soaked."""
        self.prepared()
        for number in range(steps):
            self.answers(AckState.READY, "xxyy"[number])
            self.waits(2_000)
        return self

    def resumed(self) -> Scene:
        """In full, and confirmed: watched."""
        self.eased(4)
        for command in self.sent(Action.RESUME):
            self.hears(ack(command, AckState.RESUMED, at=self.now))
        return self


def failed_in(scene: Scene, phase: RecoveryPhase, why: str) -> None:
    """The last recovery failed in that phase, for that reason, and admits nothing."""
    assert (scene.told.outcome, scene.told.phase) == (RecoveryOutcome.ROLLED_BACK, phase)
    assert why in scene.told.detail
    assert scene.told.shares == ()


def hold_of_everything() -> Hold:
    return Hold("global", 7, HoldState.HELD, StopLevel.GRACEFUL, (), "all of it", 0)
