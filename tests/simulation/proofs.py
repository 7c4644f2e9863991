"""What each instance was told, what it proved, and whether it acted against either."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from emergency_stop.domain.messages import Ack, Command, Hold
from emergency_stop.domain.values import AckState, Action
from tests.simulation.instance import FORGED

if TYPE_CHECKING:
    from tests.simulation.instance import Instance
    from tests.simulation.judge import Judge


class View:
    """One instance as the judge knows it: by scope the newest hold, the newest standing order, and its proofs."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.wide = ("global", f"service:{service}")
        #: What the newest hold admits, percent; 0: it holds.
        self.held: dict[str, int] = {}
        #: By scope of an account that is half open: attempts and actions since it was.
        self.budgets: dict[str, list[int]] = {}
        self.epochs: dict[str, int] = {}
        #: Epoch of the newest stop command that no later record has ended.
        self.orders: dict[str, int] = {}
        self._seen: set[str] = set()
        self.said: set[Ack] = set()
        #: Commands whose stop handler said true.
        self.handled: set[str] = set()
        #: By scope: emergencies whose stop the instance has proven, or its emergency claims for it, with their epochs.
        self.proven: dict[str, dict[str, int]] = {}
        self.claimed: dict[str, dict[str, int]] = {}
        #: By emergency: epoch of the newest resume command.
        self.resumed: dict[str, int] = {}

    def scopes(self, account_id: str | None) -> Iterable[str]:
        return self.wide if account_id is None else (*self.wide, f"account:{account_id}")

    @property
    def is_concerned(self) -> bool:
        """Whether anything that it was told, or proved, could forbid it to act."""
        return bool(self.held or self.orders or self.proven or self.claimed)

    def take_hold(self, hold: Hold) -> None:
        from tests.simulation.judge import admitted

        if hold.epoch >= self.epochs.get(hold.scope, 0):
            self.epochs[hold.scope] = hold.epoch
            percent = admitted(hold, self.service)
            if percent != self.held.get(hold.scope):
                self.budgets[hold.scope] = [0, 0]
            self.held[hold.scope] = percent
        if self.orders.get(hold.scope, hold.epoch) < hold.epoch:
            del self.orders[hold.scope]

    def take_command(self, command: Command) -> None:
        if command.command_id in self._seen or command.signature == FORGED:
            return
        self._seen.add(command.command_id)
        if command.action is Action.STOP:
            self.orders[command.scope] = max(command.epoch, self.orders.get(command.scope, 0))
        elif command.action is Action.RESUME:
            if self.orders.get(command.scope, 0) < command.epoch:
                self.orders.pop(command.scope, None)
            self._undo(command)

    def _undo(self, command: Command) -> None:
        """A resume lets it act again, also where the hold that says so is not there yet: its decision is on record."""
        self.resumed[command.emergency_id] = max(command.epoch, self.resumed.get(command.emergency_id, 0))
        for standing in (self.proven.get(command.scope, {}), self.claimed.get(command.scope, {})):
            if standing.get(command.emergency_id, command.epoch) < command.epoch:
                del standing[command.emergency_id]

    def attempt(self, account_id: str | None) -> None:
        """Count an attempt, wherever its account is half open."""
        budget = self.budgets.get(f"account:{account_id}") if self.budgets else None
        if budget is not None:
            budget[0] += 1

    def is_beyond(self, scope: str, account_id: str | None, percent: int) -> bool:
        """Whether an action that begins exceeds the share: by its cohort, or by the attempts that were made."""
        if scope in self.wide:
            cohort = 99 if account_id is None else zlib.crc32(account_id.encode()) % 100
            return cohort >= percent
        budget = self.budgets[scope]
        budget[1] += 1
        # what an earlier share had left over is less than one action
        return budget[1] * 100 > budget[0] * percent + 99

    def has_stray_order(self, account_id: str | None) -> bool:
        """A stop command repeated by a coordinator that was succeeded is obeyed until the next resume."""
        return any(scope in self.orders for scope in self.scopes(account_id))


