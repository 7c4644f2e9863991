"""The omniscient judge: it sees what was really in flight, said, delivered and published, and asks no core anything.

Invariants, by the kind of their violation:

* ``acted_after_proof``, ``acted_after_stop``: a side effect after an instance's proof, or the emergency's; also a proof
  while something was in flight, or before the stop handler had said true
* ``acted_while_held``: a side effect although the newest hold, or a stop command ahead of it, had been delivered
* ``stop_lost``, ``stuck_shut``: a cause without its hold, a permit in spite of a hold, a refusal without one
* ``stale_resume``: a cause lifted by nobody, or by a resume that named an older epoch than the newest stop
* ``unaudited``, ``undurable``: published before its audit record, or before its decision, was durable
* ``milder_hold``, ``epoch_reused``: a hold less severe than its causes; two different holds of one epoch
* ``false_account``: an emergency claims a proof or a confirmation that nobody gave, or ignores the last word
* ``never_ended``, ``not_escalated``: an emergency without an end, or given up on without a second attempt
* ``decided_twice``: one cause, two emergencies

Of recoveries, drills, latches and people besides:

* ``beyond_share``: an instance admits more than its share of a half-open scope, or an account outside of its cohort
* ``stale_probe``, ``unfit``: READY to a probe older than what the instance knows, or at another share than it admits
* ``half_open``, ``no_new_epoch``: something is half open at the end; what had run is held again by no new stop
* ``eased_unproven``, ``unclear``: let run before every proof, or before its detectors said that the cause is gone
* ``unprobed``: more is let run than those who were probed said that they are ready for, or one began anew since
* ``no_right``, ``one_person``, ``latch_ignored``: begun by nobody's right, for everything by one person, though latched
* ``hit_ignored``: a recovery succeeded although its cause came back before it was over
* ``early_tier``: a tier is held before the one before has proven its stop, or has had its time
* ``drill_holds``: a drill holds something
* ``early_plan``, ``called_off_holds``: a planned stop holds before its time, or although it was called off
* ``acted_without_lease``, ``outlives_lease``: a side effect begun without a lease, or not asked to end without one
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emergency_stop.domain.ids import emergency_id, request_cause
from emergency_stop.domain.messages import (
    Ack,
    AuditRecord,
    Command,
    ConditionAnswer,
    ConditionQuestion,
    Emergency,
    Hit,
    Hold,
    HoldCause,
    Recovery,
    targets_service,
)
from emergency_stop.domain.values import Action, HoldState, StopLevel
from tests.simulation.accounts import Accounts
from tests.simulation.answers import Answers
from tests.simulation.ledger import HoldLedger
from tests.simulation.planned_stops import PlannedStops
from tests.simulation.proofs import Proofs, View
from tests.simulation.recoveries import Recoveries
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from emergency_stop.coordinate.state import Effect
    from tests.simulation.coordination import Input
    from tests.simulation.instance import Instance
    from tests.simulation.world import SimulatedWorld

#: Percent.
ALL: Final = 100

__all__ = ["Judge", "Violation"]


class Judge:
    def __init__(self, world: SimulatedWorld) -> None:
        self._world = world
        self.violations: list[Violation] = []
        self.ledger = HoldLedger(self)
        self.proofs = Proofs(self)
        self.answers = Answers(self, world)
        self.accounts = Accounts(self, world)
        self.recoveries = Recoveries(self, world)
        self.plans = PlannedStops(self)
        self.newest_holds = self.ledger.newest

    def violated(self, kind: str, text: str) -> None:
        """Note it; the first one ends the schedule."""
        self.violations.append(Violation(self._world.seed, self._world.engine.now_ms, kind, text))
        self._world.note("VIOLATION %s: %s", kind, text)

    def people_for(self, scope: str) -> int:
        """How many different people must ask before ``scope`` runs again."""
        return self._world.policy.global_resume_people if scope == "global" else 1

    def tier_ms(self) -> int:
        """How long the next tier of a cascading stop waits for proofs."""
        return self._world.policy.timeout_ms(StopLevel.CASCADING)

    @property
    def now_ms(self) -> int:
        return self._world.engine.now_ms

    # ------------------------------------------------------------------------------------------- what it sees

    def accepted(self, message: Input) -> None:
        """The broker has an input."""
        if isinstance(message, Ack):
            self.answers.acked(message)
        elif isinstance(message, ConditionAnswer):
            self.recoveries.accepted(message)
        elif isinstance(message, Hit) or message.action is Action.STOP:
            self.accounts.caused(message)
            if isinstance(message, Hit):
                self.recoveries.accepted(message)
            else:
                self.plans.asked(message)
        elif message.action in (Action.RECOVER, Action.RESET):
            self.recoveries.accepted(message)
        elif message.action is Action.DRILL:
            self.ledger.drills.add(emergency_id(request_cause(message.request_id)))
        else:
            self.ledger.resumes[message.correlation_id] = message

    def published(self, effect: Effect, *, late: bool) -> None:
        """The broker has a record of a coordinator."""
        if isinstance(effect, Hold):
            kept = self._world.durable.record(effect.scope)
            self.ledger.published(effect, kept, late=late)
            self.plans.published(effect, kept)
            self.proofs.published(effect)
        elif isinstance(effect, Command):
            self.answers.commanded(effect)
        elif isinstance(effect, Emergency):
            if not late:
                self.accounts.told(effect)
        elif isinstance(effect, Recovery):
            self.recoveries.told(effect)
        elif isinstance(effect, ConditionQuestion):
            self.recoveries.questioned(effect)
        elif isinstance(effect, AuditRecord):
            self.recoveries.audited(effect)
            self.plans.audited(effect)
            if effect.action == "resumed":
                self.ledger.audited.add(effect.correlation_id)

    def started(self, instance: Instance) -> None:
        """A process begins."""
        self.proofs.started(instance)

    def delivered_hold(self, instance: Instance, hold: Hold) -> None:
        self.proofs.view(instance).take_hold(hold)

    def delivered_command(self, instance: Instance, command: Command) -> None:
        self.proofs.view(instance).take_command(command)

    def handled(self, instance: Instance, command: Command, *, done: bool) -> None:
        if done:
            self.proofs.view(instance).handled.add(command.command_id)

    def told(self, instance: Instance, ack: Ack) -> None:
        """An instance says so, whether or not anybody will ever hear it."""
        self.proofs.told(instance, ack)

    def attempted(self, instance: Instance, account_id: str | None) -> None:
        """Somebody asks for leave to act."""
        self.proofs.view(instance).attempt(account_id)

    def began(self, instance: Instance, account_id: str | None) -> None:
        """A side effect begins."""
        self.proofs.began(instance, account_id)

    # -------------------------------------------------------------------------------------------- the verdict

    def has_all_ended(self) -> bool:
        return self.accounts.unended() is None and self.recoveries.unended() is None

    def conclude(self) -> None:
        """After the end: everything that was begun has ended, and gates say what the newest holds say."""
        self.accounts.conclude()
        self.recoveries.conclude()
        for instance in self._world.instances:
            if instance.is_alive and instance.is_open and not instance.is_leaving:
                self._compare_gate(instance, self.proofs.view(instance))

    def _compare_gate(self, instance: Instance, view: View) -> None:
        for account_id in dict.fromkeys(self._world.accounts):
            wanted = [scope for scope in view.scopes(account_id) if self._is_held(scope, instance.service)]
            acts = instance.attempt(account_id)
            if wanted and acts:
                self.violated("stop_lost", f"{instance} acts for {account_id}, which {wanted} hold")
            if not wanted and not acts and not view.has_stray_order(account_id):
                self.violated("stuck_shut", f"{instance} refuses {account_id}, which nothing holds")

    def _is_held(self, scope: str, service: str) -> bool:
        hold = self.newest_holds.get(scope)
        return hold is not None and covers(hold, service)


def covers(hold: Hold, service: str) -> bool:
    """Whether a hold stops ``service``, in part or wholly, told apart from the gate's own way to tell."""
    return admitted(hold, service) < ALL


def admitted(hold: Hold, service: str) -> int:
    """What a hold admits of ``service``, percent: what the strictest of its causes does."""
    if hold.state is not HoldState.HELD:
        return ALL
    own = hold.scope == f"service:{service}"
    if hold.scope.startswith("service:") and not own:
        return ALL
    causes = [cause for cause in hold.causes if own or targets_service(cause.services, service)]
    return min((share_of(cause, service) for cause in causes), default=ALL)


def share_of(cause: HoldCause, service: str) -> int:
    """What one cause admits, percent; nothing unless it says so."""
    return next((share.percent for share in cause.shares if share.service == service), 0)
