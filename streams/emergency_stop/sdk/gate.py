"""Whether a service may act: the pure state behind ``StopGuard``.

Theory of operation. Three things shut a scope, and a lost lease shuts everything besides; the most severe over the
scopes that apply wins:

* a **hold** (topic ``estop.holds``), THE state: the newest record of a scope, in the order of its log;
* an **order**: a stop command that is ahead of its hold, or of which no hold is known. It stands until a
  hold or a resume with a larger epoch comes;
* an **alarm**: a stop whose signature is bad. It is obeyed (when in doubt, stop), but its epoch proves
  nothing, so any hold with a good signature ends it.

What tightens is always taken. What loosens must be signed (where keys are configured) and must not be
older than what it loosens. Nothing here reads a clock, and nothing may be called from two threads.

A hold may be **half open**: each of its causes names the share of this service's work that it admits
(``sdk/shares.py``), and the least of them counts. Orders and alarms admit nothing, so a stop always wins over a
share. An action needs the leave of every scope that covers it.

The fast path is ``Permit`` in ``sdk/permit.py``. It reads and writes the public attributes below itself,
because a method call per step would double its cost: two look-ups to enter, a few stores to leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Protocol

from emergency_stop.domain.messages import Command, Hold
from emergency_stop.domain.values import LEVEL_SEVERITY, Scope, ScopeKind, StopLevel
from emergency_stop.sdk.shares import ALL_PERCENT, Budgets, cohort_of, reduced
from emergency_stop.sdk.shut import Shut, Stopped, as_strict, severity, together, worse, worst

__all__ = ["REMEMBERED_ACCOUNTS_MAX", "Gate", "InFlight", "Revocation", "Shut", "Stopped", "Verdict"]

#: Accounts whose last side effect is remembered; past it the longest-known one is forgotten.
REMEMBERED_ACCOUNTS_MAX: Final = 1_000_000


class Verdict(StrEnum):
    """What became of a hold or a resume."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    ALARM = "alarm"
    REFUSED_UNTRUSTED = "refused_untrusted"
    REFUSED_STALE = "refused_stale"
    STILL_HELD = "still_held"
    AWAITS_HOLD = "awaits_hold"


class InFlight(Protocol):
    """One permitted action that has not ended."""

    account_id: str | None

    def revoke(self) -> bool:
        """Ask the action to end now; ``False`` where nobody can be asked. It stays in flight until it has left."""
        ...


@dataclass(slots=True)
class Revocation:
    """How often an action in flight was asked to end, and because of what."""

    shut: Shut
    times: int = 0


@dataclass(frozen=True, slots=True)
class _Known:
    """The accepted hold of a scope, reduced to this service: the largest epoch, and what shuts it now."""

    epoch: int
    shut: Shut | None
    #: What was accepted under that epoch; of several holds that have it, the strictest.
    of_epoch: Shut | None


