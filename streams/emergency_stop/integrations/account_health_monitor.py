"""Reference service: measures how healthy each account is."""

from __future__ import annotations

from typing import ClassVar

from emergency_stop.integrations.reference import Operation, ReferenceService


class AccountHealthMonitor(ReferenceService):
    """Polls each account's figures and keeps when each was last measured."""

    service: ClassVar[str] = "accountHealthMonitor"
    operations: ClassVar[tuple[Operation, ...]] = (
        Operation("fetch_metrics", 8),
        Operation("probe_visibility", 5),
    )

    def prepare(self) -> None:
        self.measured_at: dict[str, int] = {}

    def applied(self, account_id: str, operation: Operation) -> None:
        del operation  # either one measures
        self.measured_at[account_id] = self.guard.now_ms()

    def release(self, account_id: str) -> None:
        """A measurement from before a stop says nothing about the account after it."""
        self.measured_at.pop(account_id, None)
