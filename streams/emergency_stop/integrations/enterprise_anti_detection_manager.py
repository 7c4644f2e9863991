"""Reference service: changes the face that each account shows to the platform."""

from __future__ import annotations

from typing import ClassVar

from emergency_stop.integrations.reference import Operation, ReferenceService


class EnterpriseAntiDetectionManager(ReferenceService):
    """Rotates each account's proxy and fingerprint."""

    service: ClassVar[str] = "antiDetectionManager"
    operations: ClassVar[tuple[Operation, ...]] = (
        Operation("rotate_proxy", 12),
        Operation("rotate_fingerprint", 6),
    )

    def prepare(self) -> None:
        self.proxies: dict[str, int] = {}
        self.rotations = 0

    def applied(self, account_id: str, operation: Operation) -> None:
        self.rotations += 1
        if operation.name == "rotate_proxy":
            self.proxies[account_id] = self.rotations

    def release(self, account_id: str) -> None:
        """A proxy of a stopped account goes back to the pool."""
        self.proxies.pop(account_id, None)
