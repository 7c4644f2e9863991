"""What each instance was told, what it proved, and whether it acted against either."""

from __future__ import annotations

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
        self.held: dict[str, bool] = {}
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

    def scopes(self, account_id: str | None) -> Iterable[str]:
        return self.wide if account_id is None else (*self.wide, f"account:{account_id}")

    def take_hold(self, hold: Hold) -> None:
        from tests.simulation.judge import covers

        if hold.epoch >= self.epochs.get(hold.scope, 0):
            self.epochs[hold.scope] = hold.epoch
            self.held[hold.scope] = covers(hold, self.service)
        if self.orders.get(hold.scope, hold.epoch) < hold.epoch:
            del self.orders[hold.scope]

    def take_command(self, command: Command) -> None:
        if command.command_id in self._seen or command.signature == FORGED:
            return
        self._seen.add(command.command_id)
        if command.action is Action.STOP:
            self.orders[command.scope] = max(command.epoch, self.orders.get(command.scope, 0))
        elif self.orders.get(command.scope, 0) <= command.epoch:
            self.orders.pop(command.scope, None)

    def has_stray_order(self, account_id: str | None) -> bool:
        """A stop command repeated by a coordinator that was succeeded is obeyed until the next resume."""
        return any(scope in self.orders for scope in self.scopes(account_id))


class Proofs:
    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._views: dict[tuple[str, str], View] = {}

    def view(self, instance: Instance) -> View:
        view = self._views.get(instance.key)
        if view is None:
            view = self._views[instance.key] = View(instance.service)
        return view

    def began(self, instance: Instance, account_id: str | None) -> None:
        view = self.view(instance)
        for scope in view.scopes(account_id):
            if view.proven.get(scope):
                self._judge.violated("acted_after_proof", f"{instance} for {account_id}, having proven {scope} stopped")
            if view.claimed.get(scope):
                self._judge.violated("acted_after_stop", f"{instance} for {account_id}; {scope} is STOPPED")
            if view.held.get(scope):
                self._judge.violated("acted_while_held", f"{instance} for {account_id}, which {scope} holds")
            if view.orders.get(scope, 0) > view.epochs.get(scope, 0):
                self._judge.violated("acted_while_held", f"{instance} for {account_id}, ordered to stop {scope}")

    def told(self, instance: Instance, ack: Ack) -> None:
        view = self.view(instance)
        if ack in view.said:
            return  # the same answer to a repeated command; it says nothing of now
        view.said.add(ack)
        if ack.state is AckState.RESUMED and view.held.get(ack.scope):
            self._judge.violated("stale_resume", f"{instance} confirms {ack}, and its newest hold still holds")
        if ack.state is not AckState.STOPPED:
            return
        running = acting_in(instance, ack.scope)
        if running:
            self._judge.violated("acted_after_proof", f"{instance} says {ack}, and {running} actions are in flight")
        if ack.command_id not in view.handled:
            self._judge.violated("acted_after_proof", f"{instance} says {ack}, and its stop handler has not said true")
        self._stand(view.proven, ack.scope, ack.emergency_id, self._judge.accounts.epoch_of(ack.command_id))

    def _stand(self, standing: dict[str, dict[str, int]], scope: str, emergency_id: str, epoch: int) -> None:
        """From now on the instance must not act in ``scope``, until the emergency is lifted."""
        if not self._judge.ledger.is_lifted(scope, emergency_id, epoch):
            standing.setdefault(scope, {})[emergency_id] = epoch

    def claim(self, instance: Instance, scope: str, emergency_id: str, epoch: int) -> None:
        """Its emergency says that the stop is proven, for this instance among others."""
        running = acting_in(instance, scope)
        if running and not self._judge.ledger.is_lifted(scope, emergency_id, epoch):
            self._judge.violated("acted_after_stop", f"{scope} is STOPPED, and {instance} has {running} in flight")
        self._stand(self.view(instance).claimed, scope, emergency_id, epoch)

    def unclaim(self, scope: str, emergency_id: str) -> None:
        for view in self._views.values():
            view.claimed.get(scope, {}).pop(emergency_id, None)

    def published(self, hold: Hold) -> None:
        """What a hold no longer names may act again; whether it was lifted by right, the ledger judges."""
        for view in self._views.values():
            for standing in (view.proven.get(hold.scope), view.claimed.get(hold.scope)):
                for emergency, epoch in [*(standing or {}).items()]:
                    if standing and self._judge.ledger.is_lifted(hold.scope, emergency, epoch):
                        del standing[emergency]


def acting_in(instance: Instance, scope: str) -> int:
    """How many side effects in ``scope`` are really under way."""
    if scope in ("global", f"service:{instance.service}"):
        return len(instance.acting)
    account_id = scope.removeprefix("account:")
    return sum(action.account_id == account_id for action in instance.acting) if scope != account_id else 0
