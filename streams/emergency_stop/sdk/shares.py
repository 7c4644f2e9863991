"""Which part of the work a half-open hold admits: cohorts of accounts in wide scopes, a budget in one account's.

A cohort is a function of the account's id alone, so every instance of every service admits the same accounts, and one
that was admitted at 10 % is admitted at 50 %. A budget counts attempts: of n attempts it has admitted ⌊n · percent /
100⌋, evenly spread, so that it never admits more than its share and falls short of it by less than one action.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

from emergency_stop.domain.messages import Hold, HoldCause, targets_service
from emergency_stop.domain.values import LEVEL_SEVERITY, HoldState, Scope, ScopeKind, StopLevel
from emergency_stop.sdk.shut import Shut

ALL_PERCENT: Final = 100


def cohort_of(account_id: str | None) -> int:
    """0 … 99; a share of p percent admits the cohorts below p. Work for no account comes last: at 100 alone."""
    if account_id is None:
        return ALL_PERCENT - 1
    return zlib.crc32(account_id.encode(errors="surrogatepass")) % ALL_PERCENT


def reduced(hold: Hold, service: str) -> Shut | None:
    """What ``hold`` means for ``service``: its most severe cause that covers it, and what all such causes admit.

    ``None`` where it stops nothing of the service. Raises ``ValueError`` for a bad scope.
    """
    scope = Scope.parse(hold.scope)
    own = scope.kind is ScopeKind.SERVICE
    if hold.state is HoldState.RUNNING or (own and scope.name != service):
        return None
    causes = [c for c in hold.causes if own or not c.services or targets_service(c.services, service)]
    if not causes:
        # a hold that names no cause still holds
        return None if hold.causes else Shut(hold.scope, hold.epoch, hold.level or StopLevel.IMMEDIATE, hold.reason)
    most = max(causes, key=lambda cause: LEVEL_SEVERITY[cause.level])
    percent = percent_of(causes, service)
    return Shut(hold.scope, hold.epoch, most.level, most.reason, most.emergency_id, percent)


def percent_of(causes: Iterable[HoldCause], service: str) -> int:
    """How much every one of ``causes`` admits of ``service``; 0 where one admits nothing, or there is none."""
    return min((_percent(cause, service) for cause in causes), default=0)


def _percent(cause: HoldCause, service: str) -> int:
    """What is no share, like 101, admits nothing."""
    percent = min((share.percent for share in cause.shares if share.service == service), default=0)
    return percent if 0 <= percent <= ALL_PERCENT else 0


class Budgets:
    """By account: what the attempts so far have left over, hundredths of an action. Deterministic."""

    def __init__(self) -> None:
        self._left: dict[str | None, int] = {}

    def admits(self, account_id: str | None, percent: int) -> bool:
        """Whether ``take`` would admit the next attempt; counts none."""
        return percent > 0 and self._left.get(account_id, 0) + percent >= ALL_PERCENT

    def take(self, account_id: str | None, percent: int) -> bool:
        """Count an attempt; whether it is admitted."""
        if percent <= 0:
            return False
        left = self._left.get(account_id, 0) + percent
        self._left[account_id] = left % ALL_PERCENT
        return left >= ALL_PERCENT

    def drop(self, account_id: str) -> None:
        """Begin anew with the next attempt."""
        self._left.pop(account_id, None)
