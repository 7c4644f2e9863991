"""The judge's book of recoveries: by whose right each began, what it let run, and how it ended.

It reads requests, answers, audit records and accounts as they were published, and every hold that lets something run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emergency_stop.domain.ids import emergency_id, hit_cause
from emergency_stop.domain.messages import (
    AuditRecord,
    ConditionAnswer,
    ConditionQuestion,
    Hit,
    Hold,
    HoldCause,
    Recovery,
    Request,
)
from emergency_stop.domain.values import (
    Action,
    ClearRule,
    ConditionState,
    EmergencyState,
    Mode,
    RecoveryOutcome,
)

if TYPE_CHECKING:
    from tests.simulation.coordination import Kept
    from tests.simulation.judge import Judge
    from tests.simulation.world import SimulatedWorld

PEOPLE_FOR_GLOBAL: Final = 2
FAILURES_PER_LATCH: Final = 3
_STOPPED: Final = frozenset({EmergencyState.STOPPED, EmergencyState.PARTIAL})


def people(requests: list[Request]) -> int:
    """How many different people asked; a name is one however it is written."""
    return len({request.requested_by.strip().lower() for request in requests})


class Recoveries:
    def __init__(self, judge: Judge, world: SimulatedWorld) -> None:
        self._judge, self._world = judge, world
        self._newest: dict[str, Recovery] = {}
        self._asked_for: list[Request] = []
        self._resets: dict[str, Request] = {}
        self._questions: dict[str, ConditionQuestion] = {}
        #: Ids of questions to which somebody has answered that the condition is clear.
        self._clear: set[str] = set()
        self._hits: list[Hit] = []
        #: Audit records by action and subject, each once.
        self._audits: dict[str, AuditRecord] = {}
        #: By emergency: epochs of holds that let a part of it run.
        self._eased: dict[str, set[int]] = {}
        self._restored: dict[str, int] = {}

    def is_under_way(self, emergency: str) -> bool:
        return any(
            one.emergency_id == emergency and one.outcome is RecoveryOutcome.UNDER_WAY for one in self._newest.values()
        )

    def hits_under_way(self) -> list[Hit]:
        """Those that opened what is being undone now."""
        ids = [one.emergency_id for one in self._newest.values() if one.outcome is RecoveryOutcome.UNDER_WAY]
        return [hit for hit in map(self.hit_of, ids) if hit is not None]

    def accepted(self, message: Hit | Request | ConditionAnswer) -> None:
        """The broker has it."""
        if isinstance(message, ConditionAnswer):
            if message.state is ConditionState.CLEAR:
                self._clear.add(message.question_id)
        elif isinstance(message, Hit):
            if message.mode is Mode.ENFORCE:
                self._hits.append(message)
        elif message.action is Action.RECOVER:
            self._asked_for.append(message)
        else:
            self._resets[message.correlation_id] = message

    def questioned(self, question: ConditionQuestion) -> None:
        self._questions[question.question_id] = question

    def audited(self, record: AuditRecord) -> None:
        self._audits[record.audit_id] = record

    # ------------------------------------------------------------------------------------------- what is published

    def told(self, recovery: Recovery) -> None:
        """An account of a recovery; the first is judged by its right, the others stand for it."""
        known = self._newest.get(recovery.recovery_id)
        if known is not None and known.outcome is not RecoveryOutcome.UNDER_WAY:
            return  # said again after a crash
        if known is None:
            self._judge_right(recovery)
        self._newest[recovery.recovery_id] = recovery

    def _judge_right(self, recovery: Recovery) -> None:
        emergency = recovery.emergency_id
        asked = [r for r in self._asked_for if r.scope == recovery.scope and r.emergency_id in (None, emergency)]
        if recovery.started_by == self._world.policy.issued_by:
            if not self._has_cleared(emergency, 0):
                self._judge.violated("no_right", f"{recovery} began by itself, and nobody said that its cause is gone")
            hit = self.hit_of(emergency)
            if hit is None or hit.clear_rule is not ClearRule.WHEN_CONDITION_CLEARS:
                self._judge.violated("no_right", f"{recovery} began by itself, against its rule")
        elif not asked:
            self._judge.violated("no_right", f"{recovery} began, and nobody had asked for it")
        elif recovery.scope == "global" and people([r for r in asked if r.epoch is not None]) < PEOPLE_FOR_GLOBAL:
            self._judge.violated("one_person", f"{recovery} undoes everything for one person")
        # a crash may let the recovery through before the audit record of its reset, which is durable
        self.judge_latch(emergency, recovery.scope, recovery.started_at, self._world.durable.record(recovery.scope))

    def hit_of(self, emergency: str) -> Hit | None:
        """The hit that opened it."""
        return next((hit for hit in self._hits if emergency_id(hit_cause(hit.hit_id)) == emergency), None)

    def _has_cleared(self, emergency: str, since: int) -> int:
        """How many questions about it, asked since then, were answered with clear."""
        return sum(
            question.emergency_id == emergency and question.asked_at >= since and question_id in self._clear
            for question_id, question in self._questions.items()
        )

    def judge_latch(self, emergency: str, scope: str, at: int, kept: Kept | None) -> None:
        """What is about to be undone was not latched, or was reset since."""
        failed = sorted(
            one.ended_at or 0
            for one in self._newest.values()
            if one.emergency_id == emergency
            and one.outcome is RecoveryOutcome.ROLLED_BACK
            and (one.ended_at or 0) <= at
        )
        latched_at = failed[len(failed) // FAILURES_PER_LATCH * FAILURES_PER_LATCH - 1] if len(failed) > 2 else None
        hit = self.hit_of(emergency)
        if latched_at is None and hit is not None and hit.clear_rule is ClearRule.AFTER_OPERATOR_RESET:
            latched_at = 0
        if latched_at is None:
            return
        on_way = [e for e in kept.outbox if isinstance(e, AuditRecord)] if kept else []
        done = [*self._audits.values(), *on_way]
        resets = [self._resets[r.correlation_id] for r in done if r.action == "reset" and r.at >= latched_at]
        if not any(r.scope == scope and r.emergency_id in (None, emergency) for r in resets):
            self._judge.violated("latch_ignored", f"{emergency} in {scope} is undone, and nobody has reset it")

    # ------------------------------------------------------------------------------------------- what is let run

    def eased(self, hold: Hold, cause: HoldCause, kept: Kept | None) -> None:
        """A new hold admits a part of the cause's work."""
        known = self._eased.setdefault(cause.emergency_id, set())
        known.add(hold.epoch)
        if self._on_record("recovery_eased", cause.emergency_id, kept) < len(known):
            self._judge.violated("unaudited", f"{hold} lets something run, and no audit record says so")
        self.judge_probes(hold, cause.emergency_id)
        if len(known) == 1:
            self._judge_first(hold, cause)

    def judge_probes(self, hold: Hold, emergency: str) -> None:
        """Whoever was probed in this attempt has said that it is well, before anything more runs."""
        attempt = max((one.attempt for one in self._newest.values() if one.emergency_id == emergency), default=0)
        for instance, command in self._judge.answers.not_ready(emergency, attempt, hold.epoch):
            self._judge.violated("unprobed", f"{hold} lets {instance} run, which never said ready to {command}")
        for instance, command in self._judge.answers.begun_since_probed(emergency, attempt, hold):
            self._judge.violated("unprobed", f"{hold} lets {instance} run, which began anew since {command}")

    def _judge_first(self, hold: Hold, cause: HoldCause) -> None:
        emergency = cause.emergency_id
        for key in self._judge.accounts.unproven(emergency, cause.epoch):
            self._judge.violated("eased_unproven", f"{hold} lets something run, and {key} never proved its stop")
        one = self._newest.get(max(self._newest, key=lambda k: self._order(k, emergency), default=""))
        if cause.trigger_id is not None and one is not None and one.emergency_id == emergency:
            checks = self._world.policy.procedures[0].checks
            if self._has_cleared(emergency, one.started_at) < checks:
                self._judge.violated(
                    "unclear", f"{hold} lets something run before its condition was clear {checks} times"
                )

    def _order(self, recovery_id: str, emergency: str) -> tuple[bool, int]:
        one = self._newest[recovery_id]
        return one.emergency_id == emergency, one.attempt

    def _on_record(self, action: str, emergency: str, kept: Kept | None) -> int:
        """How many such decisions are published, or durable and on their way."""
        found = {key for key, r in self._audits.items() if (r.action, r.subject) == (action, emergency)}
        for effect in kept.outbox if kept else ():
            if isinstance(effect, AuditRecord) and (effect.action, effect.subject) == (action, emergency):
                found.add(effect.audit_id)
        return len(found)

    def newest_at(self, action: str, emergency: str, kept: Kept | None, until: int) -> int | None:
        """When such a decision was made last, until then, of those that are published, or durable and on their way."""
        on_way = [effect for effect in kept.outbox if isinstance(effect, AuditRecord)] if kept else []
        known = (*self._audits.values(), *on_way)
        at = [r.at for r in known if (r.action, r.subject) == (action, emergency) and r.at <= until]
        return max(at, default=None)

    def has_restored(self, emergency: str, kept: Kept | None) -> bool:
        """Whether a recovery has put on record that it lifts the hold; each such record counts once."""
        done = self._restored.get(emergency, 0)
        if self._on_record("recovery_full_restore", emergency, kept) <= done:
            return False
        self._restored[emergency] = done + 1
        return True

    # ---------------------------------------------------------------------------------------------------- the end

    def unended(self) -> str | None:
        return next((k for k, one in self._newest.items() if one.outcome is RecoveryOutcome.UNDER_WAY), None)

    def conclude(self) -> None:
        """No recovery is under way, nothing is half open, and what failed is held again, anew where it had run."""
        for hold in self._judge.newest_holds.values():
            if any(cause.shares for cause in hold.causes):
                self._judge.violated("half_open", f"{hold} is half open at the end")
        for one in self._newest.values():
            if one.outcome is RecoveryOutcome.UNDER_WAY:
                self._judge.violated("never_ended", f"{one}")
            elif one.outcome is RecoveryOutcome.COMPLETED:
                self._judge_hits(one)
        for told in self._judge.accounts.newest():
            if told.state in _STOPPED and not told.drill:
                self._judge_held(told.scope, told.emergency_id)

    def _judge_held(self, scope: str, emergency: str) -> None:
        hold = self._judge.newest_holds.get(scope)
        cause = next((c for c in hold.causes if c.emergency_id == emergency), None) if hold else None
        if cause is None:
            self._judge.violated("stop_lost", f"{emergency} counts as stopped, and {hold} does not name it")
        elif cause.epoch <= self._judge.ledger.ran_until(scope, emergency):
            self._judge.violated("no_new_epoch", f"{cause} holds again what had run, and by no new stop")

    def _judge_hits(self, recovery: Recovery) -> None:
        """Its cause came back before it was over: then it cannot have succeeded."""
        cause = self.hit_of(recovery.emergency_id)
        for hit in self._hits if cause else ():
            if (hit.scope, hit.trigger_id) != (recovery.scope, cause and cause.trigger_id):
                continue
            own = emergency_id(hit_cause(hit.hit_id))
            at = next((a.at for a in self._audits.values() if _decides(a, hit, own)), 0)
            if recovery.started_at < at < (recovery.ended_at or 0):
                self._judge.violated("hit_ignored", f"{hit} came at {at}, and {recovery} succeeded all the same")


def _decides(record: AuditRecord, hit: Hit, emergency: str) -> bool:
    return record.correlation_id == hit.correlation_id and (
        record.action == "hit_joined" or (record.action == "emergency_opened" and record.subject == emergency)
    )
