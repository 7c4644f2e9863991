"""The judge's ledger of holds: which causes hold which scope, and who lifted them by what right."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from emergency_stop.domain.messages import AuditRecord, Hold, HoldCause, Request
from emergency_stop.domain.values import LEVEL_SEVERITY, HoldState, StopLevel
from tests.simulation.recoveries import people

if TYPE_CHECKING:
    from tests.simulation.coordination import Kept
    from tests.simulation.judge import Judge


def _severity(causes: Iterable[HoldCause]) -> int:
    return max((LEVEL_SEVERITY[cause.level] for cause in causes), default=0)


class HoldLedger:
    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        #: By scope: the hold with the largest epoch, and the newest stop that any hold told.
        self.newest: dict[str, Hold] = {}
        self._stop_epochs: dict[str, int] = {}
        self._by_epoch: dict[tuple[str, int], Hold] = {}
        #: Requests to resume, and those whose audit record was published, by correlation id.
        self.resumes: dict[str, Request] = {}
        self.audited: set[str] = set()
        #: The worst level at which each emergency ever held, and its newest part in a hold.
        self.severities: dict[str, int] = {}
        self.causes: dict[str, tuple[str, HoldCause]] = {}
        self.drills: set[str] = set()
        #: By scope and emergency: (epoch, the services let run; all of them: ``None``) of each hold that let it run.
        self._runs: dict[tuple[str, str], list[tuple[int, frozenset[str] | None]]] = {}
        self._ever: dict[str, set[str]] = {}
        #: Of a cascading stop: when its newest tier began, and the services of that tier.
        self._tiers: dict[str, tuple[int, tuple[str, ...]]] = {}

    def is_lifted(self, scope: str, emergency: str, epoch: int, service: str) -> bool:
        """Whether a hold newer than the stop of ``epoch`` let a part of the service's work run."""
        newest = self.newest.get(scope)
        if newest is not None and newest.epoch > epoch and all(c.emergency_id != emergency for c in newest.causes):
            return True  # also where no hold ever named it, because it was lifted before that went out
        runs = self._runs.get((scope, emergency), ())
        return any(at > epoch and (services is None or service in services) for at, services in runs)

    def ran_before(self, scope: str, emergency: str, epoch: int, service: str) -> int:
        """Epoch of the newest hold older than ``epoch`` that let a part of the service's work run; 0: none."""
        runs = self._runs.get((scope, emergency))
        if runs is None:
            return 0
        return max((at for at, some in runs if at < epoch and (some is None or service in some)), default=0)

    def ran_until(self, scope: str, emergency: str) -> int:
        """Epoch of the newest hold that let any of it run; 0: none."""
        return max((at for at, _ in self._runs.get((scope, emergency), ())), default=0)

    def published(self, hold: Hold, kept: Kept | None, *, late: bool) -> None:
        """Judge a hold."""
        same = self._by_epoch.setdefault((hold.scope, hold.epoch), hold)
        if (same.state, same.level, same.causes) != (hold.state, hold.level, hold.causes):
            self._judge.violated("epoch_reused", f"{same} and {hold}")
        self._judge_level(hold)
        if kept is None or kept.state.epoch < hold.epoch:
            self._judge.violated("undurable", f"{hold} is published, on record is {kept and kept.state.epoch}")
        former = self.newest.get(hold.scope)
        if former is not None and hold.epoch <= former.epoch:
            if same is hold and not late:
                self._judge.violated("epoch_reused", f"{hold} is new and comes after epoch {former.epoch}")
            return
        self._judge_lifts(former, hold, kept)
        self._judge_shares(hold, kept)
        self._enter(hold, kept)

    def _judge_level(self, hold: Hold) -> None:
        level = LEVEL_SEVERITY[hold.level] if hold.level else 0
        if level < _severity(hold.causes) or (hold.state is HoldState.HELD) != bool(hold.causes):
            self._judge.violated("milder_hold", f"{hold} is milder than its causes")
        for cause in hold.causes:
            known = self.severities.get(cause.emergency_id, 0)
            newest = self.causes.get(cause.emergency_id)
            if LEVEL_SEVERITY[cause.level] < known and newest and newest[1].epoch <= cause.epoch:
                self._judge.violated("milder_hold", f"{cause} was more severe before")

    def _judge_shares(self, hold: Hold, kept: Kept | None) -> None:
        """What the hold lets run, in part or wholly, of whatever ever held the scope."""
        named = {cause.emergency_id: cause for cause in hold.causes}
        for emergency in self._ever.get(hold.scope, ()):
            cause = named.get(emergency)
            if cause is None:
                self._runs.setdefault((hold.scope, emergency), []).append((hold.epoch, None))
        for cause in hold.causes:
            if cause.emergency_id in self.drills:
                self._judge.violated("drill_holds", f"{hold} holds for a drill")
            if cause.shares:
                some = frozenset(share.service for share in cause.shares if share.percent)
                self._runs.setdefault((hold.scope, cause.emergency_id), []).append((hold.epoch, some))
                former = self.causes.get(cause.emergency_id)
                if former is None or former[1].shares != cause.shares:
                    self._judge.recoveries.eased(hold, cause, kept)

    def _enter(self, hold: Hold, kept: Kept | None) -> None:
        self.newest[hold.scope] = hold
        self._ever.setdefault(hold.scope, set()).update(cause.emergency_id for cause in hold.causes)
        for cause in hold.causes:
            if cause.level is StopLevel.CASCADING:
                self._judge_tier(hold, cause, kept)
            self.causes[cause.emergency_id] = hold.scope, cause
            severity = max(LEVEL_SEVERITY[cause.level], self.severities.get(cause.emergency_id, 0))
            self.severities[cause.emergency_id] = severity
            self._stop_epochs[hold.scope] = max(cause.epoch, self._stop_epochs.get(hold.scope, 0))

    def _judge_tier(self, hold: Hold, cause: HoldCause, kept: Kept | None) -> None:
        """A further tier is held once the one before has proven its stop, or has had its time."""
        # the hold that the tier began with may have been superseded before it went out, or said again later
        at = hold.updated_at if cause.epoch == hold.epoch else 0
        former = self.causes.get(cause.emergency_id)
        if former is None or set(former[1].services) == set(cause.services):
            opened_at = self._judge.recoveries.newest_at("emergency_opened", cause.emergency_id, kept, hold.updated_at)
            self._tiers.setdefault(cause.emergency_id, (min(at, opened_at or at), cause.services))
            return
        began_at, tier = self._tiers[cause.emergency_id]
        # of such a hold the tier's own record tells when it was decided: who came up since, owed nothing then
        noted_at = self._judge.recoveries.newest_at("tier_begun", cause.emergency_id, kept, hold.updated_at)
        decided_at = noted_at or hold.updated_at
        waited_ms = decided_at - began_at
        fresh = tuple(name for name in cause.services if name not in former[1].services)
        self._tiers[cause.emergency_id] = min(at, decided_at), fresh
        owing = self._judge.answers.owing(cause.emergency_id, tier, decided_at)
        if owing and waited_ms < self._judge.tier_ms():
            self._judge.violated("early_tier", f"{hold} holds a further tier after {waited_ms} ms; {owing} owe a proof")

    def _judge_lifts(self, former: Hold | None, hold: Hold, kept: Kept | None) -> None:
        """Emergencies that ``former`` names and ``hold`` does not: each must have been lifted by right."""
        remaining = {cause.emergency_id for cause in hold.causes}
        lifted = [c.emergency_id for c in former.causes if c.emergency_id not in remaining] if former else []
        if lifted:
            given = self._resumes_on_record(hold.scope, kept)
            for emergency in lifted:
                if self._judge.recoveries.has_restored(emergency, kept):
                    self._judge.recoveries.judge_probes(hold, emergency)
                else:
                    self._judge_lift(hold, emergency, given)
                    self._judge.recoveries.judge_latch(emergency, hold.scope, hold.updated_at, kept)

    def _resumes_on_record(self, scope: str, kept: Kept | None) -> list[Request]:
        """Those whose acceptance was audited: the record is published, or durable and on its way."""
        waiting = kept.outbox if kept else ()
        on_way = {e.correlation_id for e in waiting if isinstance(e, AuditRecord) and e.action == "resumed"}
        known = [self.resumes[key] for key in self.audited | on_way if key in self.resumes]
        return [request for request in known if request.scope == scope]

    def _judge_lift(self, hold: Hold, emergency: str, given: list[Request]) -> None:
        asked = [r for r in self.resumes.values() if r.scope == hold.scope and r.emergency_id in (None, emergency)]
        newest = self._stop_epochs[hold.scope]
        fresh = [request for request in asked if (request.epoch or 0) >= newest]
        needed = self._judge.people_for(hold.scope)
        if fresh and needed > 1 and people(fresh) < needed:
            self._judge.violated("one_person", f"{hold} lifts {emergency} for one person")
        if not fresh:
            epochs = [request.epoch for request in asked]
            self._judge.violated(
                "stale_resume", f"{hold} lifts {emergency}; newest stop {newest}, resumes named {epochs}"
            )
        elif not any(request in given for request in fresh):
            self._judge.violated("unaudited", f"{hold} lifts {emergency}, and no audit record says by whom")
