"""What an instance does about each command, until it has proven the stop: pure, time is an argument.

::

    stop command ──► draining ──(nothing in flight)──► handling ──(handler: true)──► proven
                        │  ▲                              │
                        │  └──────(something entered)─────┤(handler: false, or it raised)
                        └─(deadline: FAILED is told, and   └──► failed
                           the wait goes on)

RECEIVED and STOPPING are told at once, FAILED when the deadline passes without proof, STOPPED only when
nothing is in flight in the scope, the user's handler said true, and the gate was shut all along. A stop
that is lifted under way, in part or wholly, ends without a verdict. A command seen before gets its last answer
again. Probes and drills change nothing about the gate, and have files of their own.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from emergency_stop.domain.messages import Ack, Command, Hold
from emergency_stop.domain.values import AckState, Action, HoldState, Scope, ScopeKind, StopLevel
from emergency_stop.sdk.answers import Answers
from emergency_stop.sdk.drills import Drills
from emergency_stop.sdk.effects import Effect, RunHandler
from emergency_stop.sdk.gate import Gate, InFlight, Verdict
from emergency_stop.sdk.probes import Probes
from emergency_stop.sdk.shares import ALL_PERCENT
from emergency_stop.sdk.shut import Shut

#: What a graceful stop leaves over is cancelled this share of its time, at most so long, before the
#: deadline, so that the proof still arrives in time.
CANCEL_EARLIER_SHARE: Final = 10
CANCEL_EARLIER_MS_MAX: Final = 1_000


class Phase(StrEnum):
    DRAINING = "draining"
    HANDLING = "handling"
    PROVEN = "proven"
    FAILED = "failed"
    LIFTED = "lifted"


@dataclass(slots=True)
class _Stop:
    command: Command
    phase: Phase
    note: str
    cancel_at: int
    waits_for: set[InFlight]
    overdue: bool = False


class Stops:
    """All commands of one instance. Every method returns what is to be told or called, in order."""

    def __init__(self, gate: Gate, instance_id: str, graceful_timeout_ms: int, on_quiet: Callable[[], None]) -> None:
        """``on_quiet`` is called from within a permit's exit when ``take_quiet`` has something to give."""
        self._gate = gate
        self._on_quiet = on_quiet
        self._answers = Answers(gate, instance_id)
        self._probes = Probes(gate, self._answers)
        self._drills = Drills(self._answers)
        self._graceful_timeout_ms = graceful_timeout_ms
        self._active: dict[str, _Stop] = {}
        self._by_scope: dict[str, dict[str, _Stop]] = {}
        self._quiet: list[_Stop] = []
        #: Resumes that wait for their hold to be lifted, by scope.
        self._resumes: dict[str, list[Command]] = {}
        self._timers: list[tuple[int, str]] = []
        #: When what a hold without a command left running is cancelled.
        self._holds_due: dict[str, int] = {}

    def start(self, now_ms: int) -> None:
        """The instance is announced as started now, and every answer says so."""
        self._answers.started_at = now_ms

    @property
    def active(self) -> int:
        """Stops that are neither proven nor given up."""
        return len(self._active)

    def next_deadline(self) -> int | None:
        """When ``on_tick`` is next due, milliseconds since the epoch."""
        due = [*self._holds_due.values(), self._probes.next_deadline(), self._drills.next_deadline()]
        if self._timers:
            due.append(self._timers[0][0])
        return min((at for at in due if at is not None), default=None)

    @property
    def counts(self) -> Counter[tuple[Action, AckState]]:
        """What was answered so far, by the action that was ordered."""
        return self._answers.counts

    # ------------------------------------------------------------------------------------------ messages

    def on_command(self, command: Command, *, trusted: bool, note: str, now_ms: int) -> list[Effect]:
        """Obey one command. ``note`` tells what is wrong with its signature; empty where nothing is."""
        known = self._answers.last(command.command_id)
        if known is not None:
            return [known]
        if command.command_id in self._active or self._probes.is_under_way(command.command_id):
            return []
        try:
            Scope.parse(command.scope)
        except ValueError as error:
            return [self._answer(command, AckState.FAILED, str(error), now_ms)]
        match command.action:
            case Action.STOP:
                effects = self._stop(command, trusted, note, now_ms)
                return effects + self._probes.on_change(command.scope, now_ms)
            case Action.RESUME:
                return self._resume(command, trusted, note, now_ms)
            case Action.PROBE:
                return self._probes.on_command(command, trusted=trusted, note=note, now_ms=now_ms)
            case Action.DRILL:
                return self._drills.on_command(command, trusted=trusted, note=note, now_ms=now_ms)
        reason = f"{command.action.value} is asked of the coordinator; it is no order to a service"
        return [self._answer(command, AckState.REFUSED, reason, now_ms)]

    def on_hold(self, hold: Hold, *, trusted: bool, now_ms: int) -> tuple[Verdict, list[Effect]]:
        """Take over a hold. Raises ``ValueError`` for a bad scope."""
        admitted = self._gate.percent_of(hold.scope)
        verdict = self._gate.apply_hold(hold, trusted=trusted)
        shut = self._gate.shut_of(hold.scope)
        self._lift(hold.scope)
        if hold.state is HoldState.HELD and shut is not None:
            self._end_what_runs(shut, tightens=shut.percent < admitted, now_ms=now_ms)
        effects: list[Effect] = []
        for waiting in self._resumes.pop(hold.scope, []):
            effects += self._confirm(waiting, self._gate.resume_verdict(waiting), "", now_ms)
        return verdict, effects + self._probes.on_change(hold.scope, now_ms)

    def _end_what_runs(self, shut: Shut, *, tightens: bool, now_ms: int) -> None:
        """See to work in flight that a hold stops: at once, or in the time of a graceful stop if no command does.

        A share that grows ends nothing: what is in flight was admitted by the smaller one. Nor can anybody tell later
        which work of an account a smaller share would have admitted.
        """
        if shut.percent and not tightens:
            return
        if shut.level is StopLevel.IMMEDIATE:
            self._gate.revoke(shut.scope)
            return
        by_command, unknowable = shut.scope in self._by_scope, shut.percent and _is_account(shut.scope)
        if not by_command and not unknowable and self._gate.in_flight(shut.scope):
            self._holds_due.setdefault(shut.scope, now_ms + self._graceful_timeout_ms)

    def _stop(self, command: Command, trusted: bool, note: str, now_ms: int) -> list[Effect]:
        self._gate.apply_stop(command, trusted=trusted)
        self._holds_due.pop(command.scope, None)
        received = self._answer(command, AckState.RECEIVED, note, now_ms)
        stopping = self._answer(command, AckState.STOPPING, note, now_ms)
        early_ms = min(CANCEL_EARLIER_MS_MAX, (command.deadline_at - now_ms) // CANCEL_EARLIER_SHARE)
        immediate = command.level is StopLevel.IMMEDIATE
        cancel_at = now_ms if immediate else command.deadline_at - max(0, early_ms)
        waits_for = self._gate.in_flight_in(command.scope)
        stop = _Stop(command, Phase.DRAINING, note, cancel_at, waits_for)
        self._active[command.command_id] = stop
        self._by_scope.setdefault(command.scope, {})[command.command_id] = stop
        self._gate.watcher = self._on_left
        for at in {command.deadline_at} if immediate else {cancel_at, command.deadline_at}:
            heapq.heappush(self._timers, (at, command.command_id))
        effects: list[Effect] = [received, stopping]
        if not waits_for:
            effects.append(self._handle(stop))
        elif immediate:
            self._gate.revoke(command.scope, again=command.attempt > 1)
        return effects

    def _resume(self, command: Command, trusted: bool, note: str, now_ms: int) -> list[Effect]:
        verdict = self._gate.apply_resume(command, trusted=trusted)
        # whatever its hold says: the orders that it ends may have been all that shut the scope
        self._lift(command.scope)
        return self._confirm(command, verdict, note, now_ms)

    def _confirm(self, command: Command, verdict: Verdict, note: str, now_ms: int) -> list[Effect]:
        """Answer a resume that was applied, or let it wait for its hold."""
        if verdict is Verdict.APPLIED:
            return [self._answer(command, AckState.RESUMED, self._still_shut(command.scope), now_ms)]
        if verdict is Verdict.AWAITS_HOLD and now_ms < command.deadline_at:
            self._resumes.setdefault(command.scope, []).append(command)
            heapq.heappush(self._timers, (command.deadline_at, command.command_id))
            return []
        shut = self._gate.shut_of(command.scope)
        reason = {
            Verdict.REFUSED_UNTRUSTED: f"a resume must be signed by a known key; {note}",
            Verdict.REFUSED_STALE: f"epoch {command.epoch} is not beyond the stop of epoch"
            f" {self._gate.epoch_of(command.scope)}; resume that one",
        }.get(verdict, f"{command.scope} is still held: {shut.reason if shut else 'its hold has not been lifted'}")
        return [self._answer(command, AckState.REFUSED, reason, now_ms)]

    # ------------------------------------------------------------------------------------------ progress

    def take_quiet(self) -> list[Effect]:
        """Handlers to call now that the last action in their scope has left."""
        quiet, self._quiet = self._quiet, []
        return [self._handle(stop) for stop in quiet if stop.phase is Phase.DRAINING]

    def on_handled(
        self, command_id: str, now_ms: int, *, done: bool, reason: str = "", saved_state: str | None = None
    ) -> list[Effect]:
        """The user's handler for a stop, a probe or a drill has returned (``done``: it said true)."""
        stop = self._active.get(command_id)
        if stop is None:
            effects = self._probes.on_handled(command_id, now_ms, done=done, reason=reason)
            return effects + self._drills.on_handled(command_id, now_ms, done=done, reason=reason)
        if stop.phase is not Phase.HANDLING:
            return []
        if not done:
            self._end(stop, Phase.FAILED)
            return [self._answer(stop.command, AckState.FAILED, reason, now_ms)]
        stop.waits_for = self._gate.in_flight_in(stop.command.scope)
        if stop.waits_for:
            # it was lifted and shut again meanwhile: the proof begins anew
            stop.phase = Phase.DRAINING
            return []
        self._end(stop, Phase.PROVEN)
        late = "proven after the deadline" if stop.overdue else ""
        note = "; ".join(filter(None, (stop.note, late)))
        return [self._answer(stop.command, AckState.STOPPED, note, now_ms, saved_state)]

    def on_tick(self, now_ms: int) -> list[Effect]:
        """Cancel what is left of graceful stops whose time is over; tell which commands missed their deadline."""
        effects: list[Effect] = []
        for scope in [scope for scope, at in self._holds_due.items() if at <= now_ms]:
            del self._holds_due[scope]
            self._gate.revoke(scope)
        while self._timers and self._timers[0][0] <= now_ms:
            _, command_id = heapq.heappop(self._timers)
            stop = self._active.get(command_id)
            if stop is not None:
                effects += self._time_out(stop, now_ms)
        for scope in [*self._resumes]:
            if any(resume.deadline_at <= now_ms for resume in self._resumes[scope]):
                for resume in self._resumes.pop(scope):
                    effects += self._confirm(resume, self._gate.resume_verdict(resume), "", now_ms)
        return effects + self._probes.on_tick(now_ms) + self._drills.on_tick(now_ms)

    def _time_out(self, stop: _Stop, now_ms: int) -> list[Effect]:
        if stop.waits_for and now_ms >= stop.cancel_at:
            self._gate.revoke(stop.command.scope, again=True)
        if stop.overdue or now_ms < stop.command.deadline_at:
            return []
        stop.overdue = True
        left = f"{len(stop.waits_for)} operations still in flight" if stop.waits_for else "the stop handler still runs"
        return [self._answer(stop.command, AckState.FAILED, f"{left} at the deadline; waiting on", now_ms)]

    def _on_left(self, action: InFlight) -> None:
        account = None if action.account_id is None else str(Scope.account(action.account_id))
        for scope in ("global", self._gate.own_scope, account):
            for stop in self._by_scope.get(scope or "", {}).values():
                stop.waits_for.discard(action)
                if not stop.waits_for and stop.phase is Phase.DRAINING:
                    self._quiet.append(stop)
                    self._on_quiet()

    def _handle(self, stop: _Stop) -> RunHandler:
        stop.phase = Phase.HANDLING
        return RunHandler(stop.command)

    def _lift(self, scope: str) -> None:
        """If the scope may act again, in part or wholly, stops under way end without a verdict."""
        percent = self._gate.percent_of(scope)
        if percent == ALL_PERCENT or (percent and _is_account(scope)):
            self._holds_due.pop(scope, None)
        if percent:
            for stop in [*self._by_scope.get(scope, {}).values()]:
                self._end(stop, Phase.LIFTED)

    def _end(self, stop: _Stop, phase: Phase) -> None:
        stop.phase = phase
        self._active.pop(stop.command.command_id, None)
        siblings = self._by_scope.get(stop.command.scope, {})
        siblings.pop(stop.command.command_id, None)
        if not siblings:
            self._by_scope.pop(stop.command.scope, None)
        if not self._active:
            self._gate.watcher = None

    def _still_shut(self, scope: str) -> str:
        parsed = Scope.parse(scope)
        shut = self._gate.shut_for(parsed.name) if parsed.kind is ScopeKind.ACCOUNT else self._gate.wide
        state = f"half open ({shut.percent} %)" if shut and shut.percent else "stopped"
        return f"{scope} is free, but {shut.scope} is still {state}: {shut.reason}" if shut else ""

    def _answer(
        self, command: Command, state: AckState, reason: str, now_ms: int, saved_state: str | None = None
    ) -> Ack:
        return self._answers.make(command, state, reason, now_ms, saved_state)


def _is_account(scope: str) -> bool:
    return Scope.parse(scope).kind is ScopeKind.ACCOUNT
