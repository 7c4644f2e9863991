"""Words for the SDK's specifications: holds, commands and a service that acts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

from emergency_stop.domain.ids import command_id
from emergency_stop.domain.messages import Ack, Command, Hold, HoldCause, Share
from emergency_stop.domain.telemetry import TelemetryEvent
from emergency_stop.domain.values import Action, HoldState, StopLevel
from emergency_stop.sdk.effects import Effect, RunHandler
from emergency_stop.sdk.gate import Gate
from emergency_stop.sdk.shares import cohort_of
from emergency_stop.sdk.stops import Stops

SERVICE = "sessionManager"
ACCOUNT = "account:a"
IMMEDIATE, GRACEFUL, MAINTENANCE = StopLevel.IMMEDIATE, StopLevel.GRACEFUL, StopLevel.MAINTENANCE


def held(
    scope: str = ACCOUNT, epoch: int = 1, level: StopLevel = GRACEFUL, services: tuple[str, ...] = ("all",)
) -> Hold:
    cause = HoldCause("e1", level, services, f"held at {epoch}", epoch)
    return Hold(scope, epoch, HoldState.HELD, level, (cause,), cause.reason, 0)


def half_open(percent: int, scope: str = ACCOUNT, epoch: int = 2, level: StopLevel = GRACEFUL) -> Hold:
    """A hold that admits ``percent`` of the service's work."""
    whole = held(scope, epoch, level)
    return replace(whole, causes=(replace(whole.causes[0], shares=(Share(SERVICE, percent),)),))


def running(scope: str = ACCOUNT, epoch: int = 2) -> Hold:
    return Hold(scope, epoch, HoldState.RUNNING, None, (), "resumed", 0)


def command(
    action: Action = Action.STOP,
    scope: str = ACCOUNT,
    epoch: int = 1,
    level: StopLevel = GRACEFUL,
    deadline_at: int = 60_000,
    attempt: int = 1,
    share_percent: int = 0,
) -> Command:
    known_as = command_id("e1", SERVICE, epoch, action, attempt)
    return Command(
        known_as, "e1", "corr", SERVICE, scope, epoch, action, level, "because", "c1", 0, deadline_at, attempt,
        share_percent=share_percent,
    )  # fmt: skip


def account_in_cohort_below(percent: int, above: int = 0) -> str:
    """An account that a wide share of ``percent`` admits, and one of ``above`` does not."""
    names = (f"acc-{number:06d}" for number in itertools.count())
    return next(name for name in names if above <= cohort_of(name) < percent)


@dataclass
class Told:
    """A telemetry sink that keeps what it was told, or is full."""

    events: list[TelemetryEvent] = field(default_factory=list)
    is_full: bool = False

    def offer(self, event: TelemetryEvent) -> bool:
        if not self.is_full:
            self.events.append(event)
        return not self.is_full


class Work:
    """Work in flight that notes whether it was asked to end."""

    def __init__(self, account_id: str | None) -> None:
        self.account_id = account_id
        self.asked = 0

    def revoke(self) -> bool:
        self.asked += 1
        return True


class Instance:
    """One instance without a broker: a gate, its stops, and a clock that the test moves."""

    def __init__(self) -> None:
        self.gate = Gate(SERVICE)
        self.gate.open()
        self.woken = 0
        self.stops = Stops(self.gate, "i1", 60_000, self._wake)
        self.now_ms = 0
        self.told: list[Ack] = []
        self.handlers: list[Command] = []

    def _wake(self) -> None:
        self.woken += 1

    def note(self, effects: list[Effect]) -> list[str]:
        """Remember effects; returns them as words: ack states, or ``handler``."""
        self.told += [effect for effect in effects if isinstance(effect, Ack)]
        self.handlers += [effect.command for effect in effects if isinstance(effect, RunHandler)]
        return [effect.state.value if isinstance(effect, Ack) else "handler" for effect in effects]

    def order(self, ordered: Command, *, trusted: bool = True, note: str = "") -> list[str]:
        return self.note(self.stops.on_command(ordered, trusted=trusted, note=note, now_ms=self.now_ms))

    def hold(self, hold: Hold, *, trusted: bool = True) -> list[str]:
        return self.note(self.stops.on_hold(hold, trusted=trusted, now_ms=self.now_ms)[1])

    def begins(self, account_id: str = "a") -> Work:
        assert self.gate.shut_for(account_id) is None
        action = Work(account_id)
        self.gate.in_flight_actions.add(action)
        return action

    def ends(self, action: Work) -> list[str]:
        self.gate.in_flight_actions.discard(action)
        self.gate.revoked.pop(action, None)
        self.gate.last_at[action.account_id] = self.gate.last_any_at = self.now_ms
        if self.gate.watcher is not None:
            self.gate.watcher(action)
        return self.note(self.stops.take_quiet())

    def handled(self, *, done: bool = True, reason: str = "") -> list[str]:
        ordered = self.handlers.pop(0)
        return self.note(self.stops.on_handled(ordered.command_id, self.now_ms, done=done, reason=reason))

    def at(self, now_ms: int) -> list[str]:
        """Time passes, one due moment after the other."""
        words: list[str] = []
        for _ in itertools.count():
            due = self.stops.next_deadline()
            if due is None or due > now_ms:
                break
            self.now_ms = due
            words += self.note(self.stops.on_tick(due))
        self.now_ms = now_ms
        return words
