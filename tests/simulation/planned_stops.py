"""The judge's book of planned stops: none begins before its time, and none that was called off begins at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emergency_stop.domain.ids import emergency_id, request_cause
from emergency_stop.domain.messages import AuditRecord, Hold, Request
from emergency_stop.domain.values import StopLevel

if TYPE_CHECKING:
    from tests.simulation.coordination import Kept
    from tests.simulation.judge import Judge


class PlannedStops:
    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        #: By emergency: when it may begin.
        self._starts_at: dict[str, int] = {}
        self._called_off: set[str] = set()

    def asked(self, request: Request) -> None:
        """Somebody plans a stop; only one for maintenance waits for its time."""
        if request.starts_at is not None and request.level is StopLevel.MAINTENANCE:
            self._starts_at[emergency_id(request_cause(request.request_id))] = request.starts_at

    def audited(self, record: AuditRecord) -> None:
        """A plan counts as called off from its audit record on, and only somebody who named it may do so."""
        if record.action != "stop_called_off":
            return
        request = self._judge.ledger.resumes.get(record.correlation_id)
        if request is None or request.emergency_id != record.subject:
            self._judge.violated("no_right", f"{record.subject} is called off, and {request} does not name it")
        self._called_off.add(record.subject)

    def published(self, hold: Hold, kept: Kept | None) -> None:
        """Judge a hold by the plans among its causes."""
        waiting = kept.outbox if kept else ()
        off = {e.subject for e in waiting if isinstance(e, AuditRecord) and e.action == "stop_called_off"}
        for cause in hold.causes:
            starts_at = self._starts_at.get(cause.emergency_id)
            if starts_at is None:
                continue
            if hold.updated_at < starts_at:
                self._judge.violated("early_plan", f"{hold} holds for {cause}, planned for {starts_at}")
            if cause.emergency_id in self._called_off or cause.emergency_id in off:
                self._judge.violated("called_off_holds", f"{hold} holds for {cause}, which was called off")
