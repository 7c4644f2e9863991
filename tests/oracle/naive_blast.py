"""The blast guard's count as its semantics say it: every hold kept, everything counted anew at every question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class NaiveHold:
    """A hold of an account: when, and its causes as (emergency, trigger or ``None`` for a person)."""

    account: str
    at: int
    causes: tuple[tuple[str, str | None], ...]


def stopped_accounts(holds: Sequence[NaiveHold], from_ms: int) -> set[str]:
    """Accounts that a trigger began to hold later than ``from_ms``."""
    found = set()
    for number, hold in enumerate(holds):
        earlier = [one for one in holds[:number] if one.account == hold.account]
        held_before = {emergency for emergency, _ in earlier[-1].causes} if earlier else set()
        for emergency, trigger in hold.causes:
            automatic = trigger is not None and trigger != "@common-cause"
            if automatic and emergency not in held_before and hold.at > from_ms:
                found.add(hold.account)
    return found


def is_common_cause(accounts: int, live: int, percent: int, least: int) -> bool:
    """More than ``percent`` of ``live``; where that is not known (0), ``least`` alone decides."""
    if percent == 0 or accounts < least:
        return False
    return live == 0 or accounts / live > percent / 100
