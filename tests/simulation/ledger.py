"""The judge's ledger of holds: which causes hold which scope, and who lifted them by what right."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from emergency_stop.domain.messages import AuditRecord, Hold, HoldCause, Request
from emergency_stop.domain.values import LEVEL_SEVERITY, HoldState

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

    def is_lifted(self, scope: str, emergency: str, epoch: int) -> bool:
        """Whether a hold newer than the stop of ``epoch`` no longer names it."""
        newest = self.newest.get(scope)
        return newest is not None and newest.epoch > epoch and all(c.emergency_id != emergency for c in newest.causes)

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
        self._enter(hold)

    def _judge_level(self, hold: Hold) -> None:
        level = LEVEL_SEVERITY[hold.level] if hold.level else 0
        if level < _severity(hold.causes) or (hold.state is HoldState.HELD) != bool(hold.causes):
            self._judge.violated("milder_hold", f"{hold} is milder than its causes")
        for cause in hold.causes:
            known = self.severities.get(cause.emergency_id, 0)
            newest = self.causes.get(cause.emergency_id)
            if LEVEL_SEVERITY[cause.level] < known and newest and newest[1].epoch <= cause.epoch:
                self._judge.violated("milder_hold", f"{cause} was more severe before")

    def _enter(self, hold: Hold) -> None:
        self.newest[hold.scope] = hold
        for cause in hold.causes:
            self.causes[cause.emergency_id] = hold.scope, cause
            severity = max(LEVEL_SEVERITY[cause.level], self.severities.get(cause.emergency_id, 0))
            self.severities[cause.emergency_id] = severity
            self._stop_epochs[hold.scope] = max(cause.epoch, self._stop_epochs.get(hold.scope, 0))

    def _judge_lifts(self, former: Hold | None, hold: Hold, kept: Kept | None) -> None:
        """Emergencies that ``former`` names and ``hold`` does not: each must have been lifted by right."""
        remaining = {cause.emergency_id for cause in hold.causes}
        lifted = [c.emergency_id for c in former.causes if c.emergency_id not in remaining] if former else []
        if lifted:
            given = self._resumes_on_record(hold.scope, kept)
            for emergency in lifted:
                self._judge_lift(hold, emergency, given)

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
        if not fresh:
            epochs = [request.epoch for request in asked]
            self._judge.violated(
                "stale_resume", f"{hold} lifts {emergency}; newest stop {newest}, resumes named {epochs}"
            )
        elif not any(request in given for request in fresh):
            self._judge.violated("unaudited", f"{hold} lifts {emergency}, and no audit record says by whom")
