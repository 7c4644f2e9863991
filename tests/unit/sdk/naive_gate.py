"""The gate's naive twin: it keeps everything that came, in order, and works every answer out from the beginning.

Written from the semantics, with nothing of the gate's: stops and shares as sets of rules, budgets by counting attempts.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor

from emergency_stop.domain.messages import Command, Hold, HoldCause
from emergency_stop.domain.values import Action, HoldState

#: The newest hold: epoch, severity, percent, and the strictest severity and percent that its epoch ever had.
Standing = tuple[int, int, int, int, int]
#: From mild to severe.
SEVERITY = ("maintenance", "graceful service_specific cascading", "immediate")


@dataclass
class NaiveGate:
    """``log``: holds and commands, and whether they were trusted; ``attempts``: by account, at which share each was."""

    service: str
    log: list[tuple[Hold | Command, bool]] = field(default_factory=list)
    attempts: dict[str | None, list[int]] = field(default_factory=dict)

    def take(self, message: Hold | Command, *, trusted: bool) -> None:
        self.log.append((message, trusted))

    def share(self, scope: str) -> int:
        """How many percent of its work the service is admitted in exactly this scope."""
        standing: Standing | None = None
        order = alarm = False
        order_epoch = 0
        for message, trusted in self.log:
            if message.scope != scope:
                continue
            if isinstance(message, Command) and message.action is Action.RESUME:
                stopped_at = max(standing[0] if standing and standing[1] else 0, order_epoch)
                if trusted and (not stopped_at or message.epoch > stopped_at):
                    order, order_epoch, alarm = False, 0, False
            elif isinstance(message, Command):
                order, order_epoch = order or trusted, max(order_epoch, message.epoch if trusted else 0)
                alarm = alarm or not trusted
            elif not trusted:
                alarm = alarm or self.read(message)[0] > 0
            else:
                fresh = self.fold(standing, message)
                if fresh is None:
                    continue
                standing, alarm = fresh, False
                if order_epoch < message.epoch:
                    order, order_epoch = False, 0
        return 0 if order or alarm else 100 if standing is None else standing[2]

    def fold(self, standing: Standing | None, hold: Hold) -> Standing | None:
        """What stands after a trusted hold; ``None``: it is no newer, and loosens, so it is refused."""
        severity, percent = self.read(hold)
        if standing is None or hold.epoch > standing[0]:
            return hold.epoch, severity, percent, severity, percent
        epoch, severity_before, percent_before, *of_epoch = standing
        if hold.epoch == epoch:
            if [severity, percent] == of_epoch:  # it comes again
                return epoch, severity, percent, severity, percent
            of_epoch = [max(severity, of_epoch[0]), min(percent, of_epoch[1])]
        tightens = severity > severity_before or percent < percent_before
        equal = (severity, percent) == (severity_before, percent_before)
        if severity_before and (severity == 0 or not (tightens or equal)):
            return None
        return epoch, max(severity, severity_before), min(percent, percent_before), of_epoch[0], of_epoch[1]

    def read(self, hold: Hold) -> tuple[int, int]:
        """(severity, 0 where it stops nothing of the service; percent that it admits)."""
        kind, _, name = hold.scope.partition(":")
        if hold.state is HoldState.RUNNING or (kind == "service" and name != self.service):
            return 0, 100
        covering = [cause for cause in hold.causes if kind == "service" or self.covers(cause)]
        if hold.causes and not covering:
            return 0, 100
        if not hold.causes:
            return rank(hold.level), 0
        return max(rank(cause.level) for cause in covering), min(self.admits(cause) for cause in covering)

    def covers(self, cause: HoldCause) -> bool:
        return not cause.services or "all" in cause.services or self.service in cause.services

    def admits(self, cause: HoldCause) -> int:
        named = [share.percent for share in cause.shares if share.service == self.service]
        return min(named) if named and 0 <= min(named) <= 100 else 0

    def attempt(self, account_id: str | None) -> bool:
        """Whether an action may begin now."""
        cohort = 99 if account_id is None else zlib.crc32(account_id.encode()) % 100
        if any(cohort >= self.share(scope) for scope in ("global", f"service:{self.service}")):
            return False
        percent = 100 if account_id is None else self.share(f"account:{account_id}")
        history = self.attempts.setdefault(account_id, [])
        if percent in (0, 100):
            history.clear()
            return percent == 100
        history.append(percent)
        return self.quota(history) > self.quota(history[:-1])

    @staticmethod
    def quota(history: list[int]) -> int:
        """How many of these attempts, each at its share, may have been admitted: all whole ones that are due."""
        return floor(sum((Fraction(percent, 100) for percent in history), Fraction()))

    def settle(self, account_id: str) -> None:
        """A scope that was shut or opened wholly since forgets its attempts."""
        if self.share(f"account:{account_id}") in (0, 100):
            self.attempts.pop(account_id, None)


def rank(level: str | None) -> int:
    return next(number for number, names in enumerate(SEVERITY, 1) if (level or "immediate") in names)
