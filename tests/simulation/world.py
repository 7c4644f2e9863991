"""The whole stop protocol in one process: production cores in simulated shells, on simulated logs, under one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from emergency_stop.coordinate.partition import Coordinator
from emergency_stop.coordinate.published import PublishedHolds
from emergency_stop.coordinate.services import Services
from emergency_stop.coordinate.state import Effect, World
from emergency_stop.domain.messages import (
    Ack,
    Command,
    ConditionAnswer,
    ConditionQuestion,
    Hit,
    Hold,
    Lease,
    ServiceInstance,
)
from emergency_stop.domain.values import Action
from emergency_stop.sdk.lease import LeaseHolder
from emergency_stop.sdk.permit import PermitGate
from emergency_stop.sdk.stops import Stops
from tests.simulation.coordination import CoordinatorProcess, Durable, Input, KeepingCoordinator
from tests.simulation.detectors import Detectors
from tests.simulation.engine import START_MS, Engine, Log
from tests.simulation.instance import FORGED, Instance
from tests.simulation.judge import Judge, Violation
from tests.simulation.leasing import LeaseOffice
from tests.simulation.operations import Operations
from tests.simulation.trace import describe
from tests.simulation.weather import COMPACTION_LAG_MS, POLICY, UNDOING_POLICY, Weather, draw, special

#: Everything has ended long before; what has not by then never will.
SETTLE_MS: Final = 300_000
#: What is on its way when all has ended arrives, and every instance has had a chance to act.
QUIET_MS: Final = 4_000
#: How long a coordinator reads that takes its log over only then, which none should.
READS_FOR_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Parts:
    """The cores under test. A planted bug puts others in their place."""

    coordinator: Callable[[int, int], Coordinator] = KeepingCoordinator
    gate: type[PermitGate] = PermitGate
    stops: type[Stops] = Stops
    leases: type[LeaseHolder] = LeaseHolder
    #: Whether a coordinator asks the log whose it is before it publishes, and takes it over before it reads it.
    proves: bool = True
    claims_first: bool = True
    #: Whether who takes a log over writes anew what a predecessor of the predecessor wrote late.
    settles: bool = True


class SimulatedWorld:
    """One schedule. ``tell`` gets a readable line for everything that happens."""

    def __init__(self, seed: int, parts: Parts, tell: Callable[[str], None] | None = None) -> None:
        self.seed, self.parts = seed, parts
        self.engine = Engine(seed)
        self.weather: Weather = special(seed, draw(self.engine.random))
        self.policy = POLICY if self.weather.undoing is None else UNDOING_POLICY
        self._tell = tell
        self.traces = tell is not None
        self.inputs: dict[str, Log[Input]] = {"hits": Log(), "requests": Log(), "acks": Log()}
        if self.weather.undoing is not None:
            self.inputs["answers"] = Log()
        self.detectors = Detectors(self)
        self.commands: dict[str, Log[Command]] = {name: Log() for name in self.weather.services}
        self.holds: Log[Hold] = Log()
        self._held_at: list[int] = []
        #: What actions name: mostly accounts, sometimes none.
        self.accounts: tuple[str | None, ...] = (*self.weather.accounts, *self.weather.accounts, None)
        self.scopes = (
            "global",
            f"service:{self.weather.services[0]}",
            *(f"account:{a}" for a in self.weather.accounts),
        )
        if self.weather.undoing is not None:  # a hold of everything keeps every other recovery from passing
            self.scopes = (*self.scopes[1:], *self.scopes[1:], *self.scopes)
        self.work_gap_ms = 600
        self.instances: list[Instance] = []
        self.durable = Durable()
        self.judge = Judge(self)
        self._seen: dict[Instance, int] = {}
        self.coordinator: CoordinatorProcess | None = None
        self.is_healed = False
        for service in self.weather.services:
            for _ in range(self.weather.instances_each):
                self.start_instance(service)
        for log in self.inputs.values():
            log.readers.append(self._wake_coordinator)
        self._start_coordinator()
        #: The other partitions' coordinators, as far as leases go.
        self.offices = [LeaseOffice(self, number) for number in range(1, self.weather.leases)]

    def run(self) -> list[Violation]:
        """The whole schedule; what was violated, at most the first."""
        Operations(self).plan()
        self._run_until(self.engine.now_ms + 1_000)
        while not self.operations_are_over and not self.judge.violations:
            self._run_until(self.engine.now_ms + 1_000)
        self._heal()
        latest = self.engine.now_ms + SETTLE_MS
        # what a coordinator had read, and not yet told, when it died counts as begun once its successor tells it
        self._run_until(self.engine.now_ms + QUIET_MS)
        while not self.judge.has_all_ended() and not self.judge.violations and self.engine.now_ms < latest:
            self._run_until(self.engine.now_ms + 1_000)
        self._run_until(self.engine.now_ms + QUIET_MS)
        # an answer that comes late enough arrives in this very moment
        while not self._is_all_heard() and not self.judge.violations and self.engine.now_ms < latest:
            self._run_until(self.engine.now_ms + 10)
        if not self.judge.violations:
            self.judge.conclude()
        return self.judge.violations

    def _is_all_heard(self) -> bool:
        return self.coordinator is not None and self.coordinator.is_idle

    operations_are_over = False

    def _run_until(self, at: int) -> None:
        if not self.judge.violations:
            self.engine.run(at)

    def _heal(self) -> None:
        """No more faults: from here on everything must end."""
        self.note("no more faults from here on")
        self.is_healed = True
        self.weather = self.weather_after_the_storm()
        self.work_gap_ms = 3_000
        if self.coordinator is None:
            self._start_coordinator()
        for office in self.offices:
            office.open()
        self._run_until(max([self.engine.now_ms, *(instance.disturbed_until for instance in self.instances)]))

    def weather_after_the_storm(self) -> Weather:
        calm = self.weather
        fair = calm.undoing and replace(calm.undoing, deaf=0, late=0, failing=0, falls=0)
        return Weather(
            calm.services, calm.instances_each, calm.accounts, 0, lag_ms=20, crash=0, stall=0, downtime_ms=100,
            repeat=0, late_ack=0, drop_ack=0, drop_command=0, stubborn=calm.stubborn, long_action=0, bad_handler=0,
            trouble=0, depends_on=calm.depends_on, undoing=fair, leases=calm.leases, anew=calm.anew,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------- the broker

    def take_input(self, message: Input) -> None:
        """The broker accepts an input of the coordinator."""
        if isinstance(message, Ack):
            topic = "acks"
        elif isinstance(message, ConditionAnswer):
            topic = "answers"
        else:
            topic = "hits" if isinstance(message, Hit) else "requests"
            self.note("%s: %s", topic, message)
        self.judge.accepted(message)
        self.inputs[topic].append(message)

    def input_order(self) -> list[str]:
        """Topics are read in any order."""
        order = list(self.inputs)
        self.engine.random.shuffle(order)
        return order

    def publish(self, effect: Effect, *, late: bool) -> None:
        """The broker accepts a record of a coordinator; ``late``: of one that was succeeded meanwhile."""
        if self.traces:
            self.note("published%s: %s", " late" if late else "", effect)
        self.judge.published(effect, late=late)
        if isinstance(effect, Hold):
            self._append_hold(effect)
        elif isinstance(effect, Command):
            self.commands[effect.service].append(effect)
        elif isinstance(effect, ConditionQuestion):
            self.detectors.asked(effect)

    def publish_foreign(self, hold: Hold) -> None:
        """Somebody writes a hold that is not its owner's."""
        self.note("%s: %s", "forged" if hold.signature == FORGED else "by an impostor", hold)
        self._append_hold(hold)

    def _append_hold(self, hold: Hold) -> None:
        self._held_at.append(self.engine.now_ms)
        self.holds.append(hold)
        if self.coordinator is not None:
            self.coordinator.hear(hold)

    def compacted_holds(self) -> list[Hold]:
        """The topic as a new reader finds it: of what is old, only the newest of each scope, or all of it."""
        if self.engine.chance(0.5):
            return list(self.holds.records)
        old = sum(at <= self.engine.now_ms - COMPACTION_LAG_MS for at in self._held_at)
        newest = {hold.scope: number for number, hold in enumerate(self.holds.records[:old])}
        return [self.holds.records[number] for number in sorted(newest.values())] + self.holds.records[old:]

    def lag_ms(self) -> int:
        """Mostly next to nothing, at times as long as this weather has it."""
        most = self.weather.lag_ms
        return int(self.engine.random.random() * (most if self.engine.random.random() < 0.1 else 5))

    def ack_lag_ms(self) -> int:
        late = self.engine.chance(self.weather.late_ack)
        return self.engine.random.randrange(500, 9_000) if late else self.lag_ms()

    def drops(self, command: Command) -> bool:
        return command.action is Action.STOP and self.engine.chance(self.weather.drop_command)

    # ------------------------------------------------------------------------------------------ the players

    def start_instance(self, service: str, instance_id: str | None = None) -> None:
        """A new one, or the successor of one that has ended, under its id."""
        instance = Instance(self, service, instance_id or f"i{len(self.instances)}")
        self.judge.started(instance)
        self.instances.append(instance)
        instance.start()

    def come_again(self, former: Instance) -> None:
        """A successor under its id, unless somebody has that by now: two at once would be two names for nobody."""
        if not any(one.is_alive and one.key == former.key for one in self.instances):
            self.start_instance(*former.key)

    def fall(self, instance: Instance) -> None:
        """It is killed, and comes again at once under its own id."""
        if instance.is_alive:
            self.note("%s falls", instance)
            instance.die()
            self.engine.after(self.engine.random.randrange(300), self.come_again, instance)

    def hear_beat(self, beat: ServiceInstance) -> None:
        """A heartbeat has reached the broker."""
        if self.coordinator is not None and self.coordinator.granting is not None:
            self.engine.after(self.lag_ms(), self.coordinator.granting.hear, beat)
        for office in self.offices:
            self.engine.after(self.lag_ms(), office.hear, beat)

    def grant(self, lease: Lease) -> None:
        """A coordinator publishes a lease: it reaches each instance on its own, sometimes late."""
        for instance in self.instances:
            if instance.is_alive and instance.leasing is not None:
                late_ms = self.engine.random.randrange(4_000) if self.engine.chance(self.weather.late_ack) else 0
                instance.after(late_ms, instance.online, instance.leasing.take, lease)

    def seen_by_coordinator(self, published: PublishedHolds, *, counts: bool) -> World:
        """Announcements as they have reached the coordinator, which reads them with a lag of its own.

        Of those under one id the last counts, as of a compacted topic. ``counts``: whether a coordinator that decides
        something sees them.
        """
        now_ms = self.engine.now_ms
        found: list[ServiceInstance] = []
        for instance in self.instances:
            # whom a coordinator grants a lease it has seen
            lag_ms = 0 if self.weather.leases else int(self.engine.random.random() * 5)
            known = instance.announcement(now_ms - lag_ms)
            if known is not None:
                if counts:
                    self._seen.setdefault(instance, now_ms)
                found.append(known)
        services = Services(self.weather.services, found)
        return World(self.policy, services, published.has, published.epochs, published.overtaken, published.wide)

    def seen_at(self, instance: Instance) -> int | None:
        """When a coordinator first knew of it."""
        return self._seen.get(instance)

    def _wake_coordinator(self) -> None:
        if self.coordinator is not None:
            self.coordinator.wake()

    def _start_coordinator(self, found: Durable | None = None) -> None:
        core = self.parts.coordinator(self.policy.max_concurrent_stops, self.policy.retention_ms)
        self.coordinator = CoordinatorProcess(self, core, self.durable, found)
        self.note("coordinator starts")
        self.coordinator.start()

    def coordinator_died(self, process: CoordinatorProcess, how: str) -> None:
        """A successor comes after a while; one that was succeeded already is not succeeded again."""
        self.note("coordinator dies: %s", how)
        process.die()
        if process is self.coordinator:
            self.succeed_coordinator(process, 1 + int(self.engine.random.random() * self.weather.downtime_ms))

    def succeed_coordinator(self, process: CoordinatorProcess, after_ms: int) -> None:
        self.coordinator = None
        self.engine.after(after_ms, self._succeed)

    def _succeed(self) -> None:
        if self.coordinator is None and self.parts.claims_first:
            self._start_coordinator()
        elif self.coordinator is None:
            self.engine.after(READS_FOR_MS, self._begin_late, self.durable.copied())

    def _begin_late(self, found: Durable) -> None:
        if self.coordinator is None:
            self._start_coordinator(found)

    def note(self, text: str, *values: object) -> None:
        """A line of the trace."""
        if self._tell is not None:
            self._tell(f"{self.engine.now_ms - START_MS:>7} ms  {text % tuple(map(describe, values))}")
