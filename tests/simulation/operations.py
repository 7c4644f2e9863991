"""What people, detectors, liars and fate do in a schedule: causes, resumes, crashes, cuts, forged and false words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from emergency_stop.domain.ids import ack_id, command_id
from emergency_stop.domain.messages import Ack, Command, Hit, Hold, HoldCause, Request
from emergency_stop.domain.values import AckState, Action, HoldState, Mode, StopLevel, TriggerType
from tests.simulation.instance import FORGED, IMPOSTOR, LEAVE_MS, Instance
from tests.simulation.undoing import Undoings

if TYPE_CHECKING:
    from tests.simulation.world import SimulatedWorld

GAPS_MS = (1, 10, 200, 1_500, 4_000)
LONGER_GAPS_MS = (10, 500, 1_500, 4_000)
#: Share of those that ended whose successor has their id, where any has.
COMES_AGAIN = 0.7
_LEVELS = (StopLevel.IMMEDIATE, StopLevel.GRACEFUL, StopLevel.GRACEFUL, StopLevel.CASCADING)


class Operations:
    def __init__(self, world: SimulatedWorld) -> None:
        self._world = world
        self._engine = world.engine
        self._random = world.engine.random
        self._done: list[Hit | Request] = []
        self._number = 0
        self._trouble: tuple[Callable[[], None], ...] = (
            self._kill_instance, self._start_instance, self._leave, self._cut_off, self._pause, self._lie, self._lie,
            self._forge, self._kill_coordinator, self._read_anew,
        )  # fmt: skip
        self._undoings = Undoings(world, self._send)
        if world.weather.undoing is not None:
            self._trouble += (self._fall_ill, self._fall_ill)
        if world.weather.anew:
            self._trouble += (self._kill_instance, self._kill_instance, self._leave)
        if world.offices:
            self._trouble += (self._close_office,) * 3

    def plan(self) -> None:
        """The whole schedule's operations, each some time after the one before."""
        weather = self._world.weather
        if weather.undoing is not None and weather.undoing.relentless:
            self._engine.after(100, self._operate_with, self._stop)
            self._engine.after(self._undoings.insist(3_000), self._over)
            return
        at = 100
        for _ in range(weather.operations):
            self._engine.after(at, self._operate)
            at += self._random.choice(GAPS_MS if weather.undoing is None else LONGER_GAPS_MS)
        self._engine.after(at + 500, self._over)

    def _over(self) -> None:
        self._world.operations_are_over = True

    def _operate_with(self, make: Callable[[], Request]) -> None:
        self._number += 1
        self._send(make())

    def _operate(self) -> None:
        self._number += 1
        weather, draw = self._world.weather, self._random.random()
        if self._engine.chance(weather.impostors):
            self._write_foreign_hold()
        elif self._number > 1 and weather.undoing is not None and self._random.random() < weather.undoing.undoes:
            self._undoings.operate()
        elif draw < weather.trouble:
            self._random.choice(self._trouble)()
        elif self._done and self._engine.chance(weather.repeat):
            self._send(self._random.choice(self._done))
        elif self._random.random() < 0.35 and self._done:
            self._resume()
        elif self._random.random() < 0.5:
            self._send(self._hit())
        else:
            self._send(self._stop())

    def _send(self, message: Hit | Request) -> None:
        """Accepted by the broker once or twice, at once or late: so anything may overtake anything."""
        self._done.append(message)
        if self._world.weather.crowd and not self._is_resume(message):
            self._start_instance()
        times = 2 if self._engine.chance(self._world.weather.repeat) else 1
        for _ in range(times):
            self._engine.after(self._world.lag_ms(), self._world.take_input, message)

    @staticmethod
    def _is_resume(message: Hit | Request) -> bool:
        return isinstance(message, Request) and message.action is not Action.STOP

    def _scope(self) -> str:
        return self._random.choice(self._world.scopes)

    def _services(self) -> tuple[str, ...]:
        return self._random.choice((("all",), ("all",), (self._random.choice(self._world.weather.services),)))

    def _hit(self) -> Hit:
        scope, now_ms = self._scope(), self._engine.now_ms
        account_id = scope.removeprefix("account:") if scope.startswith("account:") else None
        mode = Mode.SHADOW if self._random.random() < 0.1 else Mode.ENFORCE
        return Hit(
            hit_id=f"h{self._number}", trigger_id=f"t{self._random.randrange(2)}", trigger_version=1,
            trigger_type=TriggerType.HEALTH_SCORE_CRITICAL, trigger_name="low health", mode=mode, scope=scope,
            account_id=account_id, level=self._random.choice(_LEVELS), target_services=self._services(),
            priority=self._random.randrange(1, 5), reason="12 < 30", occurred_at=now_ms, detected_at=now_ms,
            source_topic="telemetry.health", source_partition=0, source_offset=self._number, observed=12.0,
            threshold=30.0, margin=18.0, window_ms=60_000, window_samples=5, window_contents="{}", late=False,
            suppressed_before=0, correlation_id=f"corr-h{self._number}",
            clear_rule=self._undoings.clear_rule(),
        )  # fmt: skip

    def _stop(self) -> Request:
        return self._request(Action.STOP, self._scope(), level=self._random.choice(_LEVELS), services=self._services())

    def _request(
        self, action: Action, scope: str, *, level: StopLevel = StopLevel.IMMEDIATE,
        services: tuple[str, ...] = ("all",), epoch: int | None = None, emergency_id: str | None = None,
    ) -> Request:  # fmt: skip
        number, now_ms = self._number, self._engine.now_ms
        return Request(
            f"r{number}", action, scope, level, services, "looks wrong", "ann", now_ms, f"corr-r{number}", epoch,
            emergency_id,
        )  # fmt: skip

    def _resume(self) -> None:
        """Of what somebody saw: mostly the newest hold, sometimes an older one, or none that was."""
        held = [hold for hold in self._world.judge.newest_holds.values() if hold.state is HoldState.HELD]
        if not held:
            return self._send(self._request(Action.RESUME, self._scope(), epoch=self._random.randrange(3)))
        seen: Hold = self._random.choice(held)
        epoch = max(0, seen.epoch - self._random.choice((0, 0, 0, 0, 1, 2, -1)))
        one = self._random.choice(seen.causes).emergency_id if self._random.random() < 0.3 else None
        return self._send(self._request(Action.RESUME, seen.scope, epoch=epoch, emergency_id=one))

    # ---------------------------------------------------------------------------------------------- trouble

    def _alive(self) -> Instance | None:
        alive = [instance for instance in self._world.instances if instance.is_alive]
        return self._random.choice(alive) if alive else None

    def _fall_ill(self) -> None:
        instance = self._alive()
        if instance is not None:
            for_ms = self._random.choice((1_000, 4_000, 10_000))
            self._world.note("%s is not well for %s ms", instance, for_ms)
            instance.fall_ill(for_ms)

    def _kill_instance(self) -> None:
        """Kill -9, and a successor sooner or later: with another id, or with its own."""
        victim = self._alive()
        if victim is not None:
            self._world.note("kill -9 of %s", victim)
            victim.die()
            if self._comes_again():
                self._engine.after(self._random.randrange(2_000), self._world.come_again, victim)
            else:
                self._engine.after(self._random.randrange(2_000), self._world.start_instance, victim.service)

    def _comes_again(self) -> bool:
        return self._world.weather.anew and self._engine.chance(COMES_AGAIN)

    def _start_instance(self) -> None:
        if len(self._world.instances) < 8:
            self._world.start_instance(self._random.choice(self._world.weather.services))

    def _leave(self) -> None:
        instance = self._alive()
        if instance is not None:
            self._world.note("%s is asked to leave", instance)
            instance.leave()
            if self._comes_again():
                self._engine.after(LEAVE_MS, self._come_again, instance)

    def _come_again(self, former: Instance) -> None:
        """Under its own id, once it has ended."""
        if former.is_leaving and former.is_alive:
            self._engine.after(100, self._come_again, former)
        else:
            self._world.come_again(former)

    def _close_office(self) -> None:
        self._random.choice(self._world.offices).close(self._random.choice((500, 3_000, 9_000)))

    def _cut_off(self) -> None:
        self._for_a_while("is cut off from the broker", Instance.cut_off)

    def _pause(self) -> None:
        self._for_a_while("is paused", Instance.pause)

    def _for_a_while(self, told: str, disturb: Callable[[Instance, int], None]) -> None:
        instance = self._alive()
        if instance is not None:
            for_ms = self._random.choice((500, 2_000, 8_000, 15_000))
            self._world.note("%s %s for %s ms", instance, told, for_ms)
            disturb(instance, for_ms)

    def _read_anew(self) -> None:
        instance = self._alive()
        if instance is not None:
            self._world.note("%s reads its holds anew", instance)
            instance.read_holds_anew()

    def _kill_coordinator(self) -> None:
        if self._world.coordinator is not None:
            self._world.coordinator_died(self._world.coordinator, "kill -9")

    def _forge(self) -> None:
        """Somebody without a key lifts what is held: nobody may heed it."""
        held = [hold for hold in self._world.judge.newest_holds.values() if hold.state is HoldState.HELD]
        if not held:
            return
        seen, service = self._random.choice(held), self._random.choice(self._world.weather.services)
        cause, now_ms = self._random.choice(seen.causes), self._engine.now_ms
        forged = Command(
            f"forged-{self._number}", cause.emergency_id, "corr-forged", service, seen.scope, seen.epoch + 9,
            Action.RESUME, StopLevel.IMMEDIATE, "all is well", "mallory", now_ms, now_ms + 2_000, 1, signature=FORGED,
        )  # fmt: skip
        self._world.note("forged: %s", forged)
        self._world.commands[service].append(forged)

    def _write_foreign_hold(self) -> None:
        """What the scope's owner has not decided: unsigned anything, and with its key what it might have decided."""
        holds, durable = self._world.judge.newest_holds.values(), self._world.durable
        # of a scope that its owner has forgotten, it could not tell one with the key from itself
        known = [hold for hold in holds if durable.record(hold.scope) is not None]
        if known:
            self._world.publish_foreign(self._foreign_hold(self._random.choice(known)))

    def _foreign_hold(self, seen: Hold) -> Hold:
        epoch = seen.epoch + self._random.choice((0, 0, 1, 9))
        lifts = self._random.random() < 0.7 if seen.state is HoldState.HELD else False
        cause = HoldCause("foreign", StopLevel.IMMEDIATE, ("all",), "who knows", epoch)
        foreign = replace(seen, epoch=epoch, key_id=IMPOSTOR, state=HoldState.RUNNING, level=None, causes=())
        if not lifts:
            causes = (*seen.causes, cause)
            foreign = replace(foreign, state=HoldState.HELD, level=StopLevel.IMMEDIATE, causes=causes)
        # who has the key, and lifts under an epoch that nobody gave, is obeyed until the owner says the next one
        is_forged = (lifts and epoch > seen.epoch) or self._random.random() < 0.5
        return replace(foreign, signature=FORGED) if is_forged else foreign

    def _lie(self) -> None:
        """An acknowledgement that is not true, and whose falsehood shows in it."""
        given = [command for log in self._world.commands.values() for command in log.records]
        if given:
            self._world.take_input(self._false_word(self._random.choice(given)))

    def _false_word(self, command: Command) -> Ack:
        instances = [i.instance_id for i in self._world.instances if i.service == command.service]
        teller = self._random.choice([*instances, "ghost"])
        true = Ack(
            ack_id(command.command_id, teller, AckState.STOPPED), command.command_id, command.emergency_id,
            command.correlation_id, command.scope, command.epoch, command.service, teller, AckState.STOPPED, "", 0,
            None, None, self._engine.now_ms,
        )  # fmt: skip
        kind = self._random.randrange(5)
        if kind == 0 and command.action is Action.STOP:
            return replace(true, in_flight=2)
        if kind == 1 and command.action is Action.STOP:
            return replace(true, epoch=command.epoch - 1)
        if kind == 2:
            return replace(true, state=AckState.RESUMED, command_id="never-given")
        if kind == 3:
            never = command_id(command.emergency_id, command.service, command.epoch + 1, Action.STOP, 9)
            return replace(true, command_id=never)
        if command.action is Action.STOP:
            return replace(true, state=AckState.RESUMED)
        return replace(true, in_flight=1)
