"""A seeded world around the coordinator core: services that obey, a log that repeats, a process that dies.

Everything random comes from one seed, so a run that fails is run again by its seed. The coordinator sees
only what a broker would give it: inputs in the log's order, each at least once, and its own state records
as far as they were written when it died.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from emergency_stop.coordinate.partition import Coordinator
from emergency_stop.coordinate.services import Services
from emergency_stop.coordinate.state import Effect, Policy, World
from emergency_stop.coordinate.tables import RefusedMessageError
from emergency_stop.domain.messages import Ack, Command, Emergency, Hit, Hold, Request
from emergency_stop.domain.values import AckState, Action, StopLevel
from tests.unit.coordinate.scenario import ack, hit, instance, request, resume

SERVICES = ("x", "y", "z")
SCOPES = ("global", "service:y", "account:1", "account:2", "account:3")
RETENTION_MS = 3_600_000
Input = Hit | Request | Ack


@dataclass
class Published:
    """What the broker has: every hold in order, and the newest account of every emergency."""

    holds: list[Hold] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    emergencies: dict[str, Emergency] = field(default_factory=dict)

    def take(self, effects: list[Effect]) -> list[Command]:
        given = [effect for effect in effects if isinstance(effect, Command)]
        self.commands += given
        self.holds += [effect for effect in effects if isinstance(effect, Hold)]
        self.emergencies |= {e.emergency_id: e for e in effects if isinstance(e, Emergency)}
        return given

    def newest_hold(self, scope: str) -> Hold | None:
        return max((hold for hold in self.holds if hold.scope == scope), key=lambda hold: hold.epoch, default=None)


class Simulation:
    """One run. ``crash_share``: how often the process dies in a checkpoint; ``lose_state``: also before
    all of its records are written.
    """

    def __init__(self, seed: int, *, crash_share: float, lose_state: bool = True, obedience: float = 0.9) -> None:
        self.random = random.Random(seed)
        #: Its own stream, so that runs of one seed with and without crashes get the same inputs.
        self._fate = random.Random(~seed)
        self._crash_share = crash_share
        self._lose_state = lose_state
        self._obedience = obedience
        self.now_ms = 0
        self.log: list[Input] = []
        self.published = Published()
        self.policy = Policy(max_concurrent_stops=2, retention_ms=RETENTION_MS, global_resume_people=1)
        self.core = Coordinator(2, RETENTION_MS)
        self._records: dict[bytes, bytes | None] = {}
        self._position = 0
        self._applied = 0
        self._pending: list[tuple[int, int, Ack]] = []
        self._heard: set[str] = set()

    def run(self, steps: int) -> None:
        for number in range(steps):
            self.now_ms += self.random.choice((1, 10, 200, 3_000))
            self._services_answer()
            if self.random.random() < 0.5:
                self.log.append(self._cause(number))
            self._catch_up()
        self._settle()

    def world(self) -> World:
        live = [instance(service, heartbeat_at=self.now_ms) for service in SERVICES]
        published = {hold.scope: hold.epoch for hold in sorted(self.published.holds, key=lambda hold: hold.epoch)}
        return World(self.policy, Services(SERVICES, live), published)

    def _cause(self, number: int) -> Input:
        scope = self.random.choice(SCOPES)
        repeated = [entry for entry in self.log if not isinstance(entry, Ack)]
        if repeated and self.random.random() < 0.2:
            return self.random.choice(repeated)
        level = self.random.choice((StopLevel.IMMEDIATE, StopLevel.GRACEFUL, StopLevel.CASCADING))
        services = self.random.choice((("all",), ("x",), ("y", "z")))
        draw = self.random.random()
        if draw < 0.5:
            trigger = f"t{self.random.randrange(3)}"
            return hit(
                f"h{number}", scope, trigger_id=trigger, level=level, target_services=services,
                account_id=None, occurred_at=self.now_ms, priority=self.random.randrange(1, 5),
            )  # fmt: skip
        if draw < 0.7:
            return request(f"r{number}", scope=scope, level=level, services=services, requested_at=self.now_ms)
        hold = self.published.newest_hold(scope)
        epoch = max(0, (hold.epoch if hold else 0) - self.random.choice((0, 0, 0, 1, 2)))
        cause = self.random.choice(hold.causes).emergency_id if hold and hold.causes else None
        return resume(f"r{number}", epoch, self.random.choice((None, cause)), scope)

    def _hear(self, commands: list[Command]) -> None:
        """Services get the commands; each command is answered once, sometimes never, in any order."""
        for command in commands:
            if command.command_id in self._heard or self.random.random() > self._obedience:
                continue
            self._heard.add(command.command_id)
            last = AckState.RESUMED if command.action is Action.RESUME else AckState.STOPPED
            for state in (AckState.RECEIVED, last):
                at = self.now_ms + self.random.randrange(400)
                self._pending.append((at, len(self._pending), ack(command, state, at=at)))

    def _services_answer(self) -> None:
        due = sorted((entry for entry in self._pending if entry[0] <= self.now_ms), key=lambda entry: entry[:2])
        self._pending = [entry for entry in self._pending if entry[0] > self.now_ms]
        for _, _, answer in due:
            self.log += [answer] * self.random.choice((1, 1, 2))

    def _catch_up(self) -> None:
        while self._applied < len(self.log):
            message = self.log[self._applied]
            self._applied += 1
            try:
                self._hear(self.published.take(self.core.apply(message, self.now_ms, self.world())))
            except RefusedMessageError:
                continue
        deadline = self.core.next_deadline()
        if deadline is not None and deadline <= self.now_ms:
            self.core.tick(self.now_ms, self.world())
        self._checkpoint()

    def _checkpoint(self) -> None:
        """As the worker does it: records, then the position, then what may be published. It may die anywhere."""
        dirty = list(self.core.take_dirty())
        dies = self._fate.random() < self._crash_share
        written = self._fate.randrange(len(dirty) + 1) if dies and self._lose_state else len(dirty)
        self._records.update(dirty[:written])
        if written < len(dirty):
            return self._restart()
        if not dies or self._fate.random() < 0.5:
            self._position = self._applied
        self._hear(self.published.take(self.core.take_effects()))
        if dies:
            self._restart()
        return None

    def _restart(self) -> None:
        self.core = Coordinator(2, RETENTION_MS)
        self.core.restore((key, value) for key, value in self._records.items() if value is not None)
        self._applied = self._position

    def _settle(self) -> None:
        """No more causes and no more crashes: let every deadline pass."""
        self._crash_share = 0.0
        for _ in range(200):
            self.now_ms += 1_000
            self._services_answer()
            self._catch_up()
