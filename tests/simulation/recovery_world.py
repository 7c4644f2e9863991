"""One emergency and its recovery: the production core, services that answer, a clock, and one fault at most.

The coordinator dies now and then and begins again from what it had on record, so every effect may come twice. The judge
reads only what was published, as a service or an auditor would.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from emergency_stop.coordinate.partition import Coordinator
from emergency_stop.coordinate.publication import publishable
from emergency_stop.coordinate.recovery_procedures import default_procedures
from emergency_stop.coordinate.services import Services
from emergency_stop.coordinate.state import Case, Effect, Policy, World
from emergency_stop.coordinate.tables import Phase, RefusedMessageError
from emergency_stop.domain.ids import ack_id
from emergency_stop.domain.messages import (
    Ack,
    Command,
    ConditionAnswer,
    ConditionQuestion,
    Hold,
    Recovery,
    Request,
    ServiceInstance,
)
from emergency_stop.domain.values import (
    AckState,
    Action,
    ClearRule,
    HoldState,
    InstanceState,
    RecoveryOutcome,
    StopLevel,
)
from tests.simulation.recovery_faults import Plan
from tests.unit.coordinate.scenario import hit, request

HEARTBEAT_MS: Final = 10_000
LATENCY_MS: Final = 400
#: A recovery that has not ended by then never will.
PATIENCE_MS: Final = 3_600_000
POLICY: Final = Policy(
    procedures=default_procedures(HEARTBEAT_MS, 30_000, 60_000),
    condition_interval_ms=HEARTBEAT_MS,
    issued_by="sim",
    # one person recovers here; what two are for is tried in the core's own tests
    global_resume_people=1,
)
_ANSWERS: Final = {Action.STOP: AckState.STOPPED, Action.RESUME: AckState.RESUMED, Action.PROBE: AckState.READY}


@dataclass(slots=True)
class Published:
    """Everything that was published, in order, and the newest hold by epoch."""

    effects: list[Effect] = field(default_factory=list)
    hold: Hold | None = None
    recovery: Recovery | None = None


class RecoveryWorld:
    """Deterministic in its seed: the same seed draws the same emergency, fault and schedule."""

    def __init__(self, seed: int, plan: Plan) -> None:
        self.drawn = random.Random(f"recovery {seed}")
        self.plan = plan
        self.now = 1_000_000
        self.published = Published()
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._records: dict[bytes, bytes] = {}
        self._core = Coordinator(POLICY.max_concurrent_stops, POLICY.retention_ms)
        self._known = tuple(f"s{number}" for number in range(self.drawn.randrange(1, 5)))
        self.instances = {(one.service, one.instance_id): one for one in self._drawn_instances()}
        self._heard_at = dict.fromkeys(self.instances, self.now)
        self._wide: dict[str, Hold] = {}
        self.silent: set[tuple[str, str]] = set()
        self.scope = self.drawn.choice(("account:a", "account:a", "global", f"service:{self._known[0]}"))
        self._by_hit = plan.fault.needs_hit or self.drawn.random() < 0.7
        #: Stops that nobody asks to recover, because they do so themselves.
        self._automatic = self._by_hit and self.drawn.random() < 0.4
        self._asked = 0

    def run(self) -> None:
        """From the stop to the end of its first recovery, and until what was rolled back has stopped again."""
        until = self.now + PATIENCE_MS
        self._every_heartbeat()
        self.later(self._stop)
        while self.now < until and not self._is_over():
            self._one()

    def later(self, act: Callable[[], None], wait_ms: int | None = None) -> None:
        at = self.now + (self.drawn.randrange(1, LATENCY_MS) if wait_ms is None else wait_ms)
        heapq.heappush(self._events, (at, next(self._numbers), act))

    def case(self) -> Case | None:
        """The emergency, as the core has it."""
        cases = self._core.state(self.scope).cases
        return cases[0] if cases else None

    def _is_over(self) -> bool:
        """The recovery has ended, and a stop after it has been judged."""
        told, case = self.published.recovery, self.case()
        ended = told is not None and told.outcome is not RecoveryOutcome.UNDER_WAY
        return ended and (case is None or case.phase in (Phase.STOPPED, Phase.PARTIAL, Phase.RESOLVED))

    def _one(self) -> None:
        due = self.now if self._core.to_conclude(self._is_published) else self._core.next_deadline()
        at = self._events[0][0]
        if due is not None and due < at:
            self.now = max(self.now, due)
            self._core.tick(self.now, self._world())
        else:
            self.now, _, act = heapq.heappop(self._events)
            act()
        self._checkpoint()

    def _checkpoint(self) -> None:
        """Record, then publish; a death between the two publishes twice."""
        for key, value in self._core.take_dirty():
            if value is None:
                self._records.pop(key, None)
            else:
                self._records[key] = value
        effects = publishable(self._core.take_effects())
        if effects and self.drawn.random() < self.plan.death_share:
            self._publish(effects[: self.drawn.randrange(len(effects) + 1)])
            self._core = Coordinator(POLICY.max_concurrent_stops, POLICY.retention_ms)
            self._core.restore(self._records.items())
        else:
            self._publish(effects)

    def _world(self) -> World:
        hold = self.published.hold
        epochs = {} if hold is None else {hold.scope: hold.epoch}
        services = Services(self._known, self.instances.values())
        return World(POLICY, services, self._is_published, epochs, wide_holds=self._wide)

    def _is_published(self, scope: str, epoch: int) -> bool:
        hold = self.published.hold
        return hold is not None and hold.scope == scope and hold.epoch >= epoch

    def apply(self, message: Any) -> None:
        try:
            effects = self._core.apply(message, self.now, self._world())
        except RefusedMessageError:
            return
        self._publish(publishable(effects))

    def _publish(self, effects: list[Effect]) -> None:
        for effect in effects:
            self.published.effects.append(effect)
            if isinstance(effect, Hold) and effect.scope == self.scope:
                if self.published.hold is None or effect.epoch >= self.published.hold.epoch:
                    self.published.hold = effect
            elif isinstance(effect, Command):
                self._obey(effect)
            elif isinstance(effect, ConditionQuestion):
                self._look_up(effect)
            elif isinstance(effect, Recovery):
                self.published.recovery = effect
                self.plan.on_recovery(self, effect)

    def _drawn_instances(self) -> list[ServiceInstance]:
        found = []
        for service in self._known:
            needs = self.drawn.sample(self._known, self.drawn.randrange(len(self._known)))
            found += [
                ServiceInstance(service, f"i{number}", InstanceState.UP, self.now, self.now, 0, 0, tuple(needs))
                for number in range(self.drawn.randrange(1, 4))
            ]
        return found

    def _every_heartbeat(self) -> None:
        for key, one in self.instances.items():
            if key not in self.silent:
                self.beat(key, actions=one.actions + 50, failed_actions=one.failed_actions + self.plan.failures(self))
        self.later(self._every_heartbeat, HEARTBEAT_MS)

    def beat(self, key: tuple[str, str], **changes: Any) -> None:
        """The instance announces itself anew."""
        self.instances[key] = replace(self.instances[key], heartbeat_at=self.now, **changes)

    def any_target(self, among: set[str] | None = None) -> tuple[str, str]:
        """An instance that the emergency concerns, of one of the services ``among``."""
        targets = [key for key in self.instances if self.scope in ("global", "account:a", f"service:{key[0]}")]
        return self.drawn.choice([key for key in targets if among is None or key[0] in among])

    def hold_widely(self) -> None:
        self._wide["global"] = Hold("global", 1, HoldState.HELD, StopLevel.GRACEFUL, (), "all of it", self.now)

    def _stop(self) -> None:
        level = self.drawn.choice((StopLevel.IMMEDIATE, StopLevel.GRACEFUL))
        if self._by_hit:
            rule = ClearRule.WHEN_CONDITION_CLEARS if self._automatic else ClearRule.NEVER_AUTOMATICALLY
            self.hit_again("first", level=level, clear_rule=rule, priority=self.drawn.randrange(1, 5))
        else:
            self.apply(request("stop", scope=self.scope, level=level))
        if not self._automatic:
            self.later(self._ask, self.drawn.randrange(5_000, 60_000))

    def hit_again(self, name: str, **changes: Any) -> None:
        """The trigger fires."""
        fields: dict[str, Any] = {"account_id": None, "occurred_at": self.now, "detected_at": self.now}
        self.apply(replace(hit(name, **{**fields, **changes}), scope=self.scope))

    def stop_anew(self) -> None:
        """Somebody stops the scope once more."""
        self.apply(request("anew", scope=self.scope, level=StopLevel.IMMEDIATE))

    def _ask(self) -> None:
        """Somebody asks for the recovery, and again where it was too early."""
        if self.published.recovery is not None:
            return
        self._asked += 1
        hold = self.published.hold
        epoch = hold.epoch if hold is not None else None
        # what holds everything needs the word of two
        for person in ("ann", "ben") if self.scope == "global" else ("ann",):
            wanted = f"recover{self._asked} {person}"
            asked: Request = request(wanted, Action.RECOVER, self.scope, requested_by=person, epoch=epoch)
            self.apply(asked)
        self.later(self._ask, 20_000)

    def _obey(self, command: Command) -> None:
        for service, instance_id in self.instances:
            if service == command.service:
                self._answer(command, instance_id)

    def _answer(self, command: Command, instance_id: str) -> None:
        state = self.plan.answer(self, command, instance_id, _ANSWERS[command.action])
        if state is None or (command.service, instance_id) in self.silent:
            return
        reply = Ack(
            ack_id(command.command_id, instance_id, state), command.command_id, command.emergency_id,
            command.correlation_id, command.scope, command.epoch, command.service, instance_id, state, "as told", 0,
            None, None, self.now + 1,
        )  # fmt: skip
        for _ in range(self.drawn.choice((1, 1, 1, 2))):
            self.later(lambda: self.apply(reply))

    def _look_up(self, question: ConditionQuestion) -> None:
        state = self.plan.condition(self)
        if state is None:
            return
        answer = ConditionAnswer(
            question.question_id, question.trigger_id, question.scope, question.emergency_id, state, "as seen", self.now
        )
        self.later(lambda: self.apply(answer))
