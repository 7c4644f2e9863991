"""One instance of a service: the production gate and stops, in a shell that keeps the rules of ``sdk/guard.py``.

Commands from the end, holds from the beginning to the end, then the announcement, then the gate opens. Its work really
acts, through the production permit; whether it heeds a cancellation, and what its stop handler says, is up to chance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from emergency_stop.domain.frozen import replace
from emergency_stop.domain.messages import Ack, Command, Hold, ServiceInstance
from emergency_stop.domain.values import Action as Ordered
from emergency_stop.domain.values import InstanceState, StopLevel
from emergency_stop.sdk.effects import Effect, RunHandler
from emergency_stop.sdk.gate import Stopped
from tests.simulation.action import Action, NumberedPermit
from tests.simulation.leasing import Leasing
from tests.simulation.weather import HEARTBEAT_MS, POLICY

if TYPE_CHECKING:
    from tests.simulation.world import SimulatedWorld

FORGED: Final = b"forged"
#: Key of holds that no coordinator has decided.
IMPOSTOR: Final = "impostor"
LEAVE_MS: Final = 4_000
_NO_LOOP: Final = cast("asyncio.AbstractEventLoop", object())


class Instance:
    def __init__(self, world: SimulatedWorld, service: str, instance_id: str) -> None:
        self.service, self.instance_id = service, instance_id
        self.key = (service, instance_id)
        self._world, self._engine = world, world.engine
        self._random = world.engine.random
        parts = world.parts
        skew_ms = world.weather.skew_ms
        self._skew_ms = self._random.randrange(-skew_ms, skew_ms) if skew_ms else 0
        self.gate = parts.gate(service, self._now_ms)
        self.gate.loop = _NO_LOOP
        self._stops = parts.stops(self.gate, instance_id, POLICY.graceful_stop_timeout_ms, self._quiet)
        self.is_alive, self.is_open, self.is_leaving = True, False, False
        self.acting: set[Action] = set()
        self._attempts = 0
        #: Paused: nothing runs. Cut off: it runs, and nothing comes in or goes out.
        self.paused_until = self._cut_until = self._silent_from = 0
        self.started_at = 0
        self.announced_at: int | None = None
        self._last_beat: ServiceInstance | None = None
        self._beats_until: int | None = None
        self.left_at: int | None = None
        #: When its process ended, in whichever way.
        self.ended_at: int | None = None
        self._armed_at: int | None = None
        self._next_command = self._next_hold = 0
        self._reads_commands = self._reads_holds = False
        self.ill_until = 0
        self.leasing = Leasing(world, self) if world.weather.leases else None
        self._commands = world.commands[service]
        self._holds = world.holds

    def _now_ms(self) -> int:
        """By its own clock."""
        return self._engine.now_ms + self._skew_ms

    def after(self, delay_ms: int, act: Callable[..., object], *args: Any) -> None:
        self._engine.after(delay_ms, self._run, act, args)

    def _run(self, act: Callable[..., object], args: tuple[Any, ...]) -> None:
        if not self.is_alive:
            return
        if self._engine.now_ms < self.paused_until:
            self._engine.after(self.paused_until - self._engine.now_ms, self._run, act, args)
        else:
            act(*args)

    # ---------------------------------------------------------------------------------------- its own life

    def start(self) -> None:
        self.started_at = self._now_ms()
        self._stops.start(self.started_at)
        self._next_command = len(self._commands)
        self._commands.readers.append(self.wake_commands)
        self.online(self._connect_holds)

    def online(self, act: Callable[..., None], *args: Any) -> None:
        """As soon as the broker can be reached."""
        self.after(self._tail_lag_ms(), self._reach, act, args)

    def _reach(self, act: Callable[..., None], args: tuple[Any, ...]) -> None:
        if self._engine.now_ms < self._cut_until:
            self.online(act, *args)
        else:
            act(*args)

    def _connect_holds(self) -> None:
        """As compaction left them: of the oldest records only the newest of each scope."""
        self._next_hold = len(self._holds)
        self.online(self._read_all_holds, self._world.compacted_holds())

    def _read_all_holds(self, holds: list[Hold]) -> None:
        for hold in holds:
            self._on_hold(hold)
        self._holds.readers.append(self.wake_holds)
        self.wake_holds()
        self.online(self._announce)

    def _announce(self) -> None:
        self.announced_at = self._engine.now_ms
        if self.leasing is not None:
            self.leasing.beat()
        self.online(self._open)

    def _open(self) -> None:
        if self.leasing is not None and not self.leasing.is_obtained:
            return self.after(10, self._open)
        if self.leasing is not None:
            self.leasing.judge()
        return self.read_up(self._begin)

    def _begin(self) -> None:
        self.gate.open()
        self.is_open = True
        self._world.note("%s opens", self)
        self.after(self._random.randrange(50), self._work)

    def die(self) -> None:
        """Kill -9: what it does ends with it."""
        self.is_alive = False
        self.ended_at = self._engine.now_ms
        self._stop_beating()
        self._unsubscribe()

    def pause(self, for_ms: int) -> None:
        self.cut_off(for_ms)
        self.paused_until = max(self.paused_until, self._engine.now_ms + for_ms)

    def cut_off(self, for_ms: int) -> None:
        if self._engine.now_ms >= self._cut_until:
            self._silent_from = self._engine.now_ms
        self._cut_until = max(self._cut_until, self._engine.now_ms + for_ms)

    @property
    def disturbed_until(self) -> int:
        return max(self.paused_until, self._cut_until)

    def leave(self) -> None:
        """In good order: shut, wait, cancel, and announce it only where nothing is in flight."""
        if self.is_leaving or not self.is_open:
            return
        self.is_leaving = True
        self.gate.close("the service is shutting down")
        self.after(LEAVE_MS // 2, self._hurry)

    def _hurry(self) -> None:
        self.gate.revoke(self.gate.own_scope)
        self.after(LEAVE_MS // 2, self._gone)

    def _gone(self) -> None:
        if not self.gate.in_flight_actions:
            self.left_at = self._engine.now_ms
            self._world.note("%s left", self)
        self.die()

    def _stop_beating(self) -> None:
        self._beats_until = self._engine.now_ms

    def _unsubscribe(self) -> None:
        if self.wake_commands in self._commands.readers:
            self._commands.readers.remove(self.wake_commands)
        if self.wake_holds in self._holds.readers:
            self._holds.readers.remove(self.wake_holds)

    def announcement(self, now_ms: int) -> ServiceInstance | None:
        """What ``estop.services`` says of it at ``now_ms``."""
        announced = self.announced_at
        if announced is None or announced > now_ms:
            return None
        if self.left_at is not None and self.left_at <= now_ms:
            return ServiceInstance(*self.key, InstanceState.LEFT, self.started_at, self.left_at + self._skew_ms, 0, 0)
        last = now_ms if self._beats_until is None else min(now_ms, self._beats_until)
        if self._silent_from < last <= self._cut_until:
            last = max(announced, self._silent_from)
        beat = last - (last - announced) % HEARTBEAT_MS
        if self._world.weather.undoing is None:
            return self._heard_at(beat)
        is_well = beat >= self.ill_until
        return replace(
            self._heard_at(beat), healthy=is_well, problem="" if is_well else "ill", actions=self.gate.permitted,
            failed_actions=self.gate.failed_actions,
        )  # fmt: skip

    def _heard_at(self, beat: int) -> ServiceInstance:
        """Its heartbeat of that time, which it dates by its own clock; made once."""
        sent_at = beat + self._skew_ms
        if self._last_beat is None or self._last_beat.heartbeat_at != sent_at:
            needs = self._world.weather.depends_on.get(self.service, ())
            self._last_beat = ServiceInstance(*self.key, InstanceState.UP, self.started_at, sent_at, 0, 0, needs)
        return self._last_beat

    def fall_ill(self, for_ms: int) -> None:
        """It says of itself that it is not well, for so long."""
        self.ill_until = max(self.ill_until, self._engine.now_ms + for_ms)

    # -------------------------------------------------------------------------------------------- incoming

    def wake_commands(self) -> None:
        if not self._reads_commands:
            self._reads_commands = True
            self.online(self._read_commands)

    def wake_holds(self) -> None:
        if not self._reads_holds:
            self._reads_holds = True
            self.online(self._read_holds)

    def _tail_lag_ms(self) -> int:
        return max(self._world.lag_ms(), self._cut_until - self._engine.now_ms)

    def _read_commands(self) -> None:
        self._reads_commands = False
        start, self._next_command = self._next_command, len(self._commands)
        for command in self._commands.records[start:]:
            if not self._world.drops(command):
                self.on_command(command)

    def on_command(self, command: Command) -> None:
        self._world.judge.delivered_command(self, command)
        trusted = command.signature != FORGED
        note = "" if trusted else "signature invalid"
        if self._world.traces:
            self._world.note("%s gets %s", self, command)
        self._perform(self._stops.on_command(command, trusted=trusted, note=note, now_ms=self._now_ms()))

    def _read_holds(self) -> None:
        self._reads_holds = False
        start = self._next_hold
        end = min(len(self._holds), start + 1) if self._random.random() < 0.2 else len(self._holds)
        self._next_hold = end
        for hold in self._holds.records[start:end]:
            self._on_hold(hold)
        if end < len(self._holds):
            self.wake_holds()

    def read_up(self, then: Callable[[], None]) -> None:
        """Once all holds that are there now have been taken over."""
        self.online(self._read_up_to, len(self._holds), then)

    def _read_up_to(self, end: int, then: Callable[[], None]) -> None:
        start, self._next_hold = self._next_hold, max(self._next_hold, end)
        for hold in self._holds.records[start:end]:
            self._on_hold(hold)
        then()

    def read_holds_anew(self) -> None:
        """Its position was lost: every record comes again."""
        if self.wake_holds in self._holds.readers:
            self._next_hold = 0
            self.wake_holds()

    def _on_hold(self, hold: Hold) -> None:
        if hold.key_id != IMPOSTOR:
            self._world.judge.delivered_hold(self, hold)
        trusted = hold.signature != FORGED
        verdict, effects = self._stops.on_hold(hold, trusted=trusted, now_ms=self._now_ms())
        if self._world.traces:
            self._world.note("%s takes %s: %s", self, hold, verdict)
        self._perform(effects)
        if self.is_open and not self.is_leaving and self._random.random() < 0.4:
            # work that waits at the gate tries again as soon as something has changed
            self.after(0, self.attempt, self._account_of(hold.scope))

    # -------------------------------------------------------------------------------------------- outgoing

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, RunHandler):
                self._handle(effect.command)
            else:
                self._tell(effect)
        due = self._stops.next_deadline()
        if due is not None and (self._armed_at is None or due < self._armed_at):
            self._armed_at = due
            self.after(max(0, due - self._now_ms()), self._timer, due)

    def _timer(self, at: int) -> None:
        if self._armed_at == at:
            self._armed_at = None
            self._perform(self._stops.on_tick(self._now_ms()))

    def _quiet(self) -> None:
        self.after(0, self._take_quiet)

    def _take_quiet(self) -> None:
        self._perform(self._stops.take_quiet())

    def _handle(self, command: Command) -> None:
        """The user's stop handler begins; chance says how it ends."""
        done, reason, lasts_ms = True, "", self._random.randrange(60)
        undoing = self._world.weather.undoing
        if undoing is not None and command.action is Ordered.PROBE:
            if self._engine.chance(undoing.bad_probe):
                done, reason = False, "it is not well"
            if self._engine.chance(undoing.falls):
                self._engine.after(self._random.randrange(600), self._world.fall, self)
        elif self._engine.chance(self._world.weather.bad_handler):
            done = self._engine.chance(0.5)
            reason = "" if done else self._random.choice(("it returned false", "it raised RuntimeError"))
            lasts_ms = self._random.choice((0, 100, 3_000, 9_000))
        self.after(lasts_ms, self._handled, command, done, reason)

    def _handled(self, command: Command, done: bool, reason: str) -> None:
        self._world.judge.handled(self, command, done=done)
        saved = f"state of {self}" if command.level is StopLevel.MAINTENANCE and self._saves_state() else None
        now_ms = self._now_ms()
        self._perform(self._stops.on_handled(command.command_id, now_ms, done=done, reason=reason, saved_state=saved))

    def _saves_state(self) -> bool:
        undoing = self._world.weather.undoing
        return undoing is not None and not self._engine.chance(undoing.bad_probe)

    def _tell(self, ack: Ack) -> None:
        """Sent by a task of its own, so in any order, until the broker has it; one that dies sends nothing more."""
        self._world.judge.told(self, ack)
        if self._world.traces:
            self._world.note("%s says %s to %s", self, ack.state.value, ack)
        self.after(self._world.ack_lag_ms(), self._deliver, ack)

    def _deliver(self, ack: Ack) -> None:
        if self._engine.now_ms < self._cut_until:
            self.online(self._deliver, ack)
        elif not self._engine.chance(self._world.weather.drop_ack):
            self._world.take_input(ack)
            if self._engine.chance(self._world.weather.repeat):
                self._engine.after(self._world.ack_lag_ms(), self._world.take_input, ack)

    # ------------------------------------------------------------------------------------------------ work

    def _work(self) -> None:
        if self.is_leaving:
            return
        self.attempt(self._random.choice(self._world.accounts))
        self.after(20 + int(self._random.random() * self._world.work_gap_ms), self._work)

    def _account_of(self, scope: str) -> str | None:
        name = scope.removeprefix("account:")
        return name if name != scope else self._random.choice(self._world.accounts)

    def attempt(self, account_id: str | None) -> bool:
        """Act for an account, if the gate lets it; whether it did."""
        action = Action(account_id)
        self._attempts += 1
        permit = NumberedPermit(self._attempts, self.gate, account_id, partial(self._cut, action))
        self._world.judge.attempted(self, account_id)
        try:
            permit.begin()
        except Stopped:
            return False
        action.permit = permit
        self.acting.add(action)
        self._world.judge.began(self, account_id)
        long = self._engine.chance(self._world.weather.long_action)
        self.after(self._random.randrange(500, 12_000) if long else self._random.randrange(1, 60), self._end, action)
        return True

    def _cut(self, action: Action) -> bool:
        """Asked to end: most work does, after a little cleaning up."""
        action.was_asked = True
        if self._engine.chance(self._world.weather.stubborn):
            return self._engine.chance(0.5)
        self.after(self._random.randrange(40), self._end, action)
        return True

    def _end(self, action: Action) -> None:
        if not action.is_over and action.permit is not None:
            action.is_over = True
            self.acting.discard(action)
            undoing = self._world.weather.undoing
            fails = undoing is not None and self._engine.chance(undoing.failing)
            action.permit.end(RuntimeError("it did not work") if fails else None)
            # each holds the other: left so, only a collection would end them
            action.permit = None

    def __str__(self) -> str:
        return f"{self.service}/{self.instance_id}"