class Proofs:
    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._views: dict[Instance, View] = {}
        #: By scope: emergencies that count as STOPPED, with their epochs.
        self._claims: dict[str, dict[str, int]] = {}

    def started(self, instance: Instance) -> None:
        """A process that knows nothing yet. What those before it under its id proved forbids it to act all the same, as
        long as it can know: once the stop's hold is there to be read. What its emergency claims forbids it in any case.
        """
        view = self._views[instance] = View(instance.service)
        for former, known in self._views.items():
            if former.key == instance.key and former is not instance:
                view.proven = {scope: self._on_record(scope, standing) for scope, standing in known.proven.items()}
                view.claimed = {scope: dict(standing) for scope, standing in known.claimed.items()}

    def _on_record(self, scope: str, standing: dict[str, int]) -> dict[str, int]:
        newest = self._judge.newest_holds.get(scope)
        return {one: epoch for one, epoch in standing.items() if newest is not None and newest.epoch >= epoch}

    def view(self, instance: Instance) -> View:
        return self._views[instance]

    def began(self, instance: Instance, account_id: str | None) -> None:
        view = self.view(instance)
        if instance.leasing is not None and self._judge.now_ms >= instance.leasing.until:
            self._judge.violated("acted_without_lease", f"{instance} for {account_id}")
        if instance.leasing is not None:
            self._judge_claims(instance, view, account_id)
        if not view.is_concerned:
            return
        for scope in view.scopes(account_id):
            if view.proven.get(scope):
                self._judge.violated("acted_after_proof", f"{instance} for {account_id}, having proven {scope} stopped")
            if view.claimed.get(scope):
                self._judge.violated("acted_after_stop", f"{instance} for {account_id}; {scope} is STOPPED")
            percent = view.held.get(scope, 100)
            if percent == 0:
                self._judge.violated("acted_while_held", f"{instance} for {account_id}, which {scope} holds")
            elif percent < 100 and view.is_beyond(scope, account_id, percent):
                self._judge.violated("beyond_share", f"{instance} for {account_id}; {scope} admits {percent} %")
            if view.orders.get(scope, 0) > view.epochs.get(scope, 0):
                self._judge.violated("acted_while_held", f"{instance} for {account_id}, ordered to stop {scope}")

    def _judge_claims(self, instance: Instance, view: View, account_id: str | None) -> None:
        """With leases a claim binds whoever runs, known to the coordinator or not."""
        for scope in view.scopes(account_id):
            for emergency, epoch in self._claims.get(scope, {}).items():
                if (
                    self._judge.accounts.concerns(emergency, view.service)
                    and view.resumed.get(emergency, 0) <= epoch
                    and not self._judge.ledger.is_lifted(scope, emergency, epoch, view.service)
                ):
                    self._judge.violated("acted_after_stop", f"{instance} for {account_id}; {scope} is STOPPED for all")

    def told(self, instance: Instance, ack: Ack) -> None:
        view = self.view(instance)
        if ack in view.said:
            return  # the same answer to a repeated command; it says nothing of now
        view.said.add(ack)
        if ack.state is AckState.RESUMED and view.held.get(ack.scope, 100) < 100:
            self._judge.violated("stale_resume", f"{instance} confirms {ack}, and its newest hold still holds")
        command = self._judge.answers.command(ack.command_id)
        if ack.state is AckState.READY:
            self._judge_ready(instance, view, command)
        if ack.state is not AckState.STOPPED or (command is not None and command.action is Action.DRILL):
            return  # a drill proves the way, and stops nothing
        running = acting_in(instance, ack.scope)
        if running:
            self._judge.violated("acted_after_proof", f"{instance} says {ack}, and {running} actions are in flight")
        if ack.command_id not in view.handled:
            self._judge.violated("acted_after_proof", f"{instance} says {ack}, and its stop handler has not said true")
        self._stand(view, view.proven, ack.scope, ack.emergency_id, command.epoch if command else 0)

    def _judge_ready(self, instance: Instance, view: View, command: Command | None) -> None:
        """It says that it is well: about the newest it knows, and at the share that it admits."""
        if command is None or command.action is not Action.PROBE:
            return self._judge.violated("false_account", f"{instance} is ready, and nobody probed it")
        percent = view.held.get(command.scope, 100)
        if view.epochs.get(command.scope, 0) > command.epoch and percent < 100:
            self._judge.violated("stale_probe", f"{instance} is ready for {command}, and knows a newer hold")
        elif command.share_percent and percent != command.share_percent:
            self._judge.violated("unfit", f"{instance} is ready for {command}, and admits {percent} %")
        if command.command_id not in view.handled:
            self._judge.violated("unfit", f"{instance} is ready, and its service has not said that it is well")
        return None

    def _stand(
        self, view: View, standing: dict[str, dict[str, int]], scope: str, emergency_id: str, epoch: int
    ) -> None:
        """From now on the instance must not act in ``scope``, until the emergency is lifted."""
        if not self._judge.ledger.is_lifted(scope, emergency_id, epoch, view.service):
            standing.setdefault(scope, {})[emergency_id] = epoch

    def claim(self, instance: Instance, scope: str, emergency_id: str, epoch: int) -> None:
        """Its emergency says that the stop is proven, for this instance among others."""
        running = acting_in(instance, scope) if instance.is_alive else 0
        if running and not self._judge.ledger.is_lifted(scope, emergency_id, epoch, instance.service):
            self._judge.violated("acted_after_stop", f"{scope} is STOPPED, and {instance} has {running} in flight")
        view = self.view(instance)
        self._stand(view, view.claimed, scope, emergency_id, epoch)

    def claim_all(self, scope: str, emergency_id: str, epoch: int) -> None:
        """Its emergency says that the stop is proven."""
        self._claims.setdefault(scope, {})[emergency_id] = epoch

    def unclaim(self, scope: str, emergency_id: str) -> None:
        self._claims.get(scope, {}).pop(emergency_id, None)
        for view in self._views.values():
            view.claimed.get(scope, {}).pop(emergency_id, None)

    def published(self, hold: Hold) -> None:
        """What a hold no longer names may act again; whether it was lifted by right, the ledger judges."""
        for view in self._views.values():
            for standing in (view.proven.get(hold.scope), view.claimed.get(hold.scope)):
                for emergency, epoch in [*(standing or {}).items()]:
                    if standing and self._judge.ledger.is_lifted(hold.scope, emergency, epoch, view.service):
                        del standing[emergency]


def acting_in(instance: Instance, scope: str) -> int:
    """How many side effects in ``scope`` are really under way."""
    if scope in ("global", f"service:{instance.service}"):
        return len(instance.acting)
    account_id = scope.removeprefix("account:")
    return sum(action.account_id == account_id for action in instance.acting) if scope != account_id else 0
