"""Random lives of an instance: holds, orders, probes, drills, work and time in any order, and what must always be true.

The naive twin tells what is admitted; the answers are held to it, each in the moment in which it is given.
"""

from __future__ import annotations

import itertools
from collections import Counter
from random import Random

from emergency_stop.domain.messages import Ack, Command
from emergency_stop.domain.values import AckState, Action
from tests.unit.sdk.naive_gate import NaiveGate
from tests.unit.sdk.scenario import GRACEFUL, IMMEDIATE, SERVICE, Instance, Work, command, half_open, held, running

SCOPES = ("account:a", "account:a", "account:b", "global", f"service:{SERVICE}")
ENDS = {
    Action.PROBE: {AckState.READY, AckState.REFUSED},
    Action.DRILL: {AckState.STOPPED, AckState.FAILED},
}
LIVES, STEPS = 250, 60


class Life:
    """One instance, its naive twin, and everything that happens to both."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.instance, self.twin = Instance(), NaiveGate(SERVICE)
        self.commands: dict[str, Command] = {}
        self.hold_epochs: dict[str, int] = {}
        self.work: list[Work] = []
        self.heard = 0
        self.ends: dict[str, list[AckState]] = {}
        self.attempts = itertools.count(1)
        self.seen: Counter[str] = Counter()

    def step(self) -> None:
        happens = self.random.choices(
            (self.takes_hold, self.gets_command, self.begins, self.ends_work, self.handles, self.waits),
            (3, 4, 3, 2, 4, 2),
        )[0]  # fmt: skip
        happens()
        self.judge()

    def takes_hold(self) -> None:
        scope, epoch = self.random.choice(SCOPES), self.random.randrange(1, 6)
        level = self.random.choice((GRACEFUL, IMMEDIATE))
        percent = self.random.choice((0, 10, 50, 100))
        kind = self.random.choice(("held", "half", "half", "running"))
        hold = {"held": held(scope, epoch, level), "half": half_open(percent, scope, epoch, level)}.get(kind)
        hold, trusted = hold or running(scope, epoch), self.random.random() < 0.9
        known = self.hold_epochs.get(scope, 0)
        before = self.twin.share(scope)
        self.twin.take(hold, trusted=trusted)
        if trusted and (epoch >= known or self.twin.share(scope) <= before):
            self.hold_epochs[scope] = max(known, epoch)
        self.instance.hold(hold, trusted=trusted)

    def gets_command(self) -> None:
        action = self.random.choice((Action.STOP, Action.RESUME, Action.PROBE, Action.PROBE, Action.DRILL))
        ordered = command(
            action,
            self.random.choice(SCOPES),
            self.random.randrange(1, 6),
            self.random.choice((GRACEFUL, IMMEDIATE)),
            self.instance.now_ms + self.random.choice((500, 5_000)),
            next(self.attempts),
            self.random.choice((0, 10, 50, 100)) if action is Action.PROBE else 0,
        )
        trusted = self.random.random() < 0.9
        self.commands[ordered.command_id] = ordered
        if action in (Action.STOP, Action.RESUME):
            self.twin.take(ordered, trusted=trusted)
        before = [self.twin.share(scope) for scope in SCOPES]
        self.instance.order(ordered, trusted=trusted, note="")
        if action in ENDS:
            assert [self.instance.gate.percent_of(scope) for scope in SCOPES] == before, f"{action} moved the gate"

    def begins(self) -> None:
        work = Work(self.random.choice(("a", "b", None)))
        if self.instance.gate.shut_for(work.account_id) is None:
            self.instance.gate.in_flight_actions.add(work)
            self.work.append(work)

    def ends_work(self) -> None:
        if self.work:
            self.instance.ends(self.work.pop(self.random.randrange(len(self.work))))

    def handles(self) -> None:
        if self.instance.handlers:
            self.random.shuffle(self.instance.handlers)
            self.instance.handled(done=self.random.random() < 0.8, reason="not content")

    def waits(self) -> None:
        self.instance.at(self.instance.now_ms + self.random.choice((10, 400, 6_000)))

    def judge(self) -> None:
        """Every answer that was given in this step, as things stand after it."""
        told, self.heard = self.instance.told[self.heard :], len(self.instance.told)
        for ack in told:
            ordered = self.commands[ack.command_id]
            self.seen[f"{ordered.action.value} {ack.state.value}"] += 1
            if ack.state in ENDS.get(ordered.action, ()):
                self.ends.setdefault(ack.command_id, []).append(ack.state)
            if ordered.action is Action.STOP and ack.state is AckState.STOPPED:
                assert self.twin.share(ack.scope) == 0, f"{ack} while work is admitted"
                assert not any(self.covers(ack.scope, work) for work in self.work), f"{ack} while work is in flight"
            if ack.state is AckState.READY:
                self.judge_ready(ordered, ack)
            if ack.state is AckState.RESUMED:
                assert self.twin.share(ack.scope) == 100, f"{ack} while it is held"
        for scope in SCOPES:
            assert self.instance.gate.percent_of(scope) == self.twin.share(scope), scope

    def judge_ready(self, probe: Command, ack: Ack) -> None:
        assert ack.acked_at < probe.deadline_at, f"{ack} after its deadline"
        assert probe.epoch >= self.hold_epochs.get(probe.scope, 0), f"{ack} of a stale epoch"
        if probe.share_percent:
            assert self.twin.share(probe.scope) == probe.share_percent, f"{ack} of another share"
            assert probe.epoch == self.hold_epochs.get(probe.scope), f"{ack} without its hold"

    def covers(self, scope: str, work: Work) -> bool:
        return not scope.startswith("account:") or scope == f"account:{work.account_id}"

    def ends_well(self) -> None:
        """Long after the last deadline every probe and every drill has had one end, and no more."""
        self.instance.at(self.instance.now_ms + 60_000)
        while self.instance.handlers:
            self.instance.handled()
        self.judge()
        asked = [ordered for ordered in self.commands.values() if ordered.action in ENDS]
        assert [len(self.ends.get(ordered.command_id, ())) for ordered in asked] == [1] * len(asked)


def test_in_random_lives_every_answer_is_true_and_every_question_has_one() -> None:
    seen: Counter[str] = Counter()
    for seed in range(LIVES):
        life = Life(seed)
        try:
            for _ in range(STEPS):
                life.step()
            life.ends_well()
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
        seen += life.seen
    for wanted in ("probe ready", "probe refused", "drill stopped", "drill failed", "stop stopped", "resume resumed"):
        assert seen[wanted] > 20, f"the lives are too dull: {seen}"
