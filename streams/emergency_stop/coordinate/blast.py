"""Many accounts stopped by triggers at once have a common cause: everything is held, and one page goes out. Pure.

Theory of operation. ``RecentStops`` reads the holds in the order of their topic and counts the accounts that a trigger
began to hold within a window. An account counts once, and one cause counts once, however often its hold is said again
or raised. ``step`` compares that with how many accounts are live. Past the share a hit on the scope ``global`` is
raised, so that all that holds for hits holds for it: emergency, hold, commands, proof. Nothing is suppressed: the
accounts' own stops go on. While the scope ``global`` has such an emergency in force no second one is raised; once it
is lifted, counting begins anew, because whoever lifted it knew of the stops before.

A hold whose predecessor is not known (compaction took it) counts all its causes as new at its own time: after a restart
an account may count too late, never too little.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

from emergency_stop.coordinate.audit import decision
from emergency_stop.coordinate.state import ScopeState
from emergency_stop.domain.ids import derived_id, emergency_id, hit_cause
from emergency_stop.domain.messages import AuditRecord, Hit, Hold, HoldCause, Notice
from emergency_stop.domain.topics import HOLDS
from emergency_stop.domain.values import (
    ALL_SERVICES,
    GLOBAL_SCOPE,
    ClearRule,
    Mode,
    NoticeKind,
    ScopeKind,
    StopLevel,
    TriggerType,
)

BlastEffect = Hit | Notice | AuditRecord
#: No trigger of a user's can be meant: it stands for the guard.
COMMON_CAUSE: Final = "@common-cause"
RAISED: Final = "common_cause_raised"
LIFTED: Final = "common_cause_lifted"
#: A hit of ours that nobody took for so long is raised again.
TAKEN_WITHIN_MS: Final = 60_000
_NAMED_MAX: Final = 3
_PRIORITY: Final = 4
_ACCOUNT_PREFIX: Final = f"{ScopeKind.ACCOUNT.value}:"


@dataclass(frozen=True, slots=True)
class BlastLimits:
    """More than ``percent`` of the live accounts, ``accounts_min`` at least, within ``window_ms``; 0 percent: never."""

    percent: int = 30
    window_ms: int = 60_000
    accounts_min: int = 20


@dataclass(frozen=True, slots=True)
class StopCount:
    """Accounts that triggers began to hold, and the triggers that did, the most frequent first."""

    accounts: int
    triggers: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class BlastState:
    """Where the guard stands. Stops up to ``counted_from`` are known to whoever lifted the last common cause."""

    hit_id: str | None = None
    raised_at: int = 0
    counted_from: int = 0


Change = tuple[BlastState, list[BlastEffect]]


class RecentStops:
    """Accounts by when a trigger last began to hold them. Changes in place; some 300 bytes for every held account.

    Stops older than two windows before the newest are forgotten, whoever asks or not: clocks of coordinators differ.
    """

    def __init__(self, window_ms: int) -> None:
        self._kept_ms = 2 * window_ms
        #: Ids of the emergencies in force, by account.
        self._in_force: dict[str, frozenset[str]] = {}
        #: (when, by which trigger) of the newest stop.
        self._stopped: dict[str, tuple[int, str]] = {}
        self._by_age: list[tuple[int, str]] = []
        self._newest = 0
        #: Grows with every stop that is counted.
        self.seen = 0

    def __len__(self) -> int:
        return len(self._stopped)

    def take(self, hold: Hold) -> None:
        """The next hold of its scope; what is no account's, and what only says again, changes nothing."""
        if not hold.scope.startswith(_ACCOUNT_PREFIX):
            return
        before = self._in_force.pop(hold.scope, frozenset())
        if hold.causes:
            self._in_force[hold.scope] = frozenset(cause.emergency_id for cause in hold.causes)
        new = [cause for cause in hold.causes if is_automatic(cause) and cause.emergency_id not in before]
        if not new:
            return
        self.seen += 1
        newest = max(new, key=lambda cause: cause.epoch)
        entry = (hold.updated_at, newest.trigger_id or "")
        if entry[0] >= self._stopped.get(hold.scope, (0, ""))[0]:
            self._stopped[hold.scope] = entry
            heapq.heappush(self._by_age, (hold.updated_at, hold.scope))
            self._newest = max(self._newest, hold.updated_at)
            self._forget(self._newest - self._kept_ms)

    def after(self, from_ms: int) -> StopCount:
        """What was stopped later than ``from_ms``; what came before is forgotten, so ``from_ms`` must not go back."""
        self._forget(from_ms)
        triggers = Counter(trigger_id for _, trigger_id in self._stopped.values())
        return StopCount(len(self._stopped), tuple(sorted(triggers.items(), key=lambda one: (-one[1], one[0]))))

    def _forget(self, until_ms: int) -> None:
        while self._by_age and self._by_age[0][0] <= until_ms:
            at, scope = heapq.heappop(self._by_age)
            if self._stopped.get(scope, (None, ""))[0] == at:
                del self._stopped[scope]


def is_automatic(cause: HoldCause) -> bool:
    """Whether a trigger caused it; a person's stops are exempt, and so is the guard's own."""
    return cause.trigger_id is not None and cause.trigger_id != COMMON_CAUSE