class Gate:
    """The gate of one instance of ``service``. Shut with ``closed`` until ``open`` is called."""

    def __init__(self, service: str, closed: str = "the guard is not started") -> None:
        self.service = service
        self.own_scope: Final = str(Scope.service(service))
        self._holds: dict[str, _Known] = {}
        self._orders: dict[str, Shut] = {}
        self._alarms: dict[str, Shut] = {}
        self._budgets = Budgets()
        shut = Shut(self.own_scope, 0, StopLevel.IMMEDIATE, closed)
        self._closed: Shut | None = shut
        #: While the instance has no lease of the coordinator.
        self._leaseless: Shut | None = None
        self._wides: tuple[Shut, ...] = (shut,)
        #: What all of them admit, percent.
        self._wide_percent = 0
        #: The most severe stop that covers every account, half open or not; ``None`` where there is none.
        self.wide: Shut | None = shut
        #: Stops of single accounts, half open or not.
        self.accounts: dict[str | None, Shut] = {}
        self.in_flight_actions: set[InFlight] = set()
        self.revoked: dict[InFlight, Revocation] = {}
        #: When an action of an account last ended, milliseconds since the epoch.
        self.last_at: dict[str | None, int] = {}
        self.last_any_at: int | None = None
        self.permitted = 0
        self.refused = 0
        #: Of those permitted: how many raised.
        self.failed_actions = 0
        #: Called when an action has left, while it is set: somebody waits for a scope to become quiet.
        self.watcher: Callable[[InFlight], None] | None = None

    def check(self, account_id: str | None) -> None:
        """Count an attempt to act where ``wide`` or ``accounts`` says that something is shut: a permit's slow path.

        Returns where every half-open scope admits it; else raises ``Stopped`` with the most severe of what does not.
        """
        wide, account = self._wide_refusal(account_id), self.accounts.get(account_id)
        # what a wide scope refuses does not use up the account's own budget
        admits = self._budgets.take if wide is None else self._budgets.admits
        refusal = wide if account is None or admits(account_id, account.percent) else worst((wide, account))
        if refusal is not None:
            self.refused += 1
            raise Stopped(refusal, account_id)

    def note_failure(self, kind: type[BaseException]) -> None:
        """An action has left with an exception; one that a stop or a cancellation raised is no failure of its own."""
        if not issubclass(kind, (Stopped, asyncio.CancelledError)):
            self.failed_actions += 1

    def forget_oldest(self) -> None:
        """Keep ``last_at`` within its bound."""
        del self.last_at[next(iter(self.last_at))]

    # ----------------------------------------------------------------------------------------- questions

    def shut_for(self, account_id: str | None) -> Shut | None:
        """The most severe of what would refuse an action for ``account_id`` now; ``None`` where nothing would."""
        wide, account = self._wide_refusal(account_id), self.accounts.get(account_id)
        return wide if account is None or self._budgets.admits(account_id, account.percent) else worst((wide, account))

    def shut_of(self, scope: str) -> Shut | None:
        """What shuts exactly this scope, wholly or in part; broader ones do not count."""
        known = self._holds.get(scope)
        return together((known.shut if known else None, self._orders.get(scope), self._alarms.get(scope)))

    def percent_of(self, scope: str) -> int:
        """How much of its work this service is admitted in exactly this scope, percent; 100 where nothing shuts it."""
        shut = self.shut_of(scope)
        return ALL_PERCENT if shut is None else shut.percent

    def refusal_of(self, scope: str, percent: int) -> Shut | None:
        """A broader or parallel stop that admits less than the ``percent`` of ``scope`` which its own hold admits.

        Of an account only its cohort counts: where that is admitted, all of the account's work is.
        """
        parsed = Scope.parse(scope)
        if parsed.kind is ScopeKind.ACCOUNT:
            return self._wide_refusal(parsed.name)
        others = (s for s in self._wides if s.scope != scope or s is self._closed or s is self._leaseless)
        return worst(shut for shut in others if shut.percent < percent)

    def epoch_of(self, scope: str) -> int:
        """The largest epoch that was applied to ``scope``; 0 where none is known."""
        known, order = self._holds.get(scope), self._orders.get(scope)
        return max(known.epoch if known else 0, order.epoch if order else 0)

    def holds(self, scope: str, epoch: int, level: StopLevel) -> bool:
        """Whether an accepted hold of exactly this scope stops as much as ``level``, at ``epoch`` or later."""
        known = self._holds.get(scope)
        if known is None or known.shut is None or known.shut.percent > 0:
            return False
        return known.epoch >= epoch and severity(known.shut) >= LEVEL_SEVERITY[level]

    def hold_epoch(self, scope: str) -> int:
        """The epoch of the newest accepted hold of ``scope``, whatever it says; 0 where none is known."""
        known = self._holds.get(scope)
        return known.epoch if known else 0

    def newest_stop(self, scope: str) -> int:
        """The largest epoch of what stops ``scope``, half open or not; 0 where nothing does."""
        known, order = self._holds.get(scope), self._orders.get(scope)
        return max(known.epoch if known and known.shut else 0, order.epoch if order else 0)

    @property
    def held_scopes(self) -> int:
        """Scopes that are shut for this service, each counted once."""
        wide = sum(self.shut_of(scope) is not None for scope in ("global", self.own_scope))
        return len(self.accounts) + wide

    def in_flight_in(self, scope: str) -> set[InFlight]:
        """The actions in flight that ``scope`` covers; looks at each action in flight."""
        parsed = Scope.parse(scope)
        if parsed.kind is ScopeKind.ACCOUNT:
            return {action for action in self.in_flight_actions if action.account_id == parsed.name}
        if parsed.kind is ScopeKind.SERVICE and parsed.name != self.service:
            return set()
        return set(self.in_flight_actions)

    def in_flight(self, scope: str) -> int:
        """How many actions in flight ``scope`` covers; 0 is the proof of a stop."""
        return len(self.in_flight_in(scope))

    def last_side_effect_at(self, scope: str, now_ms: int) -> int | None:
        """When the instance last acted in ``scope``: now, while something is in flight; ``None`` if it never did."""
        if self.in_flight(scope):
            return now_ms
        parsed = Scope.parse(scope)
        return self.last_at.get(parsed.name) if parsed.kind is ScopeKind.ACCOUNT else self.last_any_at

    def revoke(self, scope: str, *, again: bool = False) -> int:
        """Ask every action in flight in ``scope`` to end now; returns how many were asked.

        Those asked before are left to clean up in peace, unless ``again``; so are accounts whose cohort a half-open
        wide scope admits.
        """
        # a lost lease admits nothing, whatever share a hold admits
        shut = together((self.shut_of(scope), self._leaseless)) or self._closed
        if shut is None:
            return 0
        chosen = self.in_flight_in(scope)
        if shut.percent and self._closed is None and Scope.parse(scope).kind is not ScopeKind.ACCOUNT:
            chosen = {action for action in chosen if cohort_of(action.account_id) >= shut.percent}
        asked = [action for action in chosen if (again or action not in self.revoked) and action.revoke()]
        for action in asked:
            self.revoked.setdefault(action, Revocation(shut)).times += 1
        return len(asked)

    # ------------------------------------------------------------------------------------------- changes

    def open(self) -> None:
        """The holds have been read: from now on they alone decide."""
        self._closed = None
        self._refresh_wide()

    def close(self, reason: str) -> None:
        """Shut for everything, whatever the holds say."""
        self._closed = Shut(self.own_scope, self.epoch_of(self.own_scope), StopLevel.IMMEDIATE, reason)
        self._refresh_wide()

    def take_lease_away(self, level: StopLevel, reason: str) -> None:
        """Shut for everything, whatever the holds say, until ``give_lease_back``."""
        self._leaseless = Shut(self.own_scope, self.epoch_of(self.own_scope), level, reason)
        self._refresh_wide()

    @property
    def lacks_lease(self) -> bool:
        """Whether its lease was taken away, and not given back since."""
        return self._leaseless is not None

    def give_lease_back(self) -> None:
        """There is a lease again: everything else that shuts the gate decides as always."""
        self._leaseless = None
        self._refresh_wide()

    def apply_hold(self, hold: Hold, *, trusted: bool) -> Verdict:
        """Take over a record of ``estop.holds``, in its partition's order. Raises ``ValueError`` for a bad scope.

        A stop is taken over even with a small epoch, but the epoch that a resume must reach never falls.
        """
        shut = reduced(hold, self.service)
        if not trusted:
            return self.raise_alarm(shut) if shut else Verdict.REFUSED_UNTRUSTED
        known = self._holds.get(hold.scope)
        if known is None or hold.epoch > known.epoch:
            fresh: _Known | None = _Known(hold.epoch, shut, shut)
        else:
            fresh = _no_newer(hold, shut, known)
        if fresh is None:
            return Verdict.REFUSED_STALE
        order = self._orders.get(hold.scope)
        self._alarms.pop(hold.scope, None)
        if order is not None and order.epoch < hold.epoch:
            del self._orders[hold.scope]
        self._holds[hold.scope] = fresh
        self._refresh(hold.scope)
        return Verdict.UNCHANGED if known == fresh else Verdict.APPLIED

    def apply_stop(self, command: Command, *, trusted: bool) -> Verdict:
        """Shut the scope of a stop command, whether or not its hold is known. Raises ``ValueError`` for a bad scope."""
        Scope.parse(command.scope)
        shut = Shut(command.scope, command.epoch, command.level, command.reason, command.emergency_id)
        if not trusted:
            return self.raise_alarm(shut)
        standing = self._orders.get(command.scope)
        if standing is not None:
            shut = replace(worse(standing, shut), epoch=max(standing.epoch, shut.epoch))
        self._orders[command.scope] = shut
        self._refresh(command.scope)
        return Verdict.APPLIED

    def raise_alarm(self, shut: Shut) -> Verdict:
        """Obey a stop that proves nothing: forged, unreadable or unsigned. It admits nothing, whatever it says."""
        standing, shut = self._alarms.get(shut.scope), replace(shut, percent=0)
        self._alarms[shut.scope] = worse(standing, shut) if standing else shut
        self._refresh(shut.scope)
        return Verdict.ALARM

    def apply_resume(self, command: Command, *, trusted: bool) -> Verdict:
        """Whether a resume may be confirmed. It ends orders; a hold is lifted by its own record alone."""
        if not trusted:
            return Verdict.REFUSED_UNTRUSTED
        if self._is_no_newer(command):
            return Verdict.REFUSED_STALE
        self._orders.pop(command.scope, None)
        self._alarms.pop(command.scope, None)
        self._refresh(command.scope)
        return self.resume_verdict(command)

    def resume_verdict(self, command: Command) -> Verdict:
        """Whether a resume that was applied may be confirmed by now. What stops came after it, it does not end."""
        if self._is_no_newer(command):
            return Verdict.REFUSED_STALE
        if self.shut_of(command.scope) is None:
            return Verdict.APPLIED
        return Verdict.STILL_HELD if self.hold_epoch(command.scope) >= command.epoch else Verdict.AWAITS_HOLD

    def _is_no_newer(self, resume: Command) -> bool:
        """Whether a stop of its scope is as new: every resume has an epoch of its own, beyond what it ends."""
        stop = self.newest_stop(resume.scope)
        return stop > 0 and resume.epoch <= stop

    def _refresh(self, scope: str) -> None:
        parsed = Scope.parse(scope)
        if parsed.kind is not ScopeKind.ACCOUNT:
            self._refresh_wide()
            return
        shut = self.shut_of(scope)
        if shut is None or shut.percent == ALL_PERCENT:
            self.accounts.pop(parsed.name, None)
        else:
            self.accounts[parsed.name] = shut
        if parsed.name not in self.accounts or not self.accounts[parsed.name].percent:
            self._budgets.drop(parsed.name)

    def _refresh_wide(self) -> None:
        shuts = (self._closed, self._leaseless, self.shut_of("global"), self.shut_of(self.own_scope))
        self._wides = tuple(shut for shut in shuts if shut is not None and shut.percent < ALL_PERCENT)
        self._wide_percent = min((shut.percent for shut in self._wides), default=ALL_PERCENT)
        self.wide = worst(self._wides)

    def _wide_refusal(self, account_id: str | None) -> Shut | None:
        """The most severe of the wide scopes that do not admit the cohort of ``account_id``."""
        if self.wide is None:
            return None
        cohort = cohort_of(account_id)
        if cohort < self._wide_percent:
            return None
        return worst(shut for shut in self._wides if cohort >= shut.percent)


def _no_newer(hold: Hold, shut: Shut | None, known: _Known) -> _Known | None:
    """What stands after a trusted hold whose epoch is not beyond the known one; ``None``: it loosens, and is refused.

    It may tighten, and loosens in no respect, unless it is what was accepted under its epoch before, and comes again.
    No two holds of a scope share an epoch: of two that do all the same, one is not its owner's, so the stricter counts.
    """
    of_epoch = known.of_epoch
    if hold.epoch == known.epoch:
        if as_strict(shut, of_epoch):
            return _Known(known.epoch, shut, shut)
        of_epoch = together((shut, of_epoch))
    if known.shut is not None:
        stale, shut = shut, together((shut, known.shut))
        if stale is None or (shut == known.shut and shut != stale):
            return None
    return _Known(known.epoch, shut, of_epoch)
