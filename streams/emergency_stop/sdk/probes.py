"""What an instance does about a probe, the order that asks whether a service is fit to be let back in. Pure.

::

    probe, share 0 ──────────────────────────────────────► asking ──(prepared: true)──► READY
    probe, share p ──► waiting ──(hold of its epoch: p %)──► asking ──(healthy)────────► READY

Everything else is REFUSED, with the reason: a bad signature, a newer stop, a hold that admits another share, another
scope that is in the way, a service that is not prepared or not well, and at the latest the command's deadline. The
gate is not touched: work is admitted by the hold alone.
"""

from __future__ import annotations

import heapq

from emergency_stop.domain.messages import Ack, Command
from emergency_stop.domain.values import AckState
from emergency_stop.sdk.answers import Answers
from emergency_stop.sdk.effects import Effect, RunHandler
from emergency_stop.sdk.gate import Gate
from emergency_stop.sdk.shares import ALL_PERCENT


class Probes:
    """The probes that one instance has under way. Every method returns what is to be told or called, in order."""

    def __init__(self, gate: Gate, answers: Answers) -> None:
        self._gate = gate
        self._answers = answers
        #: By command id: all that are under way.
        self._open: dict[str, Command] = {}
        #: By scope and command id: those that wait for their hold. Of the others the service is being asked.
        self._waiting: dict[str, dict[str, Command]] = {}
        self._timers: list[tuple[int, str]] = []

    def is_under_way(self, command_id: str) -> bool:
        """Whether the probe is neither answered nor unknown."""
        return command_id in self._open

    def next_deadline(self) -> int | None:
        """When ``on_tick`` is next due, milliseconds since the epoch."""
        while self._timers and self._timers[0][1] not in self._open:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def on_command(self, probe: Command, *, trusted: bool, note: str, now_ms: int) -> list[Effect]:
        """Begin a probe that is not under way."""
        problem = ""
        if not trusted:
            problem = f"a probe must be signed by a known key; {note}"
        elif not 0 <= probe.share_percent <= ALL_PERCENT:
            problem = f"share_percent is {probe.share_percent}; allowed: 0 to {ALL_PERCENT}"
        elif now_ms >= probe.deadline_at:
            problem = f"the probe came {now_ms - probe.deadline_at} ms after its deadline"
        if problem:
            return [self._refuse(probe, problem, now_ms)]
        self._open[probe.command_id] = probe
        heapq.heappush(self._timers, (probe.deadline_at, probe.command_id))
        return self._go_on(probe, now_ms)

    def on_change(self, scope: str, now_ms: int) -> list[Effect]:
        """What shuts ``scope`` has changed: go on with the probes that wait for it."""
        effects: list[Effect] = []
        for probe in self._waiting.pop(scope, {}).values():
            effects += self._go_on(probe, now_ms)
        return effects

    def on_handled(self, command_id: str, now_ms: int, *, done: bool, reason: str) -> list[Effect]:
        """The service has answered (``done``: it is prepared, or well); what it was asked about may be over by now."""
        probe = self._open.get(command_id)
        if probe is None:
            return []
        if now_ms >= probe.deadline_at:
            return [self._refuse(probe, self._late(probe), now_ms)]
        problem = self._problem(probe) or ("" if done else reason)
        if problem:
            return [self._refuse(probe, problem, now_ms)]
        self._close(probe)
        return [self._answers.make(probe, AckState.READY, "", now_ms)]

    def on_tick(self, now_ms: int) -> list[Effect]:
        """Refuse what has no answer by its deadline."""
        effects: list[Effect] = []
        while self._timers and self._timers[0][0] <= now_ms:
            probe = self._open.get(heapq.heappop(self._timers)[1])
            if probe is not None:
                effects.append(self._refuse(probe, self._late(probe), now_ms))
        return effects

    def _late(self, probe: Command) -> str:
        if probe.command_id in self._waiting.get(probe.scope, {}):
            return f"its hold, of epoch {probe.epoch} with {probe.share_percent} %, has not come by the deadline"
        asked = "health check" if probe.share_percent else "prepare handler"
        return f"the service's {asked} still runs at the deadline"

    def _go_on(self, probe: Command, now_ms: int) -> list[Effect]:
        problem = self._problem(probe)
        if problem:
            return [self._refuse(probe, problem, now_ms)]
        if probe.share_percent and self._gate.hold_epoch(probe.scope) < probe.epoch:
            self._waiting.setdefault(probe.scope, {})[probe.command_id] = probe
            return []
        return [RunHandler(probe)]

    def _problem(self, probe: Command) -> str:
        """What keeps the probe from passing, however well the service is; empty where nothing does."""
        gate, scope = self._gate, probe.scope
        held_at = gate.hold_epoch(scope)
        newest = max(gate.newest_stop(scope), held_at)
        if probe.epoch < newest:
            return f"epoch {probe.epoch} is older than what is known of {scope}, of epoch {newest}; probe that"
        if not probe.share_percent or held_at < probe.epoch:
            return ""
        admitted, shut = gate.percent_of(scope), gate.shut_of(scope)
        if admitted != probe.share_percent:
            why = f": {shut.reason}" if shut else ", because nothing stops it"
            return f"{admitted} % of {scope} is admitted, not {probe.share_percent} %{why}"
        other = gate.refusal_of(scope, probe.share_percent)
        return f"{scope} is not admitted, because {other.scope} is stopped: {other.reason}" if other else ""

    def _refuse(self, probe: Command, reason: str, now_ms: int) -> Ack:
        self._close(probe)
        return self._answers.make(probe, AckState.REFUSED, reason, now_ms)

    def _close(self, probe: Command) -> None:
        self._open.pop(probe.command_id, None)
        waiting = self._waiting.get(probe.scope, {})
        waiting.pop(probe.command_id, None)
        if not waiting:
            self._waiting.pop(probe.scope, None)
