"""Recoveries in which every instance is the SDK's: the production coordinator, and the production gate and stops.

Holds and commands reach each instance on their own, late and in any order to each other, as from two topics; what the
SDK answers goes back to the coordinator. Work asks for leave at every instance all along.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from emergency_stop.coordinate.state import Effect
from emergency_stop.domain.messages import Command, Hold
from emergency_stop.domain.values import AckState, Action
from emergency_stop.sdk.effects import Effect as SdkEffect
from emergency_stop.sdk.effects import RunHandler
from emergency_stop.sdk.gate import Gate, Stopped
from emergency_stop.sdk.stops import Stops
from tests.simulation.judge import covers
from tests.simulation.recovery_faults import Plan
from tests.simulation.recovery_world import RecoveryWorld

GRACEFUL_MS: Final = 60_000
#: Until a hold or a command has reached an instance, at most.
LATE_MS: Final = 300
#: A handler takes so long at most.
HANDLER_MS: Final = 50
WORK_MS: Final = 7_000
#: Attempts in one go: so many that every share is told from every other.
ATTEMPTS: Final = 100
ACCOUNTS: Final = tuple(f"acc-{number}" for number in range(ATTEMPTS))


class SdkInstance:
    """One instance: gate, stops, and handlers that say what the plan of faults wants."""

    def __init__(self, world: SdkWorld, service: str, instance_id: str) -> None:
        self.service, self.instance_id = service, instance_id
        self._world = world
        self.gate = Gate(service)
        self.gate.open()
        self._stops = Stops(self.gate, instance_id, GRACEFUL_MS, lambda: None)
        self._armed_at: int | None = None
        self.hold: Hold | None = None

    def on_hold(self, hold: Hold) -> None:
        if self.hold is None or hold.epoch >= self.hold.epoch:
            self.hold = hold
        self._perform(self._stops.on_hold(hold, trusted=True, now_ms=self._world.now)[1])

    def on_command(self, command: Command) -> None:
        self._perform(self._stops.on_command(command, trusted=True, note="", now_ms=self._world.now))

    def _perform(self, effects: list[SdkEffect]) -> None:
        for effect in effects:
            if isinstance(effect, RunHandler):
                self._world.later(partial(self._handled, effect.command), self._world.drawn.randrange(HANDLER_MS))
            else:
                self._world.told[effect.state] += 1
                self._world.later(partial(self._world.apply, effect), self._world.drawn.randrange(1, LATE_MS))
        due = self._stops.next_deadline()
        if due is not None and (self._armed_at is None or due < self._armed_at):
            self._armed_at = due
            self._world.later(self._tick, max(0, due - self._world.now))

    def _handled(self, command: Command) -> None:
        done = self._world.is_content(self, command)
        self._perform(self._stops.on_handled(command.command_id, self._world.now, done=done, reason="not content"))

    def _tick(self) -> None:
        self._armed_at = None
        self._perform(self._stops.on_tick(self._world.now))

    def works(self) -> None:
        """Ask for leave a hundred times, and compare what was admitted with what the newest hold says."""
        scope, wanted = self._world.scope, self.share()
        share = self.gate.percent_of(scope)
        if share not in (0, wanted):  # a stop command may be ahead of its hold
            self._world.oddities.append(f"{self.service} admits {share} %, not {wanted} %: {self.hold}")
        account = scope.removeprefix("account:")
        names = ACCOUNTS if account == scope else [account] * ATTEMPTS
        admitted = sum(self._attempts(name) for name in names)
        expected = share if account != scope else sum(zlib.crc32(name.encode()) % 100 < share for name in names)
        if abs(admitted - expected) > (account != scope):  # what a budget had left over
            self._world.oddities.append(f"{self.service} admitted {admitted} of {ATTEMPTS} at {share} %: {self.hold}")
        self._world.admitted[share] += 1

    def _attempts(self, account_id: str) -> bool:
        if self.gate.wide is None and account_id not in self.gate.accounts:
            return True
        try:
            self.gate.check(account_id)
        except Stopped:
            return False
        return True

    def share(self) -> int:
        """What the newest hold admits of this service, read from it as a person would."""
        if self.hold is None or not covers(self.hold, self.service):
            return 100
        named = [{s.service: s.percent for s in cause.shares}.get(self.service, 0) for cause in self.hold.causes]
        return min(named, default=0)


class SdkWorld(RecoveryWorld):
    """A recovery world whose services are real; ``oddities`` is empty where all admitted what the holds said."""

    def __init__(self, seed: int, plan: Plan) -> None:
        super().__init__(seed, plan)
        if self.scope == "global":
            # what two people must ask for is no matter of the gate
            self.scope = f"service:{self._known[0]}"
        self.guards = [SdkInstance(self, service, instance_id) for service, instance_id in self.instances]
        self.oddities: list[str] = []
        self._reached: dict[tuple[str, str, str], int] = {}
        self.admitted: Counter[int] = Counter()
        self.told: Counter[AckState] = Counter()
        self.later(self._work, WORK_MS)

    def is_content(self, guard: SdkInstance, command: Command) -> bool:
        """Whether the handler is, by the plan of faults."""
        wanted = AckState.READY if command.action is Action.PROBE else AckState.STOPPED
        return self.plan.answer(self, command, guard.instance_id, wanted) is wanted

    def _work(self) -> None:
        for guard in self.guards:
            guard.works()
        self.later(self._work, WORK_MS)

    def settle(self) -> None:
        """Until everything that was published has reached everybody."""
        until = self.now + 10 * LATE_MS
        while self.now < until:
            self._one()

    def _publish(self, effects: list[Effect]) -> None:
        super()._publish(effects)
        for hold in [effect for effect in effects if isinstance(effect, Hold)]:
            for guard in self.guards:
                self._reach(guard, "holds", partial(guard.on_hold, hold))

    def _obey(self, command: Command) -> None:
        for guard in self.guards:
            if guard.service == command.service:
                self._reach(guard, "commands", partial(guard.on_command, command))

    def _reach(self, guard: SdkInstance, topic: str, act: Callable[[], None]) -> None:
        """Late, and in the order of the topic."""
        key = (guard.service, guard.instance_id, topic)
        at = max(self.now + self.drawn.randrange(1, LATE_MS), self._reached.get(key, 0))
        self._reached[key] = at
        self.later(act, at - self.now)
