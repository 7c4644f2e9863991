"""Holds that were obeyed before anybody checked their signature: which of them is due to be checked, and when.

A stop is obeyed whatever its signature says, so checking it may wait; only what loosens must be checked first. In a
burst of stops the gate therefore shuts first, and signatures are checked in the pause after it. Pure.
"""

from __future__ import annotations

from typing import Final

from emergency_stop.domain.messages import Hold

#: No hold for so long is a pause.
PAUSE_MS: Final = 2_000
#: A burst that has no pause does not put a check off for longer than this.
WAIT_MS_MAX: Final = 10_000


class Unverified:
    """By scope, in the order of the log; scopes in the order in which their first hold came."""

    def __init__(self) -> None:
        self._by_scope: dict[str, list[Hold]] = {}
        self._since_ms: dict[str, int] = {}
        self._newest_ms = 0

    def __len__(self) -> int:
        """How many scopes wait."""
        return len(self._by_scope)

    def add(self, hold: Hold, now_ms: int) -> None:
        self._by_scope.setdefault(hold.scope, []).append(hold)
        self._since_ms.setdefault(hold.scope, now_ms)
        self._newest_ms = now_ms

    def take(self, scope: str) -> list[Hold]:
        """All holds of ``scope`` that wait; they wait no longer."""
        self._since_ms.pop(scope, None)
        return self._by_scope.pop(scope, [])

    def oldest(self) -> str:
        """The scope that has waited longest. Raises ``StopIteration`` where none waits."""
        return next(iter(self._since_ms))

    def due_in_ms(self, now_ms: int) -> int:
        """How long until the oldest scope is to be checked; 0: now. Some scope must wait."""
        due = min(self._newest_ms + PAUSE_MS, self._since_ms[self.oldest()] + WAIT_MS_MAX)
        return max(0, due - now_ms)