def is_blast(accounts: int, live_accounts: int, limits: BlastLimits) -> bool:
    """Whether so many stopped accounts have a common cause; ``live_accounts`` 0: nobody knows how many live."""
    return limits.percent > 0 and accounts >= limits.accounts_min and accounts * 100 > limits.percent * live_accounts


def step(
    state: BlastState, stops: RecentStops, live_accounts: int, everything: ScopeState, *, now_ms: int,
    limits: BlastLimits,
) -> Change:  # fmt: skip
    """Apply what is known now; ``everything`` is the scope ``global``. The same again changes nothing."""
    if any(case.trigger_id == COMMON_CAUSE for case in everything.in_force):
        return state, []
    if state.hit_id is not None:
        state, effects = _without_hold(state, everything, now_ms)
        if state.hit_id is not None or effects:
            return state, effects
    count = stops.after(max(now_ms - limits.window_ms, state.counted_from))
    if not is_blast(count.accounts, live_accounts, limits):
        return state, []
    raised = replace(state, hit_id=derived_id("common-cause", state.counted_from, now_ms), raised_at=now_ms)
    return raised, _raised(raised, count, live_accounts, limits)


def _without_hold(state: BlastState, everything: ScopeState, now_ms: int) -> Change:
    """What was raised is not in force: not yet, or no longer."""
    cause = hit_cause(state.hit_id or "")
    if everything.has_seen(cause) or everything.case(emergency_id(cause)) is not None:
        return BlastState(counted_from=now_ms), [_lifted(state, now_ms)]
    if now_ms - state.raised_at > TAKEN_WITHIN_MS:
        return replace(state, hit_id=None), []
    return state, []


def _raised(state: BlastState, count: StopCount, live_accounts: int, limits: BlastLimits) -> list[BlastEffect]:
    hit = _hit(state, count, live_accounts, limits)
    emergency = emergency_id(hit_cause(hit.hit_id))
    notice = Notice(
        notice_id=derived_id("notice", hit.hit_id),
        kind=NoticeKind.PAGE,
        at=state.raised_at,
        subject=f"common cause: {count.accounts} accounts stopped by triggers; everything is held",
        text=f"{hit.reason}. Everything is held gracefully, and the accounts' own stops go on. Find the cause the"
        f" accounts share, then reset and resume emergency {emergency} of scope global.",
        scope=hit.scope,
        correlation_id=hit.correlation_id,
        emergency_id=emergency,
        trigger_id=COMMON_CAUSE,
    )
    note = decision(
        at=state.raised_at, actor="coordinator", action=RAISED, subject=hit.scope, reason=hit.reason,
        correlation_id=hit.correlation_id, cause=hit.hit_id,
        details={"accounts": count.accounts, "live_accounts": live_accounts or None},
    )  # fmt: skip
    return [hit, notice, note]


def _hit(state: BlastState, count: StopCount, live_accounts: int, limits: BlastLimits) -> Hit:
    hit_id, threshold = state.hit_id or "", float(limits.accounts_min)
    if live_accounts:
        threshold = max(threshold, limits.percent * live_accounts / 100)
    return Hit(
        hit_id=hit_id,
        trigger_id=COMMON_CAUSE,
        trigger_version=1,
        trigger_type=TriggerType.CUSTOM_RULE_TRIGGER,
        trigger_name="Common cause",
        mode=Mode.ENFORCE,
        scope=str(GLOBAL_SCOPE),
        account_id=None,
        level=StopLevel.GRACEFUL,
        target_services=(ALL_SERVICES,),
        priority=_PRIORITY,
        reason=_reason(count, live_accounts, limits),
        occurred_at=state.raised_at,
        detected_at=state.raised_at,
        source_topic=HOLDS,
        source_partition=0,
        source_offset=0,
        observed=float(count.accounts),
        threshold=threshold,
        margin=count.accounts - threshold,
        window_ms=limits.window_ms,
        window_samples=count.accounts,
        window_contents='{"terms":[]}',
        late=False,
        suppressed_before=0,
        correlation_id=hit_id,
        clear_rule=ClearRule.AFTER_OPERATOR_RESET,
    )


def _reason(count: StopCount, live_accounts: int, limits: BlastLimits) -> str:
    if live_accounts:
        share = (
            f"{count.accounts * 100 / live_accounts:.0f} % of {live_accounts} live ones, more than {limits.percent} %"
        )
    else:
        share = f"how many are live is not known, so {limits.accounts_min} is the bound"
    named = ", ".join(f"{trigger_id} ({number})" for trigger_id, number in count.triggers[:_NAMED_MAX])
    return (
        f"triggers stopped {count.accounts} accounts within {limits.window_ms / 1000:g} s ({share}), most often {named}"
    )


def _lifted(state: BlastState, now_ms: int) -> AuditRecord:
    return decision(
        at=now_ms, actor="coordinator", action=LIFTED, subject=str(GLOBAL_SCOPE),
        reason="the common cause does not hold everything any more; stops are counted anew from here",
        correlation_id=state.hit_id or "", cause=state.hit_id or "",
    )  # fmt: skip
