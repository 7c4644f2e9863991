"""Reference service: follows what happens to each account on the platform."""

from __future__ import annotations

from typing import ClassVar

from emergency_stop.integrations.reference import Operation, ReferenceService


class TwikitRealtimeSync(ReferenceService):
    """Keeps a stream open per account and moves a cursor through its events."""

    service: ClassVar[str] = "realtimeSync"
    operations: ClassVar[tuple[Operation, ...]] = (
        Operation("poll_stream", 4),
        Operation("acknowledge_events", 3),
    )

    def prepare(self) -> None:
        self.cursors: dict[str, int] = {}
        self.open_streams: set[str] = set()

    def applied(self, account_id: str, operation: Operation) -> None:
        self.open_streams.add(account_id)
        if operation.name == "acknowledge_events":
            self.cursors[account_id] = self.cursors.get(account_id, 0) + 1

    def release(self, account_id: str) -> None:
        """Close the stream; the cursor stays, so that nothing is read twice after a resume."""
        self.open_streams.discard(account_id)
