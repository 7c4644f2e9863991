"""What a partition's detector knows of a trigger's condition for a scope: whose windows it takes, and when that tells.

An account's trigger is answered by the partition that has the account. A service's hosts, and the parts of a value over
all accounts, lie in every partition: each answers for what it has, and ``coordinate.part_answers`` puts the answers
together. ``Clearance.subjects`` is of how many accounts, hosts or parts there was evidence; none, where nothing here
speaks against. Whether everything that had arrived was evaluated, the caller knows; see ``apps.question_desk``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from emergency_stop.detect.clearance import CLEAR, HOLDS, UNKNOWN, Clearance, clearance
from emergency_stop.detect.detector import PartitionDetector
from emergency_stop.detect.plan import Plan
from emergency_stop.detect.standing import Standing
from emergency_stop.domain.topics import TELEMETRY_SYSTEM
from emergency_stop.domain.triggers import CRON, Trigger
from emergency_stop.domain.values import Scope, ScopeKind

#: Who has sent nothing for so long is gone, or counts as such.
LIVE_MS: Final = 300_000
#: Nothing bad was reported: that is evidence while anything is reported at all.
SIGHT_MS: Final = 60_000
#: Where all accounts' parts are put together.
_OVERALL_PARTITION: Final = 0
_NAMED_MAX: Final = 5


class ConditionBook:
    """Answers questions from a detector's state. ``margin_percent``: see ``clearance``."""

    def __init__(self, margin_percent: int) -> None:
        self._margin_percent = margin_percent
        self._plan: Plan | None = None
        self._triggers: dict[str, list[Trigger]] = {}

    def clearance(self, detector: PartitionDetector, trigger_id: str, scope: Scope, at_ms: int) -> Clearance:
        """How the condition stands at ``at_ms``; changes nothing."""
        versions = self._versions(detector.plan, trigger_id)
        if not versions:
            return Clearance(UNKNOWN, f"trigger {trigger_id!r} is not in force: it is gone, switched off or unknown", 0)
        trigger = versions[0]
        if CRON in trigger.options:
            return Clearance(HOLDS, "a schedule names a moment and no end: an operator ends what it began")
        if bool(trigger.across) != (scope.kind is ScopeKind.GLOBAL):
            watched = "all accounts together" if trigger.across else "every account or host on its own"
            return Clearance(UNKNOWN, f"{trigger_id} watches {watched}, and tells nothing of {scope}", 0)
        if trigger.across:
            return self._of_all(detector, trigger_id, at_ms)
        if scope.kind is ScopeKind.SERVICE:
            return self._of_service(detector, trigger_id, scope.name, at_ms)
        return self._of_account(detector, trigger_id, scope.name, at_ms)

    def _versions(self, plan: Plan, trigger_id: str) -> Sequence[Trigger]:
        """The versions in force; a canary has two."""
        if plan is not self._plan:
            self._plan, self._triggers = plan, {}
            members = [member.trigger for group in (*plan.groups, *plan.across) for member in group.members]
            for trigger in (*members, *plan.schedules):
                self._triggers.setdefault(trigger.trigger_id, []).append(trigger)
        return self._triggers.get(trigger_id, ())

    def _of_account(self, detector: PartitionDetector, trigger_id: str, account: str, at_ms: int) -> Clearance:
        found = next(detector.standing(account.encode(), at_ms, trigger_id), None)
        if found is None:
            return Clearance(UNKNOWN, f"no event of {account} was evaluated that {trigger_id} watches", 0)
        return _if_seen(detector, clearance(found, at_ms, self._margin_percent), at_ms)

    def _of_service(self, detector: PartitionDetector, trigger_id: str, service: str, at_ms: int) -> Clearance:
        """All hosts that sent something lately, or of whom something is in the window still."""
        found: list[tuple[str, Clearance]] = []
        for key in detector.keys_of(TELEMETRY_SYSTEM):
            if key.partition(b"@")[0] != service.encode():
                continue
            standing = next(detector.standing(key, at_ms, trigger_id), None)
            if standing is not None and _is_live(standing, at_ms):
                host = key.decode(errors="backslashreplace")
                found.append((host, clearance(standing, at_ms, self._margin_percent)))
        if not found:
            return Clearance(CLEAR, f"no host of {service} here", 0)
        worst = next(state for state in (HOLDS, UNKNOWN, CLEAR) if any(one.state is state for _, one in found))
        told = [f"{host}: {one.detail}" for host, one in found if one.state is worst]
        more = f"; and {len(told) - _NAMED_MAX} more" if len(told) > _NAMED_MAX else ""
        return Clearance(worst, "; ".join(told[:_NAMED_MAX]) + more, len(found))

    def _of_all(self, detector: PartitionDetector, trigger_id: str, at_ms: int) -> Clearance:
        """The partition that has all parts tells the value; the others, whether telemetry arrives with them."""
        sees = at_ms - detector.newest_at <= SIGHT_MS
        if detector.partition != _OVERALL_PARTITION:
            return Clearance(CLEAR, "its part is in the sum", int(sees))
        standing = detector.overall_standing(trigger_id, at_ms)
        if standing is None:
            return Clearance(UNKNOWN, f"{trigger_id} is not evaluated yet", 0)
        found = clearance(standing, at_ms, self._margin_percent)
        return Clearance(found.state, found.detail, int(sees or at_ms - standing.newest_at <= SIGHT_MS))


def _if_seen(detector: PartitionDetector, found: Clearance, at_ms: int) -> Clearance:
    """Nothing is clear where no telemetry arrives at all, of whomever."""
    unseen_ms = at_ms - detector.newest_at
    if found.state is not CLEAR or unseen_ms <= SIGHT_MS:
        return found
    return Clearance(UNKNOWN, f"{found.detail}; but no telemetry at all is newer than {SIGHT_MS} ms here", 0)


def _is_live(standing: Standing, at_ms: int) -> bool:
    return at_ms - standing.newest_at <= LIVE_MS or any(term.window.samples for term in standing.terms)
